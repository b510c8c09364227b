#include "tests/support/agent_process.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "tests/support/agent_process_enclosure.h"

namespace modal::test {
namespace {

using SteadyClock = std::chrono::steady_clock;

void Must(bool holds, const std::string& what) {
  if (!holds) FAIL(what, ": ", std::string(::strerror(errno)));
}

UniqueFd OpenPidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

void MakeNonBlocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

struct Pipe {
  UniqueFd reader, writer;
};

Pipe MakePipe() {
  int fds[2];
  Must(::pipe2(fds, O_CLOEXEC) == 0, "pipe2");
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Fills a pipe; with empty lines, which the log's reader skips.
void Fill(int writer) {
  const int flags = ::fcntl(writer, F_GETFL);
  ::fcntl(writer, F_SETFL, flags | O_NONBLOCK);
  const std::string lines(4096, '\n');
  while (::write(writer, lines.data(), lines.size()) > 0) continue;
  while (::write(writer, lines.data(), 1) > 0) continue;
  ::fcntl(writer, F_SETFL, flags);
}

// Appends what can be read without waiting. False at the end of the stream.
bool ReadAvailable(int fd, std::string& to) {
  char buffer[65536];
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;  // EIO: nobody holds the terminal any more
    if (got == 0) return false;
    to.append(buffer, static_cast<size_t>(got));
    if (got < static_cast<ssize_t>(sizeof buffer)) return true;
  }
}

std::string ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string NamespaceOf(const std::string& pid) {
  char link[64] = "";
  const std::string path = "/proc/" + pid + "/ns/pid";
  return ::readlink(path.c_str(), link, sizeof link - 1) > 0 ? link : "";
}

// "Name:\tvalue" in /proc/PID/status.
std::string StatusField(const std::string& status, const std::string& name) {
  const size_t at = status.find("\n" + name + ":\t");
  if (at == std::string::npos) return {};
  const size_t start = at + name.size() + 3;
  return status.substr(start, status.find('\n', start) - start);
}

// The pid inside of the innermost namespace is the last number of NSpid.
pid_t InnermostPid(const std::string& status) {
  const std::string all = StatusField(status, "NSpid");
  const size_t last = all.find_last_of('\t');
  return std::atoi(all.c_str() + (last == std::string::npos ? 0 : last + 1));
}

bool Matches(const LogEvent& event, const std::string& name, const LogFields& fields) {
  if (event.name != name) return false;
  for (const auto& [key, value] : fields) {
    const auto found = event.fields.find(key);
    if (found == event.fields.end() || found->second != value) return false;
  }
  return true;
}

std::string Describe(const std::string& event, const LogFields& fields, size_t count) {
  std::string text = event;
  for (const auto& [key, value] : fields) text.append(" ").append(key).append("=").append(value);
  return count == 1 ? text : text + ", " + std::to_string(count) + " times";
}

int ExitCodeOf(const siginfo_t& info) {
  return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

}  // namespace

AgentOptions With(std::vector<std::string> arguments) {
  AgentOptions options;
  options.arguments = std::move(arguments);
  return options;
}

uid_t OwnUser(uid_t number) { return 1'000'000 + static_cast<uid_t>(::getpid()) * 4 + number; }

bool& CurrentTestFailed() {
  static bool failed = false;
  return failed;
}

std::string LogEvent::operator[](const std::string& field) const {
  const auto found = fields.find(field);
  return found == fields.end() ? "" : found->second;
}

AgentProcess::AgentProcess(AgentOptions options) : options_(std::move(options)) {
  if (::getenv("MODAL_TEST_KEPT") != nullptr) {
    for (const char* setting :
         {"MODAL_AGENT_SNAPSHOT_DIR=/mnt/snapshots", "MODAL_AGENT_SNAPSHOT=restore",
          "MODAL_AGENT_SNAPSHOT_KEY=kept", "MODAL_AGENT_CRIU=/mnt/bin/criu"}) {
      options_.environment.emplace_back(setting);
    }
  }
  MakeFolder();
  MakeStreams();
  Start();
}

AgentProcess::~AgentProcess() {
  if (CurrentTestFailed()) MESSAGE(Told());
  // Its end is the end of everybody inside.
  Kill(agent_);
  Kill(first_);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

// ---- starting ----

void AgentProcess::MakeFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "modal-test-XXXXXX").string();
  Must(::mkdtemp(path.data()) != nullptr, "mkdtemp");
  folder_ = path;
  ::chmod(folder_.c_str(), 0755);
  ::mkdir((folder_ + "/bin").c_str(), 0755);
  std::ofstream(folder_ + "/modal-agent").flush();
  const std::string fifo = folder_ + "/report";
  Must(::mkfifo(fifo.c_str(), 0666) == 0 && ::chmod(fifo.c_str(), 0666) == 0, "mkfifo");
  report_fd_.Reset(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  // As long as we hold it ourselves, it never ends.
  report_writer_.Reset(::open(fifo.c_str(), O_WRONLY | O_CLOEXEC));
  Must(report_fd_ && report_writer_, "open the report");

  size_t number = 0;
  for (const auto& [path_inside, text] : options_.replace) {
    options_.files.push_back({"replace-" + std::to_string(number++), text, 0644});
  }
  for (const AgentOptions::File& file : options_.files) {
    const std::filesystem::path full = std::filesystem::path(folder_) / file.path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full, std::ios::binary) << file.text;
    ::chmod(full.c_str(), file.mode);
  }
}

void AgentProcess::MakeStreams() {
  using Stream = AgentOptions::Stream;
  const Stream wanted[3] = {options_.standard_input, options_.standard_output,
                            options_.standard_error};
  UniqueFd* const ours[3] = {nullptr, &output_fd_, &error_fd_};
  for (int number = 0; number < 3; ++number) {
    if (wanted[number] == Stream::kClosed) continue;
    if (wanted[number] == Stream::kTerminal) {
      if (!terminal_) {
        terminal_.Reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
        Must(terminal_ && ::grantpt(terminal_.get()) == 0 && ::unlockpt(terminal_.get()) == 0,
             "open a pseudo-terminal");
        MakeNonBlocking(terminal_.get());
      }
      child_streams_[number].Reset(
          ::open(::ptsname(terminal_.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
      Must(static_cast<bool>(child_streams_[number]), "open the terminal");
    } else if (number == 0) {
      child_streams_[0].Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    } else {
      Pipe pipe = MakePipe();
      if (wanted[number] == Stream::kFull) {
        Fill(pipe.writer.get());
        (number == 1 ? output_is_read_ : error_is_read_) = false;
      }
      MakeNonBlocking(pipe.reader.get());
      *ours[number] = std::move(pipe.reader);
      child_streams_[number] = std::move(pipe.writer);
    }
  }
}

void AgentProcess::Start() {
  UniqueFd gate;
  first_ = StartFirst(gate);
  AwaitGate(gate.get(), false);
  const std::string network = "/proc/" + std::to_string(first_.pid) + "/ns/net";
  network_.Reset(::open(network.c_str(), O_RDONLY | O_CLOEXEC));
  Must(static_cast<bool>(network_), network);
  TakePorts();
  if (options_.process_1) {
    Must(::write(gate.get(), "", 1) == 1, "let the agent go");
    agent_.pid = first_.pid;
    agent_.pidfd.Reset(::fcntl(first_.pidfd.get(), F_DUPFD_CLOEXEC, 0));
    first_.reaped = true;  // as `agent_`
  } else {
    agent_ = StartSecond(gate);
  }
  AwaitGate(gate.get(), true);
  for (UniqueFd& stream : child_streams_) stream.Reset();
}

// The first process of the new namespaces. Through `gate` it says that everything is mounted, and
// is told to go on.
AgentProcess::Child AgentProcess::StartFirst(UniqueFd& gate) {
  int sockets[2];
  Must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0, "socketpair");
  gate.Reset(sockets[0]);
  const EnclosedStreams streams{
      {child_streams_[0].get(), child_streams_[1].get(), child_streams_[2].get()},
      static_cast<bool>(terminal_)};
  // The system call itself: fork() cannot make namespaces, and unshare(2) would move us as well.
  const auto pid =
      static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | SIGCHLD,
                                   nullptr, nullptr, nullptr, nullptr));
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int theirs = ::fcntl(sockets[1], F_DUPFD_CLOEXEC, 100);  // away from 0, 1 and 2
    PrepareNamespaces(options_, folder_, theirs);
    char go = 'r';
    if (!options_.process_1) {
      // The place holder: adopts whatever the agent leaves to it, holds nothing, and never ends.
      ::signal(SIGCHLD, SIG_IGN);
      ::close_range(0, static_cast<unsigned>(theirs) - 1, 0);
      ::close_range(static_cast<unsigned>(theirs) + 1, ~0u, 0);
      if (::write(theirs, &go, 1) != 1) ::_exit(202);
      ::close(theirs);
      while (true) ::pause();
    }
    ::close(sockets[1]);
    if (::write(theirs, &go, 1) != 1) ::_exit(202);
    if (::read(theirs, &go, 1) != 1) ::_exit(203);
    ExecAgent(options_, streams, theirs);
  }
  Must(pid > 0, "clone");
  ::close(sockets[1]);
  return {pid, OpenPidfd(pid), false};
}

