// The gateway process by itself: the real binary as the supervisor starts it, with the supervisor's
// ends of everything in the test's hands.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/event/listener.h"
#include "healthcheck/gateway_channel.h"
#include "healthcheck/status.h"
#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

using health::AgentStatus;
using health::GatewayReply;
using health::GatewayRequest;
using health::GatewayStatus;

int DeadlineMs() {
  return static_cast<int>(std::chrono::milliseconds(Settings().deadline).count());
}

bool WaitReadable(int fd) {
  pollfd event{fd, POLLIN, 0};
  return ::poll(&event, 1, DeadlineMs()) == 1;
}

// Starts the binary under the gateway's name, with `fds` as its descriptors 3, 4, 5 ...
pid_t Start(const std::vector<std::string>& arguments, const std::vector<int>& fds,
            int standard_error, rlim_t descriptors) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child > 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int first = health::kGatewayChannelFd;
  const int last = first + static_cast<int>(fds.size());
  const int error_copy = ::fcntl(standard_error, F_DUPFD, last);
  std::vector<int> aside;
  for (const int fd : fds) aside.push_back(::fcntl(fd, F_DUPFD, last));
  ::dup2(error_copy, STDERR_FILENO);
  for (size_t i = 0; i < aside.size(); ++i) ::dup2(aside[i], first + static_cast<int>(i));
  ::syscall(SYS_close_range, last, ~0U, 0);
  const rlimit limit{descriptors, descriptors};
  ::setrlimit(RLIMIT_NOFILE, &limit);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  char* environment[] = {nullptr};
  ::execve(Settings().agent.c_str(), argv.data(), environment);
  ::_exit(126);
}

// Nothing if it is still running at the deadline.
std::optional<ExitStatus> AwaitEnd(pid_t pid) {
  const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  REQUIRE(static_cast<bool>(handle));
  if (!WaitReadable(handle.get())) return std::nullopt;
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return ExitStatus::FromWait(status);
}

BoardMapping NewBoard(Result<BoardMapping> board) {
  REQUIRE(board.ok());
  return *std::move(board);
}

UniqueFd Listener(const char* host = "127.0.0.1") {
  const Result<SocketAddress> any = SocketAddress::Parse(host, 0);
  REQUIRE(any.ok());
  Result<UniqueFd> listener = event::ListenOn(*any);
  return listener ? *std::move(listener) : UniqueFd();
}

uint16_t PortOf(const UniqueFd& fd) {
  const Result<SocketAddress> address = event::BoundAddress(fd.get());
  REQUIRE(address.ok());
  return address->port();
}

class GatewayAlone {
 public:
  explicit GatewayAlone(rlim_t descriptors = 1'024, UniqueFd second_listener = {}) {
    status.ready = status.startup_done = true;
    health::EnterPhase(status, health::Phase::kServing, 5);
    Publish();
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    channel_ = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    // Not kept here: if the gateway dies, a test that connects is refused, and does not wait.
    const UniqueFd listener = Listener();
    port_ = PortOf(listener);
    std::vector<int> fds = {theirs.get(), agent_board_.mapping().fd(), own_board_.fd(),
                            listener.get()};
    if (second_listener) fds.push_back(second_listener.get());
    pid_ = Start({health::kGatewayArgv0, std::to_string(fds.size() - 3)}, fds, STDERR_FILENO,
                 descriptors);
  }
  ~GatewayAlone() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  GatewayAlone(const GatewayAlone&) = delete;
  GatewayAlone& operator=(const GatewayAlone&) = delete;

  pid_t pid() const { return pid_; }
  uint16_t port() const { return port_; }
  std::string url() const { return Concat("http://127.0.0.1:", port()); }

  void Publish() { agent_board_.Publish(status); }
  GatewayStatus Seen() const {
    const std::optional<GatewayStatus> seen = seen_.Read();
    REQUIRE(seen.has_value());
    return *seen;
  }

  void Ask(uint32_t id, uint16_t port, const std::string& path, uint32_t timeout_ms = 60'000) {
    GatewayRequest request{};
    SetBoardText(request.address, "127.0.0.1");
    request.id = id;
    request.timeout_ms = timeout_ms;
    request.port = port;
    SetBoardText(request.path, path);
    REQUIRE(::send(channel_.get(), &request, sizeof request, 0) ==
            static_cast<ssize_t>(sizeof request));
  }
  GatewayReply Reply() {
    GatewayReply reply{};
    REQUIRE(WaitReadable(channel_.get()));
    REQUIRE(::recv(channel_.get(), &reply, sizeof reply, MSG_TRUNC) ==
            static_cast<ssize_t>(sizeof reply));
    return reply;
  }

