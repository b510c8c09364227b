// Runs the real agent, enclosed in PID, mount and network namespaces of its own, and tells what it
// does. Port 8000 is free in each, /run, /tmp and /dev/shm are empty, and when the test ends,
// whatever is left in there is killed by the kernel.
//
// The test's folder is seen as /mnt from inside. It holds the agent (/mnt/modal-agent), the
// programs of tests/programs (/mnt/bin), the files that the options ask for, and the FIFO through
// which the programs report (see programs/report.h).
//
// Every Wait…() returns as soon as what it waits for has happened, however long ago that was. After
// the deadline it fails the test. A failed test prints what the agent said.
//
// With MODAL_TEST_KEPT in the environment snapshots are on (and there are none), so that everything
// is started below a keeper.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.h"

namespace modal::test {

// Where things are, and how slow they are; tests/integration/main.cc has it from the build.
struct TestSettings {
  std::string agent;     // the binary
  std::string programs;  // the folder of the programs
  bool sanitized = false;
  std::chrono::seconds deadline{20};
};
const TestSettings& Settings();

// One line of the agent's log.
struct LogEvent {
  std::string name;
  std::map<std::string, std::string> fields;
  size_t position = 0;  // among all lines: what was said before has a smaller one

  std::string operator[](const std::string& field) const;  // empty if there is none
};
using LogFields = std::map<std::string, std::string>;

struct AgentOptions {
  // File in the test's folder; `mode` as for chmod.
  struct File {
    std::string path;
    std::string text;
    mode_t mode = 0755;
  };
  // What a standard stream of the agent is.
  enum class Stream {
    kPipe,      // read by the harness (standard input: /dev/null)
    kTerminal,  // a pseudo-terminal, the same for all three; the controlling one
    kFull,      // a pipe that is full, and stays so until ReadFrom…() is called
    kClosed,
  };

  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // beside PATH and REPORT
  std::vector<File> files;
  Stream standard_input = Stream::kPipe;
  Stream standard_output = Stream::kPipe;
  Stream standard_error = Stream::kPipe;

  bool process_1 = true;  // else a process like any other
  std::vector<int> blocked_signals;
  std::vector<int> ignored_signals;
  std::vector<int> pending_signals;  // blocked, and sent before the exec
  std::vector<std::pair<int, rlim_t>> limits;
  uid_t uid = 0;  // and gid
  std::string workdir = "/";

  bool read_only = false;                      // the whole file system …
  std::vector<std::string> writable;           // … except these, which are empty and in memory
  std::vector<std::string> missing;            // top-level folders that do not exist
  bool empty_root = false;                     // nothing exists but /mnt
  bool own_root = false;                       // in memory; the real folders are mounts in it
  std::map<std::string, std::string> replace;  // path: the text that stands there instead
  std::vector<uint16_t> taken_ports;  // somebody outside listens there: 0.0.0.0, never accepting
};

struct HttpAnswer {
  int status = 0;  // 0: there was none
  std::string head;
  std::string body;
};

struct RunResult {
  int code = -1;
  std::string output;  // both streams
};

struct ProcessSeen {
  pid_t pid = 0;       // as seen inside
  pid_t host_pid = 0;  // as seen by the test
  pid_t parent = 0;    // as seen inside; 0: outside
  char state = '?';
  std::string command;  // its arguments, separated by spaces; empty for a zombie
};

// A TCP connection to something inside.
class Client {
 public:
  Client() = default;
  explicit Client(UniqueFd socket) : socket_(std::move(socket)) {}
  explicit operator bool() const { return static_cast<bool>(socket_); }
  int fd() const { return socket_.get(); }

  bool Send(std::string_view bytes);
  bool Request(const std::string& path);  // GET, keep-alive
  HttpAnswer ReadAnswer();                // one answer, by its Content-Length
  bool WaitForClose();                    // reads until the peer closes; false: it did not
  void Close() { socket_.Reset(); }

 private:
  UniqueFd socket_;
};

class AgentProcess {
 public:
  explicit AgentProcess(AgentOptions options);
  ~AgentProcess();
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;

  // The `count`th line of the log that has this name and all of these fields.
  LogEvent WaitFor(const std::string& event, const LogFields& fields = {}, size_t count = 1);
  LogEvent WaitForPhase(const std::string& phase, size_t count = 1);
  size_t Count(const std::string& event, const LogFields& fields = {}) const;
  // Such a line that has been said already; fails if there is none.
  LogEvent Find(const std::string& event, const LogFields& fields = {}) const;
  const std::vector<LogEvent>& log() const { return log_; }

  // The `count`th report of a test program: "listener signal TERM".
  void WaitForReport(const std::string& line, size_t count = 1);
  size_t CountReports(const std::string& line) const;
  std::string WaitForReportStartingWith(const std::string& start);
  const std::vector<std::string>& reports() const { return reports_; }

