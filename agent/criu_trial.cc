#include "agent/criu_trial.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"
#include "agent/process/reaper.h"
#include "snapshot/criu_launch.h"
#include "snapshot/criu_session.h"
#include "snapshot/work_folder.h"

namespace modal {
namespace {

using SteadyClock = std::chrono::steady_clock;

// What the process is told before the dump, and must know after the restore.
constexpr int kMarks = 3;
constexpr int kRemembered = 40;  // its exit code is this and the number of marks
constexpr int kReadyFd = 3;      // closed by the process when it waits for signals

// A signal that is queued, so that none is lost.
int MarkSignal() { return SIGRTMIN; }

Milliseconds Since(SteadyClock::time_point start) {
  return std::chrono::duration_cast<Milliseconds>(SteadyClock::now() - start);
}

// A child of ours; ended with its group when this goes, and reaped.
class Child {
 public:
  Child(process::Reaper& reaper, Milliseconds limit) : reaper_(reaper), limit_(limit) {}
  ~Child() {
    if (!process_ || ended_) return;
    snapshot::EndCriu(*process_);
    (void)AwaitEnd();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  Result<void> Start(process::Launcher& launcher, const process::LaunchSpec& spec) {
    Result<std::unique_ptr<process::Process>> started =
        launcher.Launch(spec, [this](ExitStatus status) { ended_ = status; });
    if (!started) return std::move(started.error());
    process_ = *std::move(started);
    return {};
  }
  void Adopt(process::Launcher& launcher, pid_t pid) {
    ended_.reset();
    process_ = launcher.Adopt(pid, [this](ExitStatus status) { ended_ = status; });
  }

  pid_t pid() const { return process_->pid(); }
  Result<bool> Signal(int number) { return process_->Signal(number); }

  // Nothing if it goes on for longer than the limit.
  std::optional<ExitStatus> AwaitEnd() {
    const SteadyClock::time_point start = SteadyClock::now();
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    while (true) {
      while (reaper_.Collect()) {
      }
      const Milliseconds left = limit_ - Since(start);
      if (ended_ || left.count() <= 0) return ended_;
      const timespec limit{left.count() / 1000, left.count() % 1000 * 1'000'000};
      (void)::sigtimedwait(&child, nullptr, &limit);
    }
  }

 private:
  process::Reaper& reaper_;
  const Milliseconds limit_;
  std::unique_ptr<process::Process> process_;
  std::optional<ExitStatus> ended_;
};

class Trial {
 public:
  Trial(const std::string& criu, const std::string& executable, Milliseconds limit)
      : criu_(criu),
        executable_(executable),
        limit_(limit),
        launcher_(reaper_),
        subject_(reaper_, limit) {}

  Result<CriuTrial> Run() {
    if (Result<void> prepared = Prepare(); !prepared) return std::move(prepared.error());
    if (Result<void> started = StartSubject(); !started) return std::move(started.error());
    const Result<Milliseconds> dump = Dump();
    if (!dump) return dump.error();
    const Result<Milliseconds> restore = Restore();
    if (!restore) return restore.error();
    if (Result<void> asked = AskSubject(); !asked) return std::move(asked.error());
    return CriuTrial{*dump, *restore};
  }

 private:
  Result<void> Prepare() {
    null_.Reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null_) return Error::FromErrno("/dev/null", errno);
    Result<std::unique_ptr<snapshot::WorkFolder>> folder = snapshot::WorkFolder::Make();
    if (!folder) return std::move(folder.error());
    folder_ = *std::move(folder);
    Result<std::string> images = folder_->Sub("images");
    if (!images) return std::move(images.error());
    images_ = *std::move(images);
    return {};
  }

  Result<void> StartSubject() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::FromErrno("pipe", errno);
    const UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    process::LaunchSpec spec;
    spec.executable = executable_;
    spec.argv = {kCriuTrialArgv0};
    spec.workdir = "/";
    spec.fds = {{null_.get(), 0}, {null_.get(), 1}, {null_.get(), 2}, {write_end.get(), kReadyFd}};
    if (Result<void> started = subject_.Start(launcher_, spec); !started) return started;
    write_end.Reset();
    pollfd ready{read_end.get(), POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(limit_.count())) != 1) {
      return Error("the process to be dumped does not start");
    }
    for (int i = 0; i < kMarks; ++i) {
      if (Result<bool> sent = subject_.Signal(MarkSignal()); !sent) return std::move(sent.error());
    }
    return {};
  }

