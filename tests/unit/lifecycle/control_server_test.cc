#include "lifecycle/control_server.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <list>
#include <string>
#include <vector>

#include "tests/support/descriptor_limit.h"
#include "tests/support/fake_clock.h"
#include "tests/support/run_loop.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::lifecycle {
namespace {

using process::testing::InAnotherProcess;
using process::testing::TempFolder;
using Words = std::vector<std::string>;

UniqueFd NewSocket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  return address;
}

UniqueFd Connect(const std::string& path) {
  UniqueFd socket = NewSocket();
  const sockaddr_un address = AddressOf(path);
  REQUIRE(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
          0);
  return socket;
}

// A socket's file whose socket is gone.
void LeaveStale(const std::string& path) {
  const UniqueFd socket = NewSocket();
  const sockaddr_un address = AddressOf(path);
  REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
}

mode_t ModeOf(const std::string& path) {
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

struct Fixture {
  Result<std::unique_ptr<ControlServer>> Listen(const Words& paths) {
    return ControlServer::Listen(loop, clock, paths, [this](const std::string& command) {
      commands.push_back(command);
      return reply;
    });
  }
  std::unique_ptr<ControlServer> MustListen(const std::string& path) {
    Result<std::unique_ptr<ControlServer>> server = Listen({path});
    if (!server) FAIL(server.error().message());
    return *std::move(server);
  }
  // What the server sends until it closes; "(nothing)" if it never does.
  std::string ReadReply(int client) {
    std::string text;
    const bool closed = test::RunUntil(loop, [&] {
      char buffer[4096];
      for (;;) {
        const ssize_t size = ::recv(client, buffer, sizeof buffer, MSG_DONTWAIT);
        if (size == 0 || (size < 0 && errno == ECONNRESET)) return true;
        if (size < 0) return false;
        text.append(buffer, static_cast<size_t>(size));
      }
    });
    return closed ? text : "(nothing)";
  }
  std::string Ask(const std::string& at, const std::string& line) {
    const UniqueFd client = Connect(at);
    REQUIRE(::send(client.get(), line.data(), line.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(line.size()));
    return ReadReply(client.get());
  }
  void Turn(int times = 5) {
    for (int i = 0; i < times; ++i) loop.RunOnce();
  }

  TempFolder folder;
  std::string path = folder.path() + "/control.sock";
  event::Loop loop;
  test::FakeClock clock;
  std::string reply = R"({"ok":true})";
  Words commands;
};

TEST_CASE_FIXTURE(Fixture, "a line is answered with a line, and the connection closed") {
  const auto server = MustListen(path);
  CHECK(server->path() == path);
  CHECK(Ask(path, "status\n") == "{\"ok\":true}\n");
  CHECK(Ask(path, "drain\nand more\n") == "{\"ok\":true}\n");
  CHECK(commands == Words{"status", "drain"});
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a line may come in pieces, and several clients at once") {
  const auto server = MustListen(path);
  const UniqueFd slow = Connect(path);
  REQUIRE(::send(slow.get(), "sta", 3, MSG_NOSIGNAL) == 3);
  Turn();
  CHECK(Ask(path, "health\n") == "{\"ok\":true}\n");
  REQUIRE(::send(slow.get(), "tus\n", 4, MSG_NOSIGNAL) == 4);
  CHECK(ReadReply(slow.get()) == "{\"ok\":true}\n");
  CHECK(commands == Words{"health", "status"});
}

TEST_CASE_FIXTURE(Fixture,
                  "the socket is its owner's alone, and so is the folder that is made for it") {
  const std::string deep = folder.path() + "/modal-agent/control.sock";
  const auto server = MustListen(deep);
  CHECK(ModeOf(deep) == 0600);
  CHECK(ModeOf(folder.path() + "/modal-agent") == 0700);
}

TEST_CASE_FIXTURE(Fixture, "the socket's file goes with the server") {
  auto server = MustListen(path);
  server.reset();
  CHECK(::access(path.c_str(), F_OK) == -1);
}

TEST_CASE_FIXTURE(Fixture, "the file that an agent left is replaced") {
  LeaveStale(path);
  const auto server = MustListen(path);
  CHECK(Ask(path, "status\n") == "{\"ok\":true}\n");
}

TEST_CASE_FIXTURE(
    Fixture, "an agent that lives is not displaced, even if it does not answer at the moment") {
  const UniqueFd other = NewSocket();
  const sockaddr_un address = AddressOf(path);
  REQUIRE(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(other.get(), 0) == 0);
  struct stat before {};
  REQUIRE(::stat(path.c_str(), &before) == 0);
  std::list<UniqueFd> waiting;
  SUBCASE("it has time") {}
  SUBCASE("its queue is full") {
    for (int error = 0; error == 0;) {
      UniqueFd client = NewSocket();
      error = ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
      waiting.push_back(std::move(client));
    }
  }
  const auto server = Listen({path});
  REQUIRE_FALSE(server);
  CHECK(server.error().message() == "control socket " + path + ": another agent answers there");
  struct stat after {};
  REQUIRE(::stat(path.c_str(), &after) == 0);
  CHECK(after.st_ino == before.st_ino);
}

TEST_CASE_FIXTURE(Fixture, "a file that is no socket is left alone") {
  folder.File("control.sock", "dear to somebody");
  const auto server = Listen({path});
  REQUIRE_FALSE(server);
  CHECK(process::testing::ReadWhole(path) == "dear to somebody");
}

TEST_CASE_FIXTURE(Fixture, "the first place that works is taken") {
  const std::string better = folder.path() + "/no/such/control.sock";
  const auto server = Listen({better, path, folder.path() + "/other.sock"});
  REQUIRE(server);
  CHECK((*server)->path() == path);
  CHECK(::access((folder.path() + "/other.sock").c_str(), F_OK) == -1);
}

TEST_CASE_FIXTURE(Fixture, "if no place works the error names all of them") {
  const std::string file = folder.File("file", "");
  const auto server = Listen({folder.path() + "/no/such/control.sock", file + "/control.sock"});
  REQUIRE_FALSE(server);
  CHECK(server.error().message() ==
        "control socket " + folder.path() + "/no/such/control.sock: No such file or directory; " +
            "control socket " + file + "/control.sock: " + file + " is no folder");
}

TEST_CASE_FIXTURE(Fixture, "a path that is too long for a socket is refused with the limit") {
  const std::string long_path = folder.path() + "/" + std::string(108, 'x');
  const auto server = Listen({long_path});
  REQUIRE_FALSE(server);
  CHECK(server.error().message() ==
        "control socket " + long_path + ": longer than 107 bytes; choose a shorter path");
  const std::string longest = folder.path() + "/" + std::string(106 - folder.path().size(), 'x');
  REQUIRE(longest.size() == 107);
  CHECK(MustListen(longest)->path() == longest);
}

TEST_CASE_FIXTURE(Fixture, "a folder that is reached through a link of ours will do") {
  const std::string link = folder.path() + "/link";
  REQUIRE(::symlink(folder.path().c_str(), link.c_str()) == 0);
  const auto server = MustListen(link + "/control.sock");
  CHECK(Ask(path, "status\n") == "{\"ok\":true}\n");
}

TEST_CASE("a folder, or a link to one, that belongs to somebody else is refused") {
  if (!process::testing::IsRoot()) return;  // nobody else's folders can be made
  const TempFolder folder;
  REQUIRE(::mkdir((folder.path() + "/theirs").c_str(), 0777) == 0);
  REQUIRE(::chown((folder.path() + "/theirs").c_str(), 12345, 12345) == 0);
  REQUIRE(::symlink("/tmp", (folder.path() + "/trap").c_str()) == 0);
  REQUIRE(::lchown((folder.path() + "/trap").c_str(), 12345, 12345) == 0);
  for (const char* name : {"/theirs", "/trap"}) {
    event::Loop loop;
    test::FakeClock clock;
    const auto server = ControlServer::Listen(loop, clock, {folder.path() + name + "/control.sock"},
                                              [](const std::string&) { return std::string(); });
    REQUIRE_FALSE(server);
    CHECK(server.error().message() == "control socket " + folder.path() + name + "/control.sock: " +
                                          folder.path() + name + " belongs to somebody else");
  }
}

TEST_CASE("a bare name stands in the current folder") {
  const TempFolder folder;
  CHECK(InAnotherProcess([&]() -> std::string {
          if (::chdir(folder.path().c_str()) != 0) return "chdir";
          event::Loop loop;
          test::FakeClock clock;
          const auto server = ControlServer::Listen(
              loop, clock, {"control.sock"}, [](const std::string&) { return std::string(); });
          if (!server) return server.error().message();
          struct stat info {};
          if (::stat((folder.path() + "/control.sock").c_str(), &info) != 0) return "stat";
          return S_ISSOCK(info.st_mode) ? "a socket" : "something else";
        }) == "a socket");
}

TEST_CASE_FIXTURE(Fixture,
                  "a line that is too long is answered after the longest that could be right") {
  const auto server = MustListen(path);
  CHECK(Ask(path, std::string(100'000, 'x')).ends_with("}\n"));
  REQUIRE(commands.size() == 1);
  CHECK(commands[0].size() >= ControlServer::kLongestLine);
  CHECK(commands[0].size() <= 2 * ControlServer::kLongestLine);
}

TEST_CASE_FIXTURE(Fixture, "a client that says nothing is let go after its time") {
  const auto server = MustListen(path);
  const UniqueFd silent = Connect(path);
  const UniqueFd half = Connect(path);
  REQUIRE(::send(half.get(), "stat", 4, MSG_NOSIGNAL) == 4);
  Turn();
  CHECK(clock.pending() == 2);
  clock.Advance(ControlServer::kTimeout);
  CHECK(clock.pending() == 0);
  CHECK(ReadReply(silent.get()) == "");
  CHECK(ReadReply(half.get()) == "");
  CHECK(commands.empty());
}

TEST_CASE_FIXTURE(Fixture, "a client that leaves without a word leaves nothing behind") {
  const auto server = MustListen(path);
  { const UniqueFd client = Connect(path); }
  REQUIRE(test::RunUntil(loop, [&] {
    Turn();
    return clock.pending() == 0;
  }));
  CHECK(commands.empty());
  CHECK(Ask(path, "status\n") == "{\"ok\":true}\n");
}

TEST_CASE_FIXTURE(Fixture, "a client that asks and does not wait for the answer harms nobody") {
  const auto server = MustListen(path);
  reply.assign(1 << 20, 'x');
  {
    const UniqueFd client = Connect(path);
    REQUIRE(::send(client.get(), "status\n", 7, MSG_NOSIGNAL) == 7);
    Turn();
  }
  REQUIRE(test::RunUntil(loop, [&] { return clock.pending() == 0; }));
  CHECK(commands == Words{"status"});
}

TEST_CASE_FIXTURE(Fixture,
                  "a reply that does not fit at once is sent as the client reads, or not at all") {
  const auto server = MustListen(path);
  reply.assign(1 << 20, 'x');
  const UniqueFd client = Connect(path);
  REQUIRE(::send(client.get(), "status\n", 7, MSG_NOSIGNAL) == 7);
  Turn();
  CHECK(clock.pending() == 1);
  SUBCASE("it reads") { CHECK(ReadReply(client.get()).size() == (1 << 20) + 1); }
  SUBCASE("it does not") {
    clock.Advance(ControlServer::kTimeout);
    CHECK(clock.pending() == 0);
    CHECK(ReadReply(client.get()).size() < (1 << 20));
  }
  CHECK(commands == Words{"status"});
}

TEST_CASE_FIXTURE(Fixture, "so many clients and no more are held at a time; the others wait") {
  const auto server = MustListen(path);
  std::list<UniqueFd> clients;
  for (size_t i = 0; i < ControlServer::kMaxClients; ++i) clients.push_back(Connect(path));
  Turn(50);
  CHECK(clock.pending() == ControlServer::kMaxClients);
  const UniqueFd late = Connect(path);
  REQUIRE(::send(late.get(), "late\n", 5, MSG_NOSIGNAL) == 5);
  Turn(50);
  CHECK(commands.empty());
  clients.pop_front();
  CHECK(ReadReply(late.get()) == "{\"ok\":true}\n");
}

TEST_CASE_FIXTURE(Fixture, "without a free descriptor a client waits, and the loop does not spin") {
  const auto server = MustListen(path);
  const UniqueFd client = Connect(path);
  REQUIRE(::send(client.get(), "status\n", 7, MSG_NOSIGNAL) == 7);
  {
    const test::DescriptorLimit none;
    Turn();
  }
  // Nobody looks again before its time, although the client is there and descriptors are too.
  Turn();
  CHECK(commands.empty());
  CHECK(clock.pending() == 1);
  clock.Advance(Milliseconds(100));
  CHECK(ReadReply(client.get()) == "{\"ok\":true}\n");
}

TEST_CASE_FIXTURE(Fixture, "a server that is destroyed lets its clients go") {
  auto server = MustListen(path);
  const UniqueFd client = Connect(path);
  Turn();
  server.reset();
  Turn();
  CHECK(ReadReply(client.get()) == "");
  CHECK(clock.pending() == 0);
}

}  // namespace
}  // namespace modal::lifecycle
