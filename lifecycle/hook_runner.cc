#include "lifecycle/hook_runner.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

// Only our end is non-blocking: the hook gets an ordinary pipe.
Result<Pipe> NewPipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::FromErrno("pipe", errno);
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return Error::FromErrno("pipe", errno);
  return pipe;
}

Result<UniqueFd> NullInput() {
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (null) return null;
  // No /dev in this image: an empty pipe reads as the end of the file just as well.
  Result<Pipe> pipe = NewPipe();
  if (!pipe) return std::move(pipe.error());
  return std::move(pipe->read);
}

// What only a shell can do: POSIX's special built-in utilities (XCU 2.14), and those that act on
// the shell itself.
bool IsShellBuiltin(const std::string& word) {
  static constexpr std::string_view kBuiltins[] = {
      ".",     ":",     "break",  "cd",     "command",  "continue", "eval",
      "exec",  "exit",  "export", "read",   "readonly", "return",   "set",
      "shift", "times", "trap",   "ulimit", "umask",    "unset",    "wait"};
  return std::find(std::begin(kBuiltins), std::end(kBuiltins), word) != std::end(kBuiltins);
}

// What editors and package managers leave beside a file, mode and all: "migrate~", "migrate.bak",
// "migrate.dpkg-old". As run-parts(8) does for the folders of cron and its like, but that one also
// leaves out every name with a dot, and "10-migrate.sh" shall run.
bool IsLeftover(std::string_view name) {
  constexpr std::string_view kEndings[] = {"~", ".bak", ".orig", ".swp", ".rpmsave", ".rpmnew"};
  return name.starts_with('.') || name.starts_with('#') ||
         name.find(".dpkg-") != std::string_view::npos ||
         std::any_of(std::begin(kEndings), std::end(kEndings),
                     [name](std::string_view ending) { return name.ends_with(ending); });
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

}  // namespace

Hook HookFromCommandLine(const std::string& command_line) {
  const Hook through_shell{command_line, {"/bin/sh", "-c", command_line}};
  if (command_line.find_first_of("|&;<>()$`\\\"'*?[]#~=%{}!\n") != std::string::npos) {
    return through_shell;
  }
  Hook hook{command_line, {}};
  constexpr std::string_view kBlanks = " \t\r";
  for (size_t at = 0;;) {
    const size_t begin = command_line.find_first_not_of(kBlanks, at);
    if (begin == std::string::npos) break;
    at = std::min(command_line.find_first_of(kBlanks, begin), command_line.size());
    hook.argv.push_back(command_line.substr(begin, at - begin));
  }
  return !hook.argv.empty() && IsShellBuiltin(hook.argv[0]) ? through_shell : hook;
}

std::vector<Hook> HooksFromFolder(const std::string& folder, Log& log) {
  std::vector<Hook> hooks;
  std::unique_ptr<DIR, CloseFolder> open(::opendir(folder.c_str()));
  if (!open) {
    if (errno != ENOENT && errno != ENOTDIR) {
      log.Warn("hook.folder", {{"message", Concat(folder, ": ", ::strerror(errno))}});
    }
    return hooks;
  }
  while (const dirent* entry = ::readdir(open.get())) {
    const std::string name = entry->d_name;
    const std::string path = folder + "/" + name;
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const bool is_executable = (info.st_mode & 0111) != 0;
    if (IsLeftover(name)) {
      if (!is_executable) continue;  // nobody meant it to run
      log.Warn(
          "hook.folder",
          {{"message", path + " does not run: by its name it is a backup or a temporary file"}});
      continue;
    }
    if (!is_executable) {
      log.Warn("hook.folder",
               {{"message", path + " is not executable and does not run (chmod +x)"}});
      continue;
    }
    hooks.push_back({name, {path}});
  }
  std::sort(hooks.begin(), hooks.end(),
            [](const Hook& a, const Hook& b) { return a.name < b.name; });
  return hooks;
}

HookRunner::HookRunner(event::Loop& loop, Clock& clock, process::Launcher& launcher, Log& log,
                       std::vector<Hook> hooks, Options options,
                       std::function<void(const Outcome&)> on_done)
    : loop_(loop),
      clock_(clock),
      launcher_(launcher),
      log_(log),
      hooks_(std::move(hooks)),
      options_(std::move(options)),
      on_done_(std::move(on_done)) {}

void HookRunner::Run() { StartNext(); }