// The agent beside a place holder. A child of ours in the namespaces of `first_`.
AgentProcess::Child AgentProcess::StartSecond(UniqueFd& gate) {
  int sockets[2];
  Must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0, "socketpair");
  gate.Reset(sockets[0]);
  const EnclosedStreams streams{
      {child_streams_[0].get(), child_streams_[1].get(), child_streams_[2].get()},
      static_cast<bool>(terminal_)};
  const UniqueFd our_pids(::open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
  Must(::setns(first_.pidfd.get(), CLONE_NEWPID) == 0, "setns");  // for children to come
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int theirs = ::fcntl(sockets[1], F_DUPFD_CLOEXEC, 100);
    ::close(sockets[1]);
    if (::setns(first_.pidfd.get(), CLONE_NEWNS | CLONE_NEWNET) != 0) {
      FailThroughGate(theirs, "setns");
    }
    ExecAgent(options_, streams, theirs);
  }
  Must(::setns(our_pids.get(), CLONE_NEWPID) == 0, "setns back");
  Must(pid > 0, "fork");
  ::close(sockets[1]);
  return {pid, OpenPidfd(pid), false};
}

// Waits for one byte, or, `until_closed`, for the exec that closes the other end.
void AgentProcess::AwaitGate(int gate, bool until_closed) {
  char text[512] = "";
  const ssize_t got = ::read(gate, text, sizeof text - 1);
  const bool well = until_closed ? got == 0 : got == 1;
  if (!well) FAIL("the enclosed process failed: ", text);
}

