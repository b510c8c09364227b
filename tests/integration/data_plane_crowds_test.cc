// Too many of everything at the data plane's port: clients that say nothing or too little, servers
// that do not answer or die, no descriptors left.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/agent_process.h"
#include "tests/support/origin_agent.h"
#include "tests/support/origin_client.h"

namespace modal::test {
namespace {

// As many descriptors as this process may have, until the end of the test.
class AllDescriptors {
 public:
  AllDescriptors() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit most{before_.rlim_max, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &most);
  }
  ~AllDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  AllDescriptors(const AllDescriptors&) = delete;
  AllDescriptors& operator=(const AllDescriptors&) = delete;

  size_t most() const { return before_.rlim_max; }

 private:
  rlimit before_{};
};

void CheckServes(AgentProcess& agent, const std::string& text) {
  const HttpAnswer answer = agent.Get(kDataPort, "/small?" + text);
  CHECK(answer.status == 200);
  CHECK(answer.body == "small " + text + "\n");
}

void CheckEndsWell(AgentProcess& agent) {
  CHECK(agent.Count("gateway.exit") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("ten thousand idle and a thousand trickling clients, and the others are served") {
  constexpr size_t kIdle = 10'000, kTrickling = 1'000, kSpare = 500;
  const AllDescriptors descriptors;
  if (descriptors.most() < 1'000 + kSpare) {
    MESSAGE("skipped: no more than ", descriptors.most(), " descriptors here");
    return;
  }
  const size_t all = std::min(kIdle + kTrickling, descriptors.most() - kSpare);
  const size_t idle = all * kIdle / (kIdle + kTrickling);
  AgentProcess agent(DataPlaneOptions({"--header-timeout", "10m", "--idle-timeout", "10m"}));
  WaitUntilServed(agent);
  std::vector<Client> crowd;
  for (size_t i = 0; i < all; ++i) {
    crowd.push_back(agent.Connect(kDataPort));
    REQUIRE(static_cast<bool>(crowd.back()));
    if (i >= idle) crowd.back().Send("GET /small?trickle HTTP/1.1\r\nHost: t");
    if (i % 1'000 == 999) CheckServes(agent, std::to_string(i));
  }
  // Each of those who trickle says a little more, and somebody else is served in between. Those
  // that had to give way are gone: nothing is said to them.
  for (int round = 0; round < 5; ++round) {
    for (size_t i = idle; i < all; ++i) crowd[i].Send("t");
    CheckServes(agent, Concat("round-", round));
  }
  const size_t gateway = MemoryKiB(RunningGateway(agent)->host_pid, "VmRSS");
  MESSAGE(std::to_string(idle), " idle, ", all - idle, " trickling, ",
          Metric(agent, "modal_client_connections"), " open; gateway KiB ", gateway);
  if (!Settings().sanitized) CHECK(gateway <= 64 * 1024);
  // Whoever is still there can still ask.
  size_t answered = 0;
  for (size_t i = idle; i < all; ++i) {
    if (!crowd[i].Send("\r\n\r\n")) continue;
    answered += crowd[i].ReadAnswer().status == 200 ? 1 : 0;
  }
  CHECK(answered > 0);
  crowd.clear();
  agent.WaitUntil("the gateway to be rid of them",
                  [&] { return Metric(agent, "modal_client_connections") <= 1; });
  CheckServes(agent, "after");
  CheckEndsWell(agent);
}

TEST_CASE("a server that takes requests and says nothing: 504, and others are served") {
  AgentProcess agent(DataPlaneOptions({"--first-byte-timeout", "500ms"}));
  WaitUntilServed(agent);
  std::vector<Client> waiting;
  for (int i = 0; i < 50; ++i) {
    waiting.push_back(agent.Connect(kDataPort));
    REQUIRE(waiting.back().Request("/silent"));
  }
  CheckServes(agent, "meanwhile");
  for (Client& client : waiting) {
    const HttpAnswer answer = client.ReadAnswer();
    CHECK(answer.status == 504);
    CHECK(Contains(answer.body, "first_byte_timeout"));
  }
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  CheckServes(agent, "after");
  CheckEndsWell(agent);
}

// It listens, and accepts nobody: the kernel completes the connections.
TEST_CASE("a server that listens and accepts nobody: 504, and the gateway stays well") {
  AgentOptions options = With({"--listen", std::to_string(kDataPort), "--first-byte-timeout",
                               "500ms", "--connect-timeout", "500ms", "--", kListener, "--hang"});
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("gateway.start");
  std::vector<Client> waiting;
  for (int i = 0; i < 50; ++i) {
    waiting.push_back(agent.Connect(kDataPort));
    REQUIRE(waiting.back().Request("/"));
  }
  for (Client& client : waiting) CHECK(client.ReadAnswer().status == 504);
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  CHECK(agent.Get(kAdminPort, "/livez").status == 200);
  CheckEndsWell(agent);
}

// An answer's head, and all there is of its body until the connection ends.
struct Seen {
  std::string bytes;
  bool ended = false;
};

Seen ReadToEnd(Client& client) {
  Seen seen;
  char buffer[65536];
  const timeval patience{.tv_sec = Settings().deadline.count(), .tv_usec = 0};
  ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  while (true) {
    const ssize_t got = ::recv(client.fd(), buffer, sizeof buffer, 0);
    seen.ended = got == 0 || (got < 0 && errno == ECONNRESET);
    if (got <= 0) return seen;
    seen.bytes.append(buffer, static_cast<size_t>(got));
  }
}

TEST_CASE("a server killed in the middle of a hundred requests: each is refused, or visibly cut") {
  constexpr size_t kRequests = 100;
  constexpr size_t kBody = size_t{64} << 20;
  AgentProcess agent(DataPlaneOptions({"--restart", "on-failure"}));
  WaitUntilServed(agent);
  std::vector<Client> clients;
  for (size_t i = 0; i < kRequests; ++i) {
    clients.push_back(agent.Connect(kDataPort));
    Client& client = clients.back();
    REQUIRE(client.Send(
        Concat(i % 4 == 3 ? "POST" : "GET",
               i % 4 == 0   ? Concat(" /down?size=", kBody, "&seed=1")
               : i % 4 == 1 ? Concat(" /down?size=", kBody, "&seed=1&chunked=1")
               : i % 4 == 2 ? std::string(" /silent")
                            : std::string(" /up?seed=1"),
               " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n",
               i % 4 == 3 ? Concat("Content-Length: ", kBody, "\r\n\r\npart of it") : "\r\n")));
  }
  WaitForMetric(agent, "modal_requests_in_flight", kRequests);
  agent.SignalInside(agent.Processes(kOrigin).at(0), SIGKILL);
  size_t refused = 0, cut = 0;
  for (size_t i = 0; i < kRequests; ++i) {
    INFO("request ", i);
    const Seen seen = ReadToEnd(clients[i]);
    CHECK(seen.ended);
    if (i % 4 >= 2) {
      CHECK(seen.bytes.starts_with("HTTP/1.1 502 "));
      ++refused;
    } else if (seen.bytes.starts_with("HTTP/1.1 200 ")) {
      CHECK(seen.bytes.size() < kBody);
      CHECK_FALSE(seen.bytes.ends_with("0\r\n\r\n"));
      ++cut;
    } else {
      CHECK(seen.bytes.starts_with("HTTP/1.1 502 "));
      ++refused;
    }
  }
  MESSAGE(std::to_string(refused), " refused, ", cut, " cut");
  CHECK(cut > 0);
  clients.clear();
  agent.WaitFor("lifecycle.ready", {}, 2);
  agent.WaitUntil("an answer", [&] { return agent.Get(kDataPort, "/small?x").status == 200; });
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  CheckEndsWell(agent);
}

TEST_CASE("out of descriptors it answers 503 to those who are too many, and recovers") {
  AgentOptions options = DataPlaneOptions({});
  options.limits = {{RLIMIT_NOFILE, 128}};
  AgentProcess agent(std::move(options));
  WaitUntilServed(agent);
  // Requests that stay: none of them can give way to another.
  std::vector<Client> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(agent.Connect(kDataPort));
    REQUIRE(clients.back().Request("/silent"));
  }
  const HttpAnswer too_many = agent.Get(kDataPort, "/small?x");
  CHECK(too_many.status == 503);
  CHECK(Contains(too_many.body, "too_many_connections"));
  // A request that came is answered, whoever else is there.
  double held = 0;
  size_t refused = 0;
  agent.WaitUntil("everybody else to be refused", [&] {
    refused = 0;
    held = Metric(agent, "modal_requests_in_flight");
    for (Client& client : clients) {
      char start[16] = "";
      const ssize_t got = ::recv(client.fd(), start, sizeof start - 1, MSG_DONTWAIT | MSG_PEEK);
      refused += got > 0 && std::string(start).starts_with("HTTP/1.1 50") ? 1 : 0;
    }
    return refused + static_cast<size_t>(held) == clients.size();
  });
  CHECK(held > 0);
  MESSAGE(std::to_string(refused), " of 300 refused, ", held, " in flight");
  CHECK(agent.Get(kAdminPort, "/livez").status == 200);
  // With a reset: after an end alone they might still be waiting for their answers.
  for (Client& client : clients) {
    const linger now{1, 0};
    ::setsockopt(client.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  clients.clear();
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  agent.WaitUntil("an answer", [&] { return agent.Get(kDataPort, "/small?x").status == 200; });
  CheckEndsWell(agent);
}

}  // namespace
}  // namespace modal::test
