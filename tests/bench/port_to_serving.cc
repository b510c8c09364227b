// How long after its port opens is a server Serving?
//
//   bench_port_to_serving AGENT [--starts N] [AGENT OPTION...]
//
// Starts the agent N times (200), each time as process 1 of PID, network and mount namespaces of
// its own, with a server that listens after a random 5 to 300 ms. The clock starts right before the
// server's listen(2), which is a little early, and stops when the log line that says Serving has
// been read here from the agent's standard error, which is a little late: log writing, the pipe and
// this reader's wake-up count against the agent. Needs root. Prints one table; exits with 1 if a
// start went wrong.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "tests/support/network_namespace.h"

namespace modal::bench {
namespace {

using Nanoseconds = int64_t;

constexpr uint16_t kPort = 8000;
constexpr Nanoseconds kMillisecond = 1'000'000;
constexpr Nanoseconds kLongestStart = 20'000 * kMillisecond;
constexpr const char* kServe = "--serve";

Nanoseconds Now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// A number in a file, shared between the server that writes it and us.
class Stamp {
 public:
  static Result<Stamp> Open(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file) return Error::FromErrno("open " + path, errno);
    if (::ftruncate(file.get(), sizeof(Nanoseconds)) != 0) return Error::FromErrno(path, errno);
    void* memory =
        ::mmap(nullptr, sizeof(Nanoseconds), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (memory == MAP_FAILED) return Error::FromErrno("map " + path, errno);
    return Stamp(static_cast<Nanoseconds*>(memory));
  }
  void Set(Nanoseconds time) { __atomic_store_n(time_, time, __ATOMIC_SEQ_CST); }
  Nanoseconds Get() const { return __atomic_load_n(time_, __ATOMIC_SEQ_CST); }

 private:
  explicit Stamp(Nanoseconds* time) : time_(time) {}
  Nanoseconds* time_;  // mapped until the program ends
};

// The server: `--serve STAMP MICROSECONDS`.
int Serve(const char* stamp_path, const char* wait) {
  Result<Stamp> stamp = Stamp::Open(stamp_path);
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  if (!stamp ||
      ::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return 1;
  }
  ::usleep(static_cast<useconds_t>(std::atoi(wait)));
  stamp->Set(Now());
  if (::listen(listener.get(), 16) != 0) return 1;
  for (;;) ::pause();
}

// What becomes process 1 of the new namespaces.
[[noreturn]] void RunAgent(const std::vector<std::string>& command, int log) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  // Whatever happens to us, nothing stays behind.
  const bool ready = ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
                     ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                     ::mount("proc", "/proc", "proc", 0, nullptr) == 0 &&
                     ::mount("tmpfs", "/run", "tmpfs", 0, nullptr) == 0;
  const UniqueFd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (ready && ::dup2(nothing.get(), 0) == 0 && ::dup2(nothing.get(), 1) == 1 &&
      ::dup2(log, 2) == 2) {
    test::BringUpLoopback();
    ::execv(arguments[0], arguments.data());
  }
  ::dprintf(log, "cannot start %s: %s\n", arguments[0], std::strerror(errno));
  ::_exit(125);
}

// The agent of one start; whatever runs under it ends with this object.
class EnclosedAgent {
 public:
  static Result<EnclosedAgent> Start(const std::vector<std::string>& command) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return Error::FromErrno("pipe", errno);
    UniqueFd log(ends[0]);
    const UniqueFd log_end(ends[1]);
    const long pid = ::syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS | SIGCHLD,
                               nullptr, nullptr, nullptr, nullptr);
    if (pid < 0) return Error::FromErrno("make namespaces", errno);
    if (pid == 0) RunAgent(command, log_end.get());
    return EnclosedAgent(static_cast<pid_t>(pid), std::move(log));
  }
  EnclosedAgent(EnclosedAgent&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), log_(std::move(other.log_)) {}
  EnclosedAgent& operator=(EnclosedAgent&&) = delete;
  ~EnclosedAgent() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  // When the line that says Serving had been read.
  Result<Nanoseconds> AwaitServing() {
    const Nanoseconds deadline = Now() + kLongestStart;
    std::string said;
    for (;;) {
      pollfd ready{log_.get(), POLLIN, 0};
      const Nanoseconds left = deadline - Now();
      if (left <= 0) return Error("not Serving in time; the agent said:\n" + said);
      ::poll(&ready, 1, static_cast<int>(left / kMillisecond) + 1);
      char piece[4096];
      const ssize_t size = ::read(log_.get(), piece, sizeof piece);
      const Nanoseconds now = Now();
      if (size == 0) return Error("the agent ended; it said:\n" + said);
      if (size < 0) continue;
      said.append(piece, static_cast<size_t>(size));
      if (SaysServing(said)) return now;
    }
  }

 private:
  EnclosedAgent(pid_t pid, UniqueFd log) : pid_(pid), log_(std::move(log)) {}

  static bool SaysServing(std::string_view log) {
    const size_t at = log.find("\"to\":\"Serving\"");
    return at != std::string_view::npos && log.find('\n', at) != std::string_view::npos;
  }

  pid_t pid_;
  UniqueFd log_;
};