void AgentProcess::TakePorts() {
  for (const uint16_t port : options_.taken_ports) {
    const UniqueFd our_network(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    Must(::setns(network_.get(), CLONE_NEWNET) == 0, "setns");
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    Must(::setns(our_network.get(), CLONE_NEWNET) == 0, "setns back");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    Must(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
             ::listen(socket.get(), 16) == 0,
         "take a port");
    taken_.push_back(std::move(socket));
  }
}

// ---- watching ----

void AgentProcess::Pump(int milliseconds) {
  pollfd events[5] = {{output_is_read_ ? output_fd_.get() : -1, POLLIN, 0},
                      {error_is_read_ ? error_fd_.get() : -1, POLLIN, 0},
                      {report_fd_.get(), POLLIN, 0},
                      {terminal_.get(), POLLIN, 0},
                      {agent_.reaped ? -1 : agent_.pidfd.get(), POLLIN, 0}};
  if (::poll(events, 5, milliseconds) <= 0) return;
  if (events[0].revents != 0 && !ReadAvailable(output_fd_.get(), output_)) output_fd_.Reset();
  if (events[1].revents != 0) {
    std::string bytes;
    const bool more = ReadAvailable(error_fd_.get(), bytes);
    TakeErrorOutput(bytes);
    if (!more) error_fd_.Reset();
  }
  if (events[2].revents != 0) {
    ReadAvailable(report_fd_.get(), report_rest_);
    size_t end;
    while ((end = report_rest_.find('\n')) != std::string::npos) {
      reports_.push_back(report_rest_.substr(0, end));
      report_rest_.erase(0, end + 1);
    }
  }
  if (events[3].revents != 0) {
    std::string bytes;
    const bool more = ReadAvailable(terminal_.get(), bytes);
    output_ += bytes;
    if (options_.standard_error == AgentOptions::Stream::kTerminal) TakeErrorOutput(bytes);
    // Nobody has it open, for the moment or for ever: look again when something else happens.
    if (!more) ::poll(nullptr, 0, 1);
  }
  if (events[4].revents != 0) {
    siginfo_t info{};
    Must(::waitid(P_PIDFD, static_cast<id_t>(agent_.pidfd.get()), &info, WEXITED) == 0, "waitid");
    exit_code_ = ExitCodeOf(info);
    agent_.reaped = true;
  }
}

// What was written before the agent's end is there: takes it all, a full pipe's worth at a time.
void AgentProcess::TakeTheRest() {
  for (size_t before = 1, after = 0; before != after;) {
    before = output_.size() + error_output_.size() + reports_.size();
    Pump(0);
    after = output_.size() + error_output_.size() + reports_.size();
  }
  rest_taken_ = true;
}

void AgentProcess::TakeErrorOutput(std::string_view bytes) {
  error_output_ += bytes;
  size_t end;
  while ((end = error_output_.find('\n', error_parsed_)) != std::string::npos) {
    const std::string line = error_output_.substr(error_parsed_, end - error_parsed_);
    error_parsed_ = end + 1;
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("event")) continue;
    LogEvent event;
    for (const auto& [key, value] : json.items()) {
      event.fields[key] = value.is_string() ? value.get<std::string>() : value.dump();
    }
    event.name = event["event"];
    event.position = log_.size();
    log_.push_back(std::move(event));
  }
}