  void CloseChannel() { channel_.Reset(); }
  std::optional<ExitStatus> WaitForEnd() {
    const std::optional<ExitStatus> ended = AwaitEnd(pid_);
    if (ended) pid_ = 0;
    return ended;
  }
  UniqueFd Connect() const {
    const Result<SocketAddress> address = SocketAddress::Parse("127.0.0.1", port());
    UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(client.get(), address->get(), address->size()) != 0) client.Reset();
    return client;
  }
  int Get(const std::string& path) const {
    Client client(Connect());
    return client && client.Request(path) ? client.ReadAnswer().status : 0;
  }

  AgentStatus status = health::NewAgentStatus();

 private:
  uint16_t port_ = 0;
  UniqueFd channel_;
  BoardWriter<AgentStatus> agent_board_{
      NewBoard(BoardMapping::CreateToWrite("agent", sizeof(BoardLayout<AgentStatus>)))};
  BoardMapping own_board_ =
      NewBoard(BoardMapping::CreateToRead("gateway", sizeof(BoardLayout<GatewayStatus>)));
  BoardReader<GatewayStatus> seen_{NewBoard(BoardMapping::OpenReadOnly(
      UniqueFd(::fcntl(own_board_.fd(), F_DUPFD_CLOEXEC, 0)), sizeof(BoardLayout<GatewayStatus>)))};
  pid_t pid_ = 0;
};

struct CurlAnswer {
  int exit_code = -1;
  std::string output;

  bool Has(const std::string& text) const { return output.find(text) != std::string::npos; }
  // Headers are the same whatever their case.
  bool HasLine(const std::string& line) const { return Has("\r\n" + line + "\r\n"); }
  int status() const { return std::atoi(output.substr(0, 12).c_str() + sizeof "HTTP/1."); }
  std::string body() const {
    const size_t end = output.find("\r\n\r\n");
    return end == std::string::npos ? "" : output.substr(end + 4);
  }
};

CurlAnswer Curl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(),
                   {"curl", "-s", "-i", "--max-time", std::to_string(Settings().deadline.count())});
  FILE* curl = ::popen(ShellJoin(arguments).c_str(), "r");
  REQUIRE(curl != nullptr);
  CurlAnswer answer;
  char buffer[4096];
  for (size_t size; (size = std::fread(buffer, 1, sizeof buffer, curl)) > 0;) {
    answer.output.append(buffer, size);
  }
  const int status = ::pclose(curl);
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return answer;
}

// A line of /proc/PID/FILE, from after its name.
std::string ProcLine(pid_t pid, const std::string& file, const std::string& name) {
  std::ifstream stream(Concat("/proc/", pid, "/", file));
  std::string line;
  while (std::getline(stream, line)) {
    if (line.starts_with(name + ":")) return std::string(Trim(line.substr(name.size() + 1)));
  }
  return "";
}

long PssKiB(pid_t pid) { return std::atol(ProcLine(pid, "smaps_rollup", "Pss").c_str()); }

