#include "lifecycle/gateway_process.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <map>
#include <set>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_launcher.h"
#include "tests/support/fake_log.h"
#include "tests/support/fake_process_tree.h"
#include "tests/support/run_loop.h"
#include "tests/unit/agent/temp_folder.h"

namespace modal::lifecycle {
namespace {

using namespace std::chrono_literals;
using health::Carriage;
using health::GatewayReply;
using health::GatewayRequest;

ino_t InodeOf(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

// What the supervisor has sent: a message and the descriptors that came with it.
struct Received {
  GatewayRequest request{};
  std::vector<UniqueFd> descriptors;
};

struct Fixture {
  Fixture() {
    launcher.on_started = [this](const test::FakeLauncher::Started& one) {
      inherited.clear();
      for (const process::FdMapping& fd : one.spec.fds) {
        inherited[fd.theirs].Reset(::fcntl(fd.ours, F_DUPFD_CLOEXEC, 0));
      }
    };
  }

  UniqueFd Socket() { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

  void Make(bool with_data = true) {
    GatewayProcess::Listeners listeners;
    listeners.admin.push_back(Socket());
    inodes.push_back(InodeOf(listeners.admin.back().get()));
    for (int i = 0; with_data && i < 2; ++i) {
      listeners.data.push_back(Socket());
      inodes.push_back(InodeOf(listeners.data.back().get()));
    }
    Result<BoardMapping> made =
        BoardMapping::CreateToWrite("agent-status", sizeof(BoardLayout<health::AgentStatus>));
    REQUIRE(made.ok());
    board = std::make_unique<BoardMapping>(*std::move(made));
    gateway = std::make_unique<GatewayProcess>(loop, clock, launcher, tree, log.log,
                                               std::move(listeners), *board, "/proc/self/exe");
    data_plane.config.rate_limit = 1;
    REQUIRE(gateway->Reconfigure(data_plane).ok());
  }
  void Start() {
    Make();
    gateway->Start();
    REQUIRE(launcher.started.size() == 1);
  }

  int channel() { return inherited.at(health::kGatewayChannelFd).get(); }

  // The next message, which is there already.
  std::optional<Received> Receive() {
    Received received;
    iovec bytes{&received.request, sizeof received.request};
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))]{};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (::recvmsg(channel(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) !=
        static_cast<ssize_t>(sizeof received.request)) {
      return std::nullopt;
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      std::array<int, 4> numbers{};
      std::memcpy(numbers.data(), CMSG_DATA(header), count * sizeof(int));
      for (size_t i = 0; i < count; ++i) received.descriptors.emplace_back(numbers[i]);
    }
    return received;
  }
  void Reply(GatewayReply::Kind kind, uint32_t id) {
    GatewayReply reply{};
    reply.kind = kind;
    reply.id = id;
    REQUIRE(::send(channel(), &reply, sizeof reply, 0) == static_cast<ssize_t>(sizeof reply));
  }
  policy::GatewayConfig ConfigIn(int fd) {
    policy::GatewayConfig config{};
    CHECK(::pread(fd, &config, sizeof config, 0) == static_cast<ssize_t>(sizeof config));
    return config;
  }
  void Die() {
    inherited.clear();
    launcher.ExitLast(ExitStatus::Signal(SIGSEGV));
  }

  event::Loop loop;
  test::FakeClock clock;
  test::FakeLog log;
  test::FakeLauncher launcher;
  test::FakeProcessTree tree;
  std::unique_ptr<BoardMapping> board;
  std::vector<ino_t> inodes;
  DataPlane data_plane;
  std::map<int, UniqueFd> inherited;
  std::unique_ptr<GatewayProcess> gateway;
  int drained = 0;
};

TEST_CASE_FIXTURE(Fixture, "a gateway starts with its descriptors where it looks for them") {
  Start();
  const process::LaunchSpec& spec = launcher.started.back().spec;
  CHECK(spec.argv == std::vector<std::string>{"modal-agent-gateway", "1", "2"});
  CHECK(spec.no_new_privileges);
  CHECK(spec.capabilities == 0);
  CHECK(ConfigIn(inherited.at(health::kGatewayConfigFd).get()).rate_limit == 1);
  CHECK(inherited.count(health::kGatewayAccessLogFd) == 1);
  for (size_t i = 0; i < inodes.size(); ++i) {
    const int theirs = health::kGatewayFirstListenerFd + static_cast<int>(i);
    CHECK(InodeOf(inherited.at(theirs).get()) == inodes[i]);
  }
}

TEST_CASE_FIXTURE(
    Fixture, "a gateway is told how to meet requests right after its start, and then each time") {
  Make();
  gateway->SetCarriage(Carriage::kServing, nullptr);
  gateway->Start();
  const std::optional<Received> first = Receive();
  REQUIRE(first);
  CHECK(first->request.kind == GatewayRequest::Kind::kCarriage);
  CHECK(first->request.carriage == Carriage::kServing);

  gateway->SetCarriage(Carriage::kDraining, [this] { ++drained; });
  const std::optional<Received> second = Receive();
  REQUIRE(second);
  CHECK(second->request.carriage == Carriage::kDraining);
  CHECK(second->request.id != first->request.id);
  CHECK_FALSE(Receive());
}

TEST_CASE_FIXTURE(Fixture, "a gateway without a data plane is told nothing about requests") {
  Make(false);
  gateway->Start();
  CHECK(launcher.started.back().spec.argv.back() == "0");
  gateway->SetCarriage(Carriage::kServing, nullptr);
  CHECK(gateway->Reconfigure(data_plane).ok());
  CHECK_FALSE(Receive());
}

TEST_CASE_FIXTURE(Fixture,
                  "drained is what the gateway says of the last word that it was told, once") {
  Start();
  gateway->SetCarriage(Carriage::kDraining, [this] { ++drained; });
  gateway->SetCarriage(Carriage::kCutting, [this] { drained += 10; });
  REQUIRE(Receive());
  const std::optional<Received> draining = Receive();
  const std::optional<Received> cutting = Receive();
  REQUIRE(cutting);
  Reply(GatewayReply::Kind::kDrained, draining->request.id);
  Reply(GatewayReply::Kind::kDrained, cutting->request.id);
  Reply(GatewayReply::Kind::kDrained, cutting->request.id);
  CHECK(test::RunUntil(loop, [this] { return drained != 0; }));
  loop.RunOnce();
  CHECK(drained == 10);
}

TEST_CASE_FIXTURE(Fixture,
                  "a gateway that carries requests may open as many files as anybody may here") {
  Start();
  rlimit files{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  const process::LaunchSpec& spec = launcher.started.back().spec;
  REQUIRE(spec.limits.size() == 1);
  CHECK(spec.limits[0].resource == RLIMIT_NOFILE);
  CHECK(spec.limits[0].limit.rlim_cur == files.rlim_max);
  CHECK(spec.limits[0].limit.rlim_max == files.rlim_max);
}

TEST_CASE_FIXTURE(Fixture, "a reply of an unknown kind is dropped") {
  Start();
  Reply(static_cast<GatewayReply::Kind>(99), 1);
  CHECK(test::RunUntil(loop, [this] { return log.Has("gateway.garbage"); }));
}

TEST_CASE_FIXTURE(Fixture, "nothing is in flight in a gateway that has ended, or that never was") {
  SUBCASE("it ends while it drains") {
    Start();
    gateway->SetCarriage(Carriage::kDraining, [this] { ++drained; });
    Die();
    CHECK(drained == 0);  // whoever reaps it is not to be disturbed
  }
  SUBCASE("it has ended before") {
    Start();
    Die();
    gateway->SetCarriage(Carriage::kDraining, [this] { ++drained; });
  }
  SUBCASE("it has not started yet") {
    Make();
    gateway->SetCarriage(Carriage::kDraining, [this] { ++drained; });
  }
  clock.Turn();
  CHECK(drained == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "a successor has the last settings and is told the same as its predecessor") {
  Start();
  gateway->SetCarriage(Carriage::kDraining, [this] { ++drained; });
  data_plane.config.rate_limit = 2;
  REQUIRE(gateway->Reconfigure(data_plane).ok());
  Die();
  clock.Advance(100ms);
  REQUIRE(launcher.started.size() == 2);
  CHECK(gateway->restarts() == 1);
  CHECK(ConfigIn(inherited.at(health::kGatewayConfigFd).get()).rate_limit == 2);
  const std::optional<Received> told = Receive();
  REQUIRE(told);
  CHECK(told->request.carriage == Carriage::kDraining);
  Reply(GatewayReply::Kind::kDrained, told->request.id);
  loop.RunOnce();
  CHECK(drained == 1);  // by the end of its predecessor
}

TEST_CASE_FIXTURE(Fixture, "new settings are handed over with the access log, opened again") {
  test::TempFolder folder;
  data_plane.access_log = folder.path() + "/log";
  Start();
  REQUIRE(Receive());
  const ino_t old_log = InodeOf(inherited.at(health::kGatewayAccessLogFd).get());
  REQUIRE(::rename(data_plane.access_log.c_str(), (data_plane.access_log + ".1").c_str()) == 0);
  data_plane.config.rate_limit = 3;
  data_plane.tokens.resize(5);
  REQUIRE(gateway->Reconfigure(data_plane).ok());

  const std::optional<Received> told = Receive();
  REQUIRE(told);
  CHECK(told->request.kind == GatewayRequest::Kind::kConfig);
  REQUIRE(told->descriptors.size() == 2);
  CHECK(ConfigIn(told->descriptors[0].get()).rate_limit == 3);
  CHECK(ConfigIn(told->descriptors[0].get()).token_count == 5);
  CHECK(InodeOf(told->descriptors[1].get()) != old_log);
  struct stat info {};
  REQUIRE(::stat(data_plane.access_log.c_str(), &info) == 0);
  CHECK(InodeOf(told->descriptors[1].get()) == info.st_ino);
}

TEST_CASE_FIXTURE(Fixture, "settings with an access log that cannot be opened change nothing") {
  Start();
  REQUIRE(Receive());
  data_plane.config.rate_limit = 4;
  data_plane.access_log = "/";
  CHECK(gateway->Reconfigure(data_plane).error().message() == "--access-log /: Is a directory");
  CHECK_FALSE(Receive());
  Die();
  clock.Advance(100ms);
  CHECK(ConfigIn(inherited.at(health::kGatewayConfigFd).get()).rate_limit == 1);
}

TEST_CASE_FIXTURE(Fixture, "nobody is called back by a gateway that was stopped") {
  Start();
  gateway->SetCarriage(Carriage::kDraining, [this] { ++drained; });
  gateway->Stop();
  gateway->SetCarriage(Carriage::kCutting, [this] { ++drained; });
  launcher.ExitLast(ExitStatus::Signal(SIGKILL));
  clock.Advance(1h);
  CHECK(drained == 0);
}

}  // namespace
}  // namespace modal::lifecycle