void AgentProcess::WaitUntil(const std::string& what, const std::function<bool()>& condition) {
  const auto deadline = SteadyClock::now() + Settings().deadline;
  while (!condition()) {
    if (SteadyClock::now() > deadline) Fail("waited in vain for: " + what);
    Pump(5);
  }
}

LogEvent AgentProcess::WaitFor(const std::string& event, const LogFields& fields, size_t count) {
  size_t looked_at = 0;
  size_t seen = 0;
  const auto deadline = SteadyClock::now() + Settings().deadline;
  while (true) {
    for (; looked_at < log_.size(); ++looked_at) {
      if (Matches(log_[looked_at], event, fields) && ++seen == count) return log_[looked_at];
    }
    if (rest_taken_ || SteadyClock::now() > deadline) {
      Fail("waited in vain for the log line: " + Describe(event, fields, count));
    }
    Pump(50);
    if (agent_.reaped) TakeTheRest();
  }
}

LogEvent AgentProcess::WaitForPhase(const std::string& phase, size_t count) {
  return WaitFor("lifecycle.phase", {{"to", phase}}, count);
}

size_t AgentProcess::Count(const std::string& event, const LogFields& fields) const {
  size_t count = 0;
  for (const LogEvent& line : log_) count += Matches(line, event, fields) ? 1 : 0;
  return count;
}

LogEvent AgentProcess::Find(const std::string& event, const LogFields& fields) const {
  for (const LogEvent& line : log_) {
    if (Matches(line, event, fields)) return line;
  }
  Fail("not in the log: " + Describe(event, fields, 1));
}

void AgentProcess::WaitForReport(const std::string& line, size_t count) {
  WaitUntil("the report '" + line + "'" + (count > 1 ? " " + std::to_string(count) + " times" : ""),
            [&] { return CountReports(line) >= count; });
}

size_t AgentProcess::CountReports(const std::string& line) const {
  size_t count = 0;
  for (const std::string& report : reports_) count += report == line ? 1 : 0;
  return count;
}

std::string AgentProcess::WaitForReportStartingWith(const std::string& start) {
  std::string found;
  WaitUntil("a report that starts with '" + start + "'", [&] {
    for (const std::string& report : reports_) {
      if (report.rfind(start, 0) == 0) found = report;
    }
    return !found.empty();
  });
  return found;
}

void AgentProcess::WaitForOutput(const std::string& text) {
  WaitUntil("the output '" + text + "'", [&] { return Contains(output_, text); });
}

int AgentProcess::WaitForExit() {
  const auto deadline = SteadyClock::now() + Settings().deadline;
  while (!agent_.reaped) {
    if (SteadyClock::now() > deadline) Fail("the agent does not end");
    Pump(50);
  }
  TakeTheRest();
  for (const char* sign :
       {"AddressSanitizer", "ThreadSanitizer", "runtime error:", "MODAL_CHECK"}) {
    if (Contains(error_output_, sign)) Fail(std::string("the agent reports: ") + sign);
  }
  return exit_code_;
}

bool AgentProcess::HasEnded() {
  Pump(0);
  return agent_.reaped;
}

size_t AgentProcess::PeakMemoryKiB() const {
  const std::string status = ReadSmallFile("/proc/" + std::to_string(agent_.pid) + "/status");
  return std::strtoull(StatusField(status, "VmHWM").c_str(), nullptr, 10);
}

