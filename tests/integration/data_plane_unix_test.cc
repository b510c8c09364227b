// A server behind a unix socket: everything passes as it does over TCP, and nothing hangs where
// such a socket behaves otherwise.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/agent_process.h"
#include "tests/support/data_plane.h"
#include "tests/support/origin_agent.h"
#include "tests/support/origin_client.h"

namespace modal::test {
namespace {

constexpr uint64_t kLarge = uint64_t{32} << 20;

TEST_CASE("bodies of every size and kind pass both ways, WebSockets too, and ends are seen") {
  AgentOptions options = DataPlaneOptions({"--upstream", "unix:/mnt/origin.socket"});
  options.environment.push_back("SOCKET=/mnt/origin.socket");
  AgentProcess agent(options);
  WaitUntilServed(agent);
  const pid_t gateway = RunningGateway(agent)->host_pid;
  struct Done {
    const char* what;
    Outcome outcome;
    Outcome expected;
    std::string told;
  };
  std::vector<Done> all;
  std::jthread([&] {
    EnterNetworkOf(agent.pid());
    OriginClient peer(kDataPort, Settings().deadline);
    const auto done = [&](const char* what, Outcome outcome, Outcome expected = Outcome::kRight) {
      all.push_back({what, outcome, expected, peer.what()});
    };
    done("small", peer.Small("text"));
    for (const bool chunked : {false, true}) {
      done("small download", peer.Download(1, 1'000, chunked));
      done("large download", peer.Download(2, kLarge, chunked));
      done("small upload", peer.Upload(3, 1'000, chunked));
      done("large upload", peer.Upload(4, kLarge, chunked));
      done("slowly taken upload", peer.Upload(5, uint64_t{1} << 20, chunked, 1));
    }
    done("events", peer.Events(6, 5));
    done("WebSocket", peer.WebSocket(7, 20, 60'000));
    done("cut early", peer.Aborted(8, 100'000, 1'000, false), Outcome::kCut);
    done("cut late", peer.Aborted(9, kLarge, kLarge - 1, true), Outcome::kCut);
    done("left download", peer.LeaveDownload(10, kLarge, 1'000'000));
    done("left upload", peer.LeaveUpload(11, kLarge, 1'000'000));
    done("small again", peer.Small("text"));
  }).join();
  for (const Done& one : all) {
    INFO(one.what, ": ", one.told);
    CHECK(Name(one.outcome) == std::string_view(Name(one.expected)));
  }
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  CHECK(RunningGateway(agent)->host_pid == gateway);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

// A server that the test plays itself, with a gateway in front of it.
class UnixPlane {
 public:
  explicit UnixPlane(const DataPlane::Change& change = [](policy::GatewayConfig&) {})
      : folder_(MakeFolder()),
        listener_(Listen(folder_ + "/socket")),
        plane([&](policy::GatewayConfig& config) {
          SetBoardText(config.upstream_path, folder_ + "/socket");
          change(config);
        }) {}
  ~UnixPlane() {
    ::unlink((folder_ + "/socket").c_str());
    ::rmdir(folder_.c_str());
  }
  Wire Accept() const {
    REQUIRE(WaitReadable(listener_.get()));
    return Wire(UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
  }

 private:
  static std::string MakeFolder() {
    std::string folder = "/tmp/unix-plane-XXXXXX";
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    REQUIRE(::chmod(folder.c_str(), 0755) == 0);
    return folder;
  }
  static UniqueFd Listen(const std::string& path) {
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof name.sun_path);
    std::memcpy(name.sun_path, path.data(), path.size());
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
    REQUIRE(::chmod(path.c_str(), 0777) == 0);
    REQUIRE(::listen(listener.get(), 128) == 0);
    return listener;
  }

  const std::string folder_;
  UniqueFd listener_;

 public:
  DataPlane plane;
};

TEST_CASE("a connection through a unix socket is used again, and its end seen") {
  UnixPlane server_side;
  Wire client = server_side.plane.Ask(Get("/1"));
  Wire server = server_side.Accept();
  const Message request = server.ReadMessage();
  CHECK(request["X-Forwarded-For"] == "127.0.0.1");
  server.Send(Answer(200, "1"));
  CHECK(client.ReadMessage().body == "1");
  client.Send(Post("/2", "body"));
  CHECK(server.ReadMessage().body == "body");
  server.Send(Answer(200, "2"));
  CHECK(client.ReadMessage().body == "2");
  server.Close();
  server_side.plane.Await([](const auto& traffic) { return traffic.upstream_connections == 0; });
}

TEST_CASE("a client that takes nothing, and a server that breaks meanwhile: both are given up") {
  UnixPlane server_side([](policy::GatewayConfig& config) {
    config.idle_timeout_ms = 200;
    SetBoardText(config.upgrades, "tcp");
  });
  DataPlane& plane = server_side.plane;
  Wire client = plane.Ask(Get("/", "Connection: Upgrade\r\nUpgrade: tcp\r\n"));
  Wire server = server_side.Accept();
  CHECK(server.ReadMessage().whole);
  std::string head;
  SUBCASE("a body of known length") { head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n"; }
  SUBCASE("a body that ends with the connection") { head = "HTTP/1.1 200 OK\r\n"; }
  SUBCASE("another protocol") {
    head = "HTTP/1.1 101 Up\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";
  }
  server.Send(head + "\r\n");
  CHECK(plane.SendUntilFull(server, size_t{1} << 29) < size_t{1} << 29);
  server.Close();
  plane.Await([](const auto& traffic) {
    return traffic.in_flight == 0 && traffic.upstream_connections == 0;
  });
  client.ReadToEnd();
  CHECK(client.end() == Wire::End::kReset);
}

TEST_CASE("a server that takes nothing and breaks is told to the client that uploads") {
  UnixPlane server_side;
  Wire client =
      server_side.plane.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
  Wire server = server_side.Accept();
  CHECK(server_side.plane.SendUntilFull(client, size_t{1} << 29) < size_t{1} << 29);
  server.Close();
  CHECK(client.ReadMessage().status() == 502);
  server_side.plane.Await([](const auto& traffic) { return traffic.in_flight == 0; });
}

}  // namespace
}  // namespace modal::test
