#include "healthcheck/unix_wait.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <vector>

#include "agent/base/unique_fd.h"
#include "tests/support/fake_clock.h"
#include "tests/unit/agent/temp_folder.h"

namespace modal::health {
namespace {

using namespace std::chrono_literals;

sockaddr_un NameOf(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  return name;
}

UniqueFd BindTo(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un name = NameOf(path);
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
  return fd;
}

struct Fixture {
  Fixture() : path(folder.path() + "/app.sock") {}

  std::unique_ptr<UnixWait> NewWait() {
    auto wait = std::make_unique<UnixWait>(
        clock, path, [this] { ++opened; },
        [this](const std::string& note) { notes.push_back(note); });
    wait->Start();
    return wait;
  }

  test::FakeClock clock;
  test::TempFolder folder;
  std::string path;
  int opened = 0;
  std::vector<std::string> notes;
};

TEST_CASE_FIXTURE(Fixture, "a socket that somebody listens on is open, once") {
  const UniqueFd server = BindTo(path);
  REQUIRE(::listen(server.get(), 4) == 0);
  const auto wait = NewWait();
  CHECK(opened == 1);
  wait->LookNow();
  clock.Advance(1h);
  CHECK(opened == 1);
  CHECK(notes.empty());
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture,
                  "a socket is waited for until somebody listens, and it is said what there is") {
  const auto wait = NewWait();
  clock.Advance(1s);
  CHECK(notes == std::vector<std::string>{"nothing listens on unix:" + path});
  const UniqueFd server = BindTo(path);  // it does not listen yet: connections are refused
  clock.Advance(1s);
  CHECK(opened == 0);
  CHECK(notes.size() == 1);
  REQUIRE(::listen(server.get(), 4) == 0);
  clock.Advance(20ms);
  CHECK(opened == 1);
}

TEST_CASE_FIXTURE(Fixture, "a quick start is seen within a millisecond, a slow one within twenty") {
  const auto wait = NewWait();
  const UniqueFd server = BindTo(path);
  SUBCASE("quick") {
    clock.Advance(30ms);
    REQUIRE(::listen(server.get(), 4) == 0);
    clock.Advance(1ms);
  }
  SUBCASE("slow") {
    clock.Advance(1h);
    REQUIRE(::listen(server.get(), 4) == 0);
    clock.Advance(20ms);
  }
  CHECK(opened == 1);
}

TEST_CASE_FIXTURE(Fixture, "a server whose queue is full listens all the same") {
  const UniqueFd server = BindTo(path);
  REQUIRE(::listen(server.get(), 0) == 0);
  std::vector<UniqueFd> clients;
  const sockaddr_un name = NameOf(path);
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    (void)::connect(clients.back().get(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
  }
  CHECK_FALSE(CheckUnixListens(path));
}

TEST_CASE_FIXTURE(Fixture, "the connection that was made to find out is closed at once") {
  const UniqueFd server = BindTo(path);
  REQUIRE(::listen(server.get(), 4) == 0);
  CHECK_FALSE(CheckUnixListens(path));
  const UniqueFd accepted(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(accepted);
  char byte = 0;
  CHECK(::recv(accepted.get(), &byte, 1, MSG_DONTWAIT) == 0);
}

TEST_CASE_FIXTURE(Fixture, "what is no socket, and a path that is none, are said") {
  folder.Write("app.sock", "text");
  CHECK(CheckUnixListens(path) == "nothing listens on unix:" + path);
  CHECK(CheckUnixListens(path + "/x") == "cannot connect to unix:" + path + "/x: Not a directory");
  const std::string long_path(200, 'x');
  CHECK(CheckUnixListens(long_path) == "unix:" + long_path + ": the path is too long");
}

}  // namespace
}  // namespace modal::health