size_t AgentProcess::ResidentMemoryKiB() const {
  const std::string status = ReadSmallFile("/proc/" + std::to_string(agent_.pid) + "/status");
  return std::strtoull(StatusField(status, "VmRSS").c_str(), nullptr, 10);
}

size_t AgentProcess::OpenDescriptors() const {
  const std::filesystem::directory_iterator all("/proc/" + std::to_string(agent_.pid) + "/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

bool AgentProcess::Blocks(int number) const {
  const std::string status = ReadSmallFile("/proc/" + std::to_string(agent_.pid) + "/status");
  const uint64_t blocked = std::strtoull(StatusField(status, "SigBlk").c_str(), nullptr, 16);
  return (blocked >> (number - 1) & 1) != 0;
}

bool AgentProcess::ProgramsLeft() {
  Pump(0);
  report_writer_.Reset();
  char byte;
  const ssize_t got = ::read(report_fd_.get(), &byte, 1);
  const bool left = got > 0 || (got < 0 && errno == EAGAIN);
  if (got > 0) report_rest_ += byte;
  report_writer_.Reset(::open((folder_ + "/report").c_str(), O_WRONLY | O_CLOEXEC));
  return left;
}

void AgentProcess::WaitUntilNobodyIsLeft() {
  WaitUntil("everybody to be gone", [this] { return Processes().empty(); });
}

std::vector<ProcessSeen> AgentProcess::Processes() const {
  const std::string here = NamespaceOf(std::to_string(first_.pid));
  std::vector<ProcessSeen> found;
  std::map<pid_t, pid_t> inside_pids;
  std::map<pid_t, pid_t> host_parents;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (here.empty() || NamespaceOf(name) != here) continue;
    const std::string status = ReadSmallFile("/proc/" + name + "/status");
    if (status.empty()) continue;
    ProcessSeen process;
    process.host_pid = std::atoi(name.c_str());
    process.pid = InnermostPid(status);
    process.state = StatusField(status, "State").substr(0, 1)[0];
    process.command = ReadSmallFile("/proc/" + name + "/cmdline");
    while (!process.command.empty() && process.command.back() == '\0') process.command.pop_back();
    for (char& c : process.command) c = c == '\0' ? ' ' : c;
    inside_pids[process.host_pid] = process.pid;
    host_parents[process.host_pid] = std::atoi(StatusField(status, "PPid").c_str());
    if (options_.process_1 || process.host_pid != first_.pid) found.push_back(process);
  }
  for (ProcessSeen& process : found) {
    const auto parent = inside_pids.find(host_parents[process.host_pid]);
    process.parent = parent == inside_pids.end() ? 0 : parent->second;
  }
  return found;
}

std::vector<ProcessSeen> AgentProcess::Processes(const std::string& command) const {
  std::vector<ProcessSeen> matching;
  for (const ProcessSeen& process : Processes()) {
    if (process.command.rfind(command, 0) == 0) matching.push_back(process);
  }
  return matching;
}

// ---- acting ----

void AgentProcess::Signal(int number) {
  // Through the pidfd: a pid may be somebody else's by now.
  ::syscall(SYS_pidfd_send_signal, agent_.pidfd.get(), number, nullptr, 0);
}

void AgentProcess::SignalInside(const ProcessSeen& process, int number) {
  Must(::kill(process.host_pid, number) == 0, "kill");
}

void AgentProcess::SignalProgram(const std::string& name, int number) {
  const std::string start = WaitForReportStartingWith(name + " start ");
  const pid_t pid = std::atoi(start.c_str() + start.find(" pid ") + 5);
  for (const ProcessSeen& process : Processes()) {
    if (process.pid == pid) return SignalInside(process, number);
  }
  Fail(name + " does not run any more");
}

void AgentProcess::Type(std::string_view keys) {
  Must(::write(terminal_.get(), keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()),
       "type");
}

Client AgentProcess::Connect(uint16_t port, const std::string& address) {
  sockaddr_storage peer{};
  socklen_t size = 0;
  const bool ipv6 = Contains(address, ":");
  if (ipv6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&peer);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    ::inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr);
    size = sizeof *v6;
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&peer);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &v4->sin_addr);
    size = sizeof *v4;
  }
  // A socket belongs to the network in which it was made.
  const UniqueFd our_network(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  Must(::setns(network_.get(), CLONE_NEWNET) == 0, "setns");
  UniqueFd socket(::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Must(::setns(our_network.get(), CLONE_NEWNET) == 0, "setns back");
  const timeval patience{.tv_sec = Settings().deadline.count(), .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&peer), size) != 0) return Client();
  return Client(std::move(socket));
}