  // Starts CRIU for one call, and ends it.
  template <class Use>
  Result<Milliseconds> WithCriu(const char* work_name, const Use& use) {
    const SteadyClock::time_point start = SteadyClock::now();
    const Result<std::string> work = folder_->Sub(work_name);
    if (!work) return work.error();
    const Result<snapshot::CriuOutput> output = snapshot::OpenCriuOutput(*work);
    if (!output) return output.error();
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
      return Error::FromErrno("prepare a call", errno);
    }
    UniqueFd ours(pair[0]);
    UniqueFd theirs(pair[1]);
    // A CRIU that hangs never answers.
    const timeval limit{limit_.count() / 1000, limit_.count() % 1000 * 1000};
    ::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);

    process::LaunchSpec spec = snapshot::SwrkSpec(criu_, "", theirs.get());
    const int said = output->said.get();
    spec.fds.insert(spec.fds.end(), {{output->input.get(), 0}, {said, 1}, {said, 2}});
    Child criu(reaper_, limit_);
    if (Result<void> started = criu.Start(launcher_, spec); !started) {
      return std::move(started.error());
    }
    theirs.Reset();
    snapshot::CriuSession session(std::move(ours));
    Result<void> done = use(session, *work);
    if (done) return Since(start);
    if (done.error().code() == EAGAIN) {
      return Error(Concat("not done within ", limit_.count(), " ms"));
    }
    return std::move(done.error());
  }

  // CRIU ends it; only then its ids are free.
  Result<Milliseconds> Dump() {
    const auto use = [this](snapshot::CriuSession& criu, const std::string& work) -> Result<void> {
      snapshot::DumpSpec spec;
      spec.images_dir = images_;
      spec.work_dir = work;
      spec.root = subject_.pid();
      spec.leave_running = false;
      const Result<snapshot::CriuTimes> times = criu.Dump(spec);
      if (!times) return times.error();
      return {};
    };
    Result<Milliseconds> took = WithCriu("dump", use);
    if (took && !subject_.AwaitEnd()) return Error("the dumped process goes on");
    return took;
  }

  Result<Milliseconds> Restore() {
    const pid_t pid = subject_.pid();
    const auto use = [this](snapshot::CriuSession& criu, const std::string& work) -> Result<void> {
      snapshot::RestoreSpec spec;
      spec.images_dir = images_;
      spec.work_dir = work;
      const Result<snapshot::Restored> restored = criu.Restore(spec);
      if (!restored) return restored.error();
      return {};
    };
    Result<Milliseconds> took = WithCriu("restore", use);
    // Also where that has failed half-way: it is our child, if it is there at all.
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
      subject_.Adopt(launcher_, pid);
    } else if (took) {
      return Error("the restored process is gone");
    }
    return took;
  }

  Result<void> AskSubject() {
    if (Result<bool> asked = subject_.Signal(SIGTERM); !asked) return std::move(asked.error());
    const std::optional<ExitStatus> ended = subject_.AwaitEnd();
    if (!ended) return Error("the restored process does not answer");
    if (*ended != ExitStatus::Code(kRemembered + kMarks)) {
      return Error("the restored process does not remember: " + ended->ToString());
    }
    return {};
  }

  const std::string criu_;
  const std::string executable_;
  const Milliseconds limit_;
  process::Reaper reaper_;
  process::ProcessLauncher launcher_;
  UniqueFd null_;
  std::unique_ptr<snapshot::WorkFolder> folder_;
  std::string images_;
  Child subject_;
};

}  // namespace

Result<CriuTrial> TryCriu(const std::string& criu, const std::string& executable,
                          Milliseconds limit) {
  return Trial(criu, executable, limit).Run();
}

// Signals are blocked; they wait for us.
int RunCriuTrialProcess() {
  sigset_t wanted;
  ::sigemptyset(&wanted);
  ::sigaddset(&wanted, MarkSignal());
  ::sigaddset(&wanted, SIGTERM);
  ::close(kReadyFd);
  int marks = 0;
  while (true) {
    const int number = ::sigwaitinfo(&wanted, nullptr);
    if (number == MarkSignal()) ++marks;
    if (number == SIGTERM) return kRemembered + marks;
  }
}

}  // namespace modal