TEST_CASE("curl gets every endpoint") {
  GatewayAlone gateway;
  struct Expected {
    std::string path;
    int status;
    const char* type;
    const char* content;
  };
  for (const auto& [path, status, type, content] : {
           Expected{"/", 200, "text/plain; charset=utf-8", "/readyz"},
           Expected{"/livez", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/startupz", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/readyz", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/readyz?verbose=1", 200, "text/plain; charset=utf-8", "ok\n"},
           Expected{"/status", 200, "application/json", "\"phase\":\"Serving\""},
           Expected{"/metrics", 200, "text/plain; version=0.0.4; charset=utf-8",
                    "modal_agent_phase{phase=\"Serving\"} 1\n"},
           Expected{"/nothing", 404, "application/json", "{\"error\":\"not_found\""},
       }) {
    INFO(path);
    const CurlAnswer answer = Curl({gateway.url() + path});
    CHECK(answer.exit_code == 0);
    CHECK(answer.status() == status);
    CHECK(answer.HasLine(Concat("Content-Type: ", type)));
    CHECK(answer.HasLine("Cache-Control: no-store"));
    CHECK(answer.body().find(content) != std::string::npos);
  }
}

TEST_CASE("curl sees readiness go at once when the supervisor says so") {
  GatewayAlone gateway;
  CHECK(Curl({gateway.url() + "/readyz"}).status() == 200);
  gateway.status.ready = false;
  health::EnterPhase(gateway.status, health::Phase::kDraining, 9);
  gateway.Publish();
  const CurlAnswer answer = Curl({gateway.url() + "/readyz"});
  CHECK(answer.status() == 503);
  CHECK(answer.body() == "{\"error\":\"not_ready\",\"message\":\"Draining\"}\n");
  CHECK(Curl({gateway.url() + "/livez"}).status() == 200);
}

TEST_CASE("curl's other ways to ask") {
  GatewayAlone gateway;
  const std::string livez = gateway.url() + "/livez";
  SUBCASE("HEAD") {
    const CurlAnswer answer = Curl({"--head", livez});
    CHECK(answer.status() == 200);
    CHECK(answer.HasLine("Content-Length: 3"));
    CHECK(answer.body().empty());
  }
  SUBCASE("methods that are refused") {
    for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
      INFO(method);
      const CurlAnswer answer = Curl({"-X", method, livez});
      CHECK(answer.status() == 405);
      CHECK(answer.HasLine("Allow: GET, HEAD"));
    }
  }
  SUBCASE("HTTP/1.0") { CHECK(Curl({"--http1.0", livez}).status() == 200); }
  SUBCASE("two requests in one connection") {
    const CurlAnswer answer = Curl({"-w", "connects: %{num_connects}\n", livez, livez});
    CHECK(answer.Has("connects: 1\n"));
    CHECK(answer.Has("connects: 0\n"));
  }
  SUBCASE("a body that is too large") {
    const CurlAnswer answer =
        Curl({"-H", "Expect: 100-continue", "--data", std::string(50'000, 'x'), livez});
    CHECK(answer.status() == 413);
  }
  SUBCASE("headers that are too large") {
    CHECK(Curl({"-H", "X-Large: " + std::string(20'000, 'x'), livez}).status() == 431);
  }
  SUBCASE("a target that is too long") {
    CHECK(Curl({gateway.url() + "/" + std::string(20'000, 'x')}).status() == 414);
  }
}

TEST_CASE("every listener is served, IPv6 too") {
  UniqueFd ipv6 = Listener("::1");
  if (!ipv6) {
    MESSAGE("skipped: there is no IPv6 here");
    return;
  }
  const uint16_t port = PortOf(ipv6);
  GatewayAlone gateway(1'024, std::move(ipv6));
  CHECK(Curl({"-g", Concat("http://[::1]:", port, "/livez")}).status() == 200);
  CHECK(Curl({gateway.url() + "/livez"}).status() == 200);
}

TEST_CASE("it makes the supervisor's probes") {
  GatewayAlone gateway;
  gateway.Ask(1, gateway.port(), "/readyz");
  gateway.Ask(2, gateway.port(), "/nothing");
  for (int i = 0; i < 2; ++i) {
    const GatewayReply reply = gateway.Reply();
    CHECK(reply.status == (reply.id == 1 ? 200 : 404));
  }
  const UniqueFd silent = Listener();
  gateway.Ask(3, PortOf(silent), "/", 1);
  const GatewayReply reply = gateway.Reply();
  CHECK(reply.id == 3);
  CHECK(reply.status == 0);
  CHECK(BoardText(reply.error).ends_with("within 1 ms"));
}

TEST_CASE("it is sealed before it serves, and says so") {
  GatewayAlone gateway;
  REQUIRE(gateway.Get("/livez") == 200);
  CHECK(ProcLine(gateway.pid(), "status", "Seccomp") == "2");
  CHECK(ProcLine(gateway.pid(), "status", "NoNewPrivs") == "1");
  CHECK(ProcLine(gateway.pid(), "status", "Threads") == "1");
  CHECK(Curl({gateway.url() + "/status"}).Has("\"sealed\":true"));
  CHECK(gateway.Seen().sealed == 1);
  CHECK(gateway.Seen().pid == gateway.pid());
}

TEST_CASE("no signal that asks or tells it to end does, except SIGKILL") {
  GatewayAlone gateway;
  REQUIRE(gateway.Get("/livez") == 200);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGALRM, SIGTSTP}) {
    REQUIRE(::kill(gateway.pid(), number) == 0);
    CHECK(gateway.Get("/livez") == 200);
  }
  ::kill(gateway.pid(), SIGSTOP);
  ::kill(gateway.pid(), SIGCONT);
  CHECK(gateway.Get("/livez") == 200);
}

TEST_CASE("it ends when its channel closes, whatever it is doing") {
  GatewayAlone gateway;
  const UniqueFd silent = Listener();
  std::vector<Client> clients;
  SUBCASE("nothing") {}
  SUBCASE("having served") { REQUIRE(gateway.Get("/livez") == 200); }
  SUBCASE("connections and a probe") {
    for (int i = 0; i < 10; ++i) clients.emplace_back(gateway.Connect());
    clients[0].Send("GET /li");
    gateway.Ask(1, PortOf(silent), "/");
    REQUIRE(gateway.Get("/livez") == 200);
  }
  gateway.CloseChannel();
  CHECK(gateway.WaitForEnd() == ExitStatus::Code(0));
}

TEST_CASE("started by anybody else it says so and ends with 125") {
  struct Case {
    std::vector<std::string> arguments;
    bool has_descriptors;
  };
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const auto& [arguments, has_descriptors] :
       {Case{{health::kGatewayArgv0}, true}, Case{{health::kGatewayArgv0, "1", "2"}, true},
        Case{{health::kGatewayArgv0, "x"}, true}, Case{{health::kGatewayArgv0, "-1"}, true},
        Case{{health::kGatewayArgv0, "99999999999"}, true},
        Case{{health::kGatewayArgv0, "1"}, true}, Case{{health::kGatewayArgv0, "1"}, false}}) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const std::vector<int> fds =
        has_descriptors ? std::vector<int>(4, null.get()) : std::vector<int>();
    const pid_t pid = Start(arguments, fds, writer.get(), 1'024);
    writer.Reset();
    INFO(Join(arguments, " "));
    CHECK(AwaitEnd(pid) == ExitStatus::Code(125));
    char said[1024] = {};
    CHECK(::read(reader.get(), said, sizeof said - 1) > 0);
    CHECK(std::string(said).starts_with("modal-agent-gateway: "));
  }
}

TEST_CASE("it takes little memory at idle") {
  GatewayAlone gateway;
  REQUIRE(Curl({gateway.url() + "/metrics"}).status() == 200);
  if (Settings().sanitized) return;
  const long pss = PssKiB(gateway.pid());
  CHECK(pss > 0);
  CHECK(pss <= 5 * 1024);
}

// One connection of each kind that an admin port sees when something is wrong.
void Misbehave(Client& client, size_t kind) {
  switch (kind % 4) {
    case 0:
      break;  // idle
    case 1:
      client.Send("GET /livez HTTP/1.1\r\nX-Slow: " + std::string(6'000, 'x'));
      break;
    case 2:
      client.Send("\x16\x03\x01 garbage \0\xff\r\n\r\n");
      break;
    default:
      client.Send("GET /status HTTP/1.1\r\nHost: x\r\n\r\n");  // and never reads the answer
  }
}

TEST_CASE("ten thousand connections: it serves on, probes on, and its memory is bounded") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit most{before.rlim_max, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &most);
  const size_t count = std::min<size_t>(10'000, before.rlim_max - 100);
  {
    GatewayAlone gateway(65'536 < before.rlim_max ? 65'536 : before.rlim_max);
    std::vector<Client> clients;
    for (size_t i = 0; i < count; ++i) {
      clients.emplace_back(gateway.Connect());
      if (clients.back()) Misbehave(clients.back(), i);
      if (i % 1'000 == 999) CHECK(gateway.Get("/livez") == 200);
    }
    CHECK(gateway.Get("/readyz") == 200);
    gateway.Ask(1, gateway.port(), "/readyz");
    CHECK(gateway.Reply().status == 200);
    CHECK(gateway.Seen().connections_open <= 1'024);
    if (!Settings().sanitized) CHECK(PssKiB(gateway.pid()) <= 32 * 1024);
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("out of descriptors it serves on, and probes on") {
  // At 20 there are fewer than the connections alone would take.
  for (const rlim_t descriptors : {20, 24, 64}) {
    INFO(descriptors);
    GatewayAlone gateway(descriptors);
    std::vector<Client> clients;
    for (size_t i = 0; i < 300; ++i) {
      clients.emplace_back(gateway.Connect());
      if (clients.back()) Misbehave(clients.back(), i);
    }
    CHECK(gateway.Get("/livez") == 200);
    gateway.Ask(1, gateway.port(), "/readyz");
    CHECK(gateway.Reply().status == 200);
    clients.clear();
    CHECK(gateway.Get("/livez") == 200);
  }
}

}  // namespace
}  // namespace modal::test