void HookRunner::Cancel() {
  if (process_) {
    log_.Warn("hook.cut_off", {{"message", "the hook had not returned when everything was ended"},
                               {"hook", hooks_[next_ - 1].name}});
  }
  next_ = hooks_.size();
  on_done_ = nullptr;
  limit_.reset();
  turn_.reset();
  process_.reset();
}

void HookRunner::StartNext() {
  if (next_ == hooks_.size()) return Finish();
  const Hook& hook = hooks_[next_++];
  ++outcome_.run;
  started_ = clock_.Now();
  over_limit_ = false;
  if (Result<void> started = Start(hook); !started) Failed(started.error().message());
}

Result<void> HookRunner::Start(const Hook& hook) {
  Result<UniqueFd> input = NullInput();
  if (!input) return std::move(input.error()).While("hook " + hook.name);
  Result<Pipe> output = NewPipe();
  if (!output) return std::move(output.error()).While("hook " + hook.name);

  process::LaunchSpec spec = options_.how;
  spec.argv = hook.argv;
  spec.session = process::SessionMode::kNewSession;
  spec.fds = {{input->get(), 0}, {output->write.get(), 1}, {output->write.get(), 2}};
  log_.Info("hook.start", {{"hook", hook.name}});
  Result<std::unique_ptr<process::Process>> process =
      launcher_.Launch(spec, [this](ExitStatus status) { OnExit(status); });
  if (!process) return std::move(process.error()).While("hook " + hook.name);
  process_ = *std::move(process);
  sessions_.push_back(process_->pid());
  limit_ = clock_.After(options_.limit, [this] { OnLimit(); });

  auto ended = std::make_shared<OutputPump*>(nullptr);
  Result<std::unique_ptr<OutputPump>> pump = OutputPump::Start(
      loop_, log_, hook.name, std::move(output->read), [this, ended] { Retire(*ended); });
  if (!pump) {
    log_.Warn("hook.output", {{"hook", hook.name}, {"message", pump.error().message()}});
    return {};
  }
  *ended = pump->get();
  pump_ = pump->get();
  pumps_.push_back(*std::move(pump));
  return {};
}

void HookRunner::OnExit(ExitStatus status) {
  const Hook& hook = hooks_[next_ - 1];
  const auto elapsed = std::chrono::duration_cast<Milliseconds>(clock_.Now() - started_);
  limit_.reset();
  if (pump_) pump_->ReadAvailable();
  pump_ = nullptr;
  const bool failed = over_limit_ || !status.ok();
  log_.Write(failed ? LogLevel::kError : LogLevel::kInfo, "hook.exit",
             {{"hook", hook.name}, {"status", status.ToString()}, {"ms", elapsed}});
  if (over_limit_) {
    return Failed(Concat("hook ", hook.name, " did not return within ", options_.limit.count(),
                         " ms and was killed"));
  }
  if (failed) return Failed(Concat("hook ", hook.name, " ended with ", status.ToString()));
  turn_ = clock_.After(Milliseconds(0), [this] {
    process_.reset();
    StartNext();
  });
}

void HookRunner::OnLimit() {
  over_limit_ = true;
  const Hook& hook = hooks_[next_ - 1];
  log_.Error("hook.timeout",
             {{"message", Concat("hook ", hook.name, " ran longer than ", options_.limit.count(),
                                 " ms; its process group is killed")},
              {"hook", hook.name},
              {"limit_ms", options_.limit}});
  if (Result<bool> killed = process_->SignalGroup(SIGKILL); !killed) {
    log_.Warn("hook.kill", {{"hook", hook.name}, {"message", killed.error().message()}});
  }
}

void HookRunner::Failed(std::string why) {
  ++outcome_.failed;
  if (outcome_.first_failure.empty()) outcome_.first_failure = why;
  log_.Error("hook.failed", {{"message", why}});
  turn_ = clock_.After(Milliseconds(0), [this] {
    process_.reset();
    if (options_.stop_at_failure) next_ = hooks_.size();
    StartNext();
  });
}

void HookRunner::Finish() {
  const auto on_done = std::move(on_done_);
  on_done_ = nullptr;
  if (on_done) on_done(outcome_);
}

void HookRunner::Retire(OutputPump* pump) {
  if (pump == pump_) pump_ = nullptr;
  pumps_.remove_if([pump](const std::unique_ptr<OutputPump>& one) { return one.get() == pump; });
}

}  // namespace modal::lifecycle