  // Standard output (with a terminal: whatever is written to it), so far.
  const std::string& output() const { return output_; }
  void WaitForOutput(const std::string& text);
  // Standard error as it is, log included.
  const std::string& error_output() const { return error_output_; }
  void ReadFromOutput() { output_is_read_ = true; }
  void ReadFromError() { error_is_read_ = true; }
  // As if whoever reads the log, or sits at the terminal, had gone.
  void CloseError() { error_fd_.Reset(); }
  void CloseTerminal() { terminal_.Reset(); }

  void WaitUntil(const std::string& what, const std::function<bool()>& condition);

  void Signal(int number);
  void SignalInside(const ProcessSeen& process, int number);
  // The program that calls itself `name` in its reports; waits until it has.
  void SignalProgram(const std::string& name, int number);
  void Type(std::string_view keys);  // on the terminal

  // Waits for its end: the exit code, or minus the signal's number. What was written before is in
  // output(), log() and reports() then.
  int WaitForExit();
  bool HasEnded();
  size_t PeakMemoryKiB() const;      // the most that was resident at once
  size_t ResidentMemoryKiB() const;  // now
  size_t OpenDescriptors() const;
  // Whether it blocks this signal by now: before that, the kernel drops it if we are process 1.
  bool Blocks(int number) const;
  // Whether a test program still runs. (They hold the FIFO open.)
  bool ProgramsLeft();
  // Waits until nobody is left inside: beside process 1, the agent's end is nobody else's.
  void WaitUntilNobodyIsLeft();
  // Everybody inside, except the place holder where the agent is not process 1.
  std::vector<ProcessSeen> Processes() const;
  // Those whose arguments start with `command`.
  std::vector<ProcessSeen> Processes(const std::string& command) const;

  // A connection; empty if it was refused.
  Client Connect(uint16_t port, const std::string& address = "127.0.0.1");
  HttpAnswer Get(uint16_t port, const std::string& path, const std::string& address = "127.0.0.1");
  // A program that runs beside the agent, as `docker exec` does it. A first word without a '/' is
  // searched in PATH; "modal-agent" is the agent's own binary.
  RunResult Run(std::vector<std::string> arguments);
  // The same, but out of the agent's sight: with its network and files, not among its processes.
  // (During a stop, process 1 tells everybody whom it sees to end.)
  RunResult RunUnseen(std::vector<std::string> arguments);

  std::string ReadFile(const std::string& path) const;
  bool FileExists(const std::string& path) const;
  // Writes `text` into a file or FIFO of the test's folder.
  void WriteFile(const std::string& path, const std::string& text);
  pid_t pid() const { return agent_.pid; }  // as seen by the test

 private:
  struct Child {
    pid_t pid = 0;
    UniqueFd pidfd;
    bool reaped = false;
  };

  void MakeFolder();
  void MakeStreams();
  void TakePorts();
  void Start();
  Child StartFirst(UniqueFd& gate);
  Child StartSecond(UniqueFd& gate);
  void AwaitGate(int gate, bool until_closed);
  void Pump(int milliseconds);
  void TakeTheRest();
  void TakeErrorOutput(std::string_view bytes);
  RunResult RunIn(int namespaces, std::vector<std::string> arguments);
  void Kill(Child& child);
  std::string Told() const;
  [[noreturn]] void Fail(const std::string& what) const;

  AgentOptions options_;
  std::string folder_;
  UniqueFd terminal_;
  UniqueFd output_fd_, error_fd_, report_fd_, report_writer_;
  UniqueFd child_streams_[3];
  UniqueFd network_;
  std::vector<UniqueFd> taken_;
  Child first_;  // process 1 inside: the agent, or a place holder
  Child agent_;
  int exit_code_ = -1;
  bool rest_taken_ = false;
  bool output_is_read_ = true;
  bool error_is_read_ = true;
  std::string output_;
  std::string error_output_;
  size_t error_parsed_ = 0;
  std::string report_rest_;
  std::vector<LogEvent> log_;
  std::vector<std::string> reports_;
};

// Options whose arguments are these; the common case.
AgentOptions With(std::vector<std::string> arguments);

// A user of whom nobody else has processes, for limits that are counted by user. Up to 4 a test.
uid_t OwnUser(uid_t number);

// Where the programs are, as seen from inside.
inline constexpr const char* kListener = "/mnt/bin/listener";
inline constexpr const char* kEnding = "/mnt/bin/ending";
inline constexpr const char* kOrphans = "/mnt/bin/orphans";
inline constexpr const char* kDaemonise = "/mnt/bin/daemonise";
inline constexpr const char* kForkstorm = "/mnt/bin/forkstorm";
inline constexpr const char* kFlood = "/mnt/bin/flood";
inline constexpr const char* kCriu = "/mnt/bin/criu";

inline bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// True once a check of the running test case has failed (set by tests/integration/main.cc).
bool& CurrentTestFailed();

}  // namespace modal::test
