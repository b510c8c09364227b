#include "tests/support/gateway_alone.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <span>
#include <utility>

#include "agent/base/passed_descriptors.h"
#include "agent/base/socket_address.h"
#include "agent/base/strings.h"
#include "agent/event/listener.h"

namespace modal::test {

using health::AgentStatus;
using health::GatewayReply;
using health::GatewayRequest;
using health::GatewayStatus;

namespace {

BoardMapping NewBoard(Result<BoardMapping> board) {
  REQUIRE(board.ok());
  return *std::move(board);
}

UniqueFd DevNull() { return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)); }

}  // namespace

int DeadlineMs() {
  return static_cast<int>(std::chrono::milliseconds(Settings().deadline).count());
}

bool WaitReadable(int fd) {
  pollfd event{fd, POLLIN, 0};
  return ::poll(&event, 1, DeadlineMs()) == 1;
}

UniqueFd ListenAnywhere(const char* host, bool reuse_port) {
  const Result<SocketAddress> any = SocketAddress::Parse(host, 0);
  REQUIRE(any.ok());
  event::ListenOptions options;
  options.reuse_port = reuse_port;
  Result<UniqueFd> listener = event::ListenOn(*any, options);
  return listener ? *std::move(listener) : UniqueFd();
}

uint16_t PortOf(const UniqueFd& fd) {
  const Result<SocketAddress> address = event::BoundAddress(fd.get());
  REQUIRE(address.ok());
  return address->port();
}

UniqueFd ConnectTo(uint16_t port) {
  const Result<SocketAddress> address = SocketAddress::Parse("127.0.0.1", port);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(client.get(), address->get(), address->size()) != 0) client.Reset();
  return client;
}