// A folder that is gone when we are.
class Folder {
 public:
  Folder() {
    char path[] = "/tmp/port-to-serving.XXXXXX";
    MODAL_CHECK(::mkdtemp(path) != nullptr);
    path_ = path;
  }
  ~Folder() {
    ::unlink(stamp().c_str());
    ::rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string stamp() const { return path_ + "/stamp"; }

 private:
  std::string path_;
};

struct Settings {
  std::string agent;
  int starts = 200;
  std::vector<std::string> options;  // of the agent
};

std::optional<Settings> Parse(int argc, char** argv) {
  if (argc < 2) return std::nullopt;
  Settings settings;
  settings.agent = argv[1];
  for (int i = 2; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--starts" && i + 1 < argc) {
      settings.starts = std::atoi(argv[++i]);
    } else {
      settings.options.emplace_back(argv[i]);
    }
  }
  if (settings.starts < 1) return std::nullopt;
  return settings;
}

Result<Nanoseconds> MeasureOnce(const Settings& settings, const std::string& self,
                                const std::string& stamp_path, Stamp& stamp, int wait_us) {
  std::vector<std::string> command{settings.agent, "--port", std::to_string(kPort), "--log-format",
                                   "json"};
  command.insert(command.end(), settings.options.begin(), settings.options.end());
  for (const std::string& word :
       {std::string("--"), self, std::string(kServe), stamp_path, std::to_string(wait_us)}) {
    command.push_back(word);
  }
  stamp.Set(0);
  Result<EnclosedAgent> agent = EnclosedAgent::Start(command);
  if (!agent) return std::move(agent.error());
  Result<Nanoseconds> serving = agent->AwaitServing();
  if (!serving) return serving;
  if (stamp.Get() == 0) return Error("Serving, but the port is not open yet");
  return *serving - stamp.Get();
}

// The smallest value that at least this share of all values does not exceed.
double Percentile(const std::vector<Nanoseconds>& sorted, double share) {
  const double rank = share * static_cast<double>(sorted.size());
  size_t index = static_cast<size_t>(rank);
  if (index > 0 && static_cast<double>(index) >= rank) --index;
  return static_cast<double>(sorted[std::min(index, sorted.size() - 1)]) / kMillisecond;
}

int Run(const Settings& settings) {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self);
  MODAL_CHECK(length > 0);
  const Folder folder;
  Result<Stamp> stamp = Stamp::Open(folder.stamp());
  if (!stamp) {
    std::fprintf(stderr, "%s\n", stamp.error().message().c_str());
    return 1;
  }
  std::mt19937 random(1);
  std::uniform_int_distribution<int> wait_us(5'000, 300'000);
  std::vector<Nanoseconds> delays;
  for (int i = 0; i < settings.starts; ++i) {
    const Result<Nanoseconds> delay =
        MeasureOnce(settings, std::string(self, static_cast<size_t>(length)), folder.stamp(),
                    *stamp, wait_us(random));
    if (!delay) {
      std::fprintf(stderr, "start %d: %s\n", i + 1, delay.error().message().c_str());
      return 1;
    }
    delays.push_back(*delay);
  }
  std::sort(delays.begin(), delays.end());
  std::printf(
      "port opens -> Serving, in ms (%d starts; the server listens after 5 to 300 ms;\n"
      "from before listen(2) until the log line has been read from the agent's stderr)\n\n"
      "%8s %8s %8s %8s\n%8.2f %8.2f %8.2f %8.2f\n",
      settings.starts, "p50", "p90", "p99", "max", Percentile(delays, 0.5), Percentile(delays, 0.9),
      Percentile(delays, 0.99), Percentile(delays, 1));
  return 0;
}

}  // namespace
}  // namespace modal::bench

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == modal::bench::kServe) {
    return modal::bench::Serve(argv[2], argv[3]);
  }
  const std::optional<modal::bench::Settings> settings = modal::bench::Parse(argc, argv);
  if (!settings) {
    std::fprintf(stderr, "usage: %s AGENT [--starts N] [AGENT OPTION...]\n", argv[0]);
    return 2;
  }
  return modal::bench::Run(*settings);
}