HttpAnswer AgentProcess::Get(uint16_t port, const std::string& path, const std::string& address) {
  Client client = Connect(port, address);
  if (!client || !client.Request(path)) return {};
  return client.ReadAnswer();
}

RunResult AgentProcess::Run(std::vector<std::string> arguments) {
  return RunIn(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET, std::move(arguments));
}

RunResult AgentProcess::RunUnseen(std::vector<std::string> arguments) {
  return RunIn(CLONE_NEWNS | CLONE_NEWNET, std::move(arguments));
}

RunResult AgentProcess::RunIn(int namespaces, std::vector<std::string> arguments) {
  if (arguments.at(0) == "modal-agent") arguments[0] = "/mnt/modal-agent";
  Pipe pipe = MakePipe();
  const pid_t outer = ::fork();
  if (outer == 0) {
    // A PID namespace holds for children only: hence twice.
    if (::setns(first_.pidfd.get(), namespaces) != 0) ::_exit(200);
    // The test framework's handlers are not meant for what happens in here.
    for (int number = 1; number <= SIGRTMAX; ++number) ::signal(number, SIG_DFL);
    const pid_t inner = ::fork();
    if (inner == 0) {
      std::vector<std::string> environment = EnclosedEnvironment(options_);
      // The search for leaks reads /proc, which is another PID namespace's if we stay outside.
      environment.push_back("ASAN_OPTIONS=detect_leaks=0");
      ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
      ::dup2(pipe.writer.get(), 1);
      ::dup2(pipe.writer.get(), 2);
      ::execvpe(arguments[0].c_str(), PointersTo(arguments).data(), PointersTo(environment).data());
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(inner, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
  Must(outer > 0, "fork");
  pipe.writer.Reset();
  MakeNonBlocking(pipe.reader.get());
  RunResult result;
  const auto deadline = SteadyClock::now() + Settings().deadline;
  bool open = true;
  while (open) {
    pollfd event{pipe.reader.get(), POLLIN, 0};
    if (::poll(&event, 1, 20) > 0) open = ReadAvailable(pipe.reader.get(), result.output);
    if (SteadyClock::now() > deadline) Fail(arguments[0] + " does not end");
    Pump(0);
  }
  int status = 0;
  ::waitpid(outer, &status, 0);
  result.code = WEXITSTATUS(status);
  return result;
}

std::string AgentProcess::ReadFile(const std::string& path) const {
  return ReadSmallFile(folder_ + "/" + path);
}

bool AgentProcess::FileExists(const std::string& path) const {
  return std::filesystem::exists(folder_ + "/" + path);
}

void AgentProcess::WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(folder_ + "/" + path, std::ios::binary) << text;
}

// ---- ending ----

void AgentProcess::Kill(Child& child) {
  if (child.reaped || child.pid <= 0) return;
  ::kill(child.pid, SIGKILL);
  ::waitpid(child.pid, nullptr, 0);
  child.reaped = true;
}

std::string AgentProcess::Told() const {
  std::string told = "the agent was started with:";
  for (const std::string& argument : options_.arguments) told += " '" + argument + "'";
  const auto tail = [](const std::string& text) {
    constexpr size_t kMost = 20000;
    return text.size() > kMost ? "…" + text.substr(text.size() - kMost) : text;
  };
  told += "\n-- standard error --\n" + tail(error_output_);
  told += "-- standard output --\n" + tail(output_);
  told += "-- reports --\n";
  for (const std::string& report : reports_) told += report + "\n";
  told += "-- processes --\n";
  for (const ProcessSeen& process : Processes()) {
    told += std::to_string(process.pid) + " (of " + std::to_string(process.parent) + ") " +
            process.state + " " + process.command + "\n";
  }
  if (agent_.reaped) told += "-- it ended with " + std::to_string(exit_code_) + " --\n";
  return told;
}

void AgentProcess::Fail(const std::string& what) const {
  CurrentTestFailed() = true;
  throw std::runtime_error(what);
}

}  // namespace modal::test