pid_t StartGateway(const std::vector<std::string>& arguments, const std::vector<int>& fds,
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

std::optional<ExitStatus> AwaitEnd(pid_t pid) {
  const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  REQUIRE(static_cast<bool>(handle));
  if (!WaitReadable(handle.get())) return std::nullopt;
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return ExitStatus::FromWait(status);
}

std::string ProcLine(pid_t pid, const std::string& file, const std::string& name) {
  std::ifstream stream(Concat("/proc/", pid, "/", file));
  std::string line;
  while (std::getline(stream, line)) {
    if (line.starts_with(name + ":")) return std::string(Trim(line.substr(name.size() + 1)));
  }
  return "";
}

long PssKiB(pid_t pid) { return std::atol(ProcLine(pid, "smaps_rollup", "Pss").c_str()); }

policy::GatewayConfig PlainConfig(uint16_t upstream_port) {
  policy::GatewayConfig config{};
  config.threads = 1;
  SetBoardText(config.upstream_address, "127.0.0.1");
  config.upstream_port = upstream_port;
  config.queue = 100;
  config.queue_timeout_ms = 300'000;
  config.hold_most = 1'024;
  config.max_header = 64 * 1'024;
  config.max_message = 2 * 1'024 * 1'024;
  config.header_timeout_ms = 300'000;
  config.connect_timeout_ms = 300'000;
  config.idle_timeout_ms = 300'000;
  SetBoardText(config.upgrades, "websocket");
  return config;
}

UniqueFd ConfigFile(const policy::GatewayConfig& config,
                    const std::vector<policy::TokenRecord>& tokens) {
  UniqueFd file(::memfd_create("config", MFD_CLOEXEC));
  REQUIRE(static_cast<bool>(file));
  policy::GatewayConfig whole = config;
  whole.token_count = static_cast<uint32_t>(tokens.size());
  std::string bytes(reinterpret_cast<const char*>(&whole), sizeof whole);
  bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof tokens[0]);
  REQUIRE(::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  return file;
}

GatewayAlone::GatewayAlone(Options options)
    : agent_board_(
          NewBoard(BoardMapping::CreateToWrite("agent", sizeof(BoardLayout<AgentStatus>)))),
      own_board_(
          NewBoard(BoardMapping::CreateToRead("gateway", sizeof(BoardLayout<GatewayStatus>)))),
      seen_(NewBoard(
          BoardMapping::OpenReadOnly(UniqueFd(::fcntl(own_board_.fd(), F_DUPFD_CLOEXEC, 0)),
                                     sizeof(BoardLayout<GatewayStatus>)))) {
  status.ready = status.startup_done = options.ready;
  health::EnterPhase(status,
                     options.ready ? health::Phase::kServing : health::Phase::kWaitingForPort, 5);
  Publish();
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  channel_ = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  const UniqueFd config_file = ConfigFile(options.config.value_or(PlainConfig(1)), options.tokens);
  if (!options.access_log) options.access_log = DevNull();

  std::vector<UniqueFd> listeners;
  listeners.push_back(ListenAnywhere());
  port_ = PortOf(listeners.back());
  if (options.second_admin_listener) {
    listeners.push_back(std::move(options.second_admin_listener));
  }
  const size_t admin = listeners.size();
  const uint32_t threads = options.config ? options.config->threads : 0;
  for (uint32_t i = 0; i < threads; ++i) {
    if (i == 0) {
      listeners.push_back(ListenAnywhere("127.0.0.1", true));
      data_port_ = PortOf(listeners.back());
      continue;
    }
    const auto address = SocketAddress::Parse("127.0.0.1", data_port_);
    event::ListenOptions shared;
    shared.reuse_port = true;
    Result<UniqueFd> listener = event::ListenOn(*address, shared);
    REQUIRE(listener.ok());
    listeners.push_back(*std::move(listener));
  }

  std::vector<int> fds = {theirs.get(), agent_board_.mapping().fd(), own_board_.fd(),
                          config_file.get(), options.access_log.get()};
  for (const UniqueFd& listener : listeners) fds.push_back(listener.get());
  pid_ = StartGateway({health::kGatewayArgv0, std::to_string(admin), std::to_string(threads)}, fds,
                      options.standard_error ? options.standard_error.get() : STDERR_FILENO,
                      options.descriptors);
  if (threads > 0 && options.ready) SetCarriage(health::Carriage::kServing, 0);
}

GatewayAlone::~GatewayAlone() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::string GatewayAlone::url() const { return Concat("http://127.0.0.1:", port()); }

GatewayStatus GatewayAlone::Seen() const {
  // It may have been interrupted while it wrote: on a busy machine that takes a moment.
  const auto end = std::chrono::steady_clock::now() + Settings().deadline;
  for (;;) {
    if (const std::optional<GatewayStatus> seen = seen_.Read()) return *seen;
    REQUIRE(std::chrono::steady_clock::now() < end);
    ::sched_yield();
  }
}

void GatewayAlone::AskProbe(uint32_t id, uint16_t port, const std::string& path,
                            uint32_t timeout_ms) {
  GatewayRequest request{};
  request.kind = GatewayRequest::Kind::kProbe;
  SetBoardText(request.address, "127.0.0.1");
  request.id = id;
  request.timeout_ms = timeout_ms;
  request.port = port;
  SetBoardText(request.path, path);
  REQUIRE(::send(channel_.get(), &request, sizeof request, 0) ==
          static_cast<ssize_t>(sizeof request));
}

void GatewayAlone::SetCarriage(health::Carriage carriage, uint32_t id) {
  GatewayRequest request{};
  request.kind = GatewayRequest::Kind::kCarriage;
  request.id = id;
  request.carriage = carriage;
  REQUIRE(::send(channel_.get(), &request, sizeof request, 0) ==
          static_cast<ssize_t>(sizeof request));
}

void GatewayAlone::Configure(const policy::GatewayConfig& config,
                             const std::vector<policy::TokenRecord>& tokens) {
  GatewayRequest request{};
  request.kind = GatewayRequest::Kind::kConfig;
  const UniqueFd file = ConfigFile(config, tokens);
  const UniqueFd log = DevNull();
  const int fds[2] = {file.get(), log.get()};
  REQUIRE(SendWithDescriptors(channel_.get(), std::as_bytes(std::span(&request, 1)), fds) ==
          static_cast<ssize_t>(sizeof request));
}

GatewayReply GatewayAlone::Reply() {
  GatewayReply reply{};
  REQUIRE(WaitReadable(channel_.get()));
  REQUIRE(::recv(channel_.get(), &reply, sizeof reply, MSG_TRUNC) ==
          static_cast<ssize_t>(sizeof reply));
  return reply;
}

bool GatewayAlone::HasReplied() const {
  pollfd event{channel_.get(), POLLIN, 0};
  return ::poll(&event, 1, 0) == 1;
}

std::optional<ExitStatus> GatewayAlone::WaitForEnd() {
  const std::optional<ExitStatus> ended = AwaitEnd(pid_);
  if (ended) pid_ = 0;
  return ended;
}

int GatewayAlone::Get(const std::string& path) const {
  Client client(Connect());
  return client && client.Request(path) ? client.ReadAnswer().status : 0;
}

}  // namespace modal::test
