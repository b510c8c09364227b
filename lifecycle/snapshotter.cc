#include "lifecycle/snapshotter.h"

#include <linux/capability.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/process/capabilities.h"
#include "snapshot/criu_launch.h"
#include "snapshot/worker.h"

namespace modal::lifecycle {
namespace {

using snapshot::WorkerReport;
using snapshot::WorkerRequest;

constexpr const char* kCriu = "criu";
constexpr const char* kWorker = "worker";
// With these a CRIU that is not root makes what it restores root's on its way, loses all others by
// that, and fails.
constexpr uint64_t kToChangeUsers = uint64_t{1} << CAP_SETUID | uint64_t{1} << CAP_SETGID;

struct SocketPair {
  UniqueFd first;
  UniqueFd second;
};

Result<SocketPair> MakeSocketPair() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return Error::FromErrno("snapshot: socketpair", errno);
  }
  return SocketPair{UniqueFd(pair[0]), UniqueFd(pair[1])};
}

}  // namespace

Snapshotter::Snapshotter(event::Loop& loop, Clock& clock, process::Launcher& launcher,
                         ProcessTree& tree, Log& log, Options options, std::array<int, 2> standard)
    : loop_(loop),
      clock_(clock),
      launcher_(launcher),
      tree_(tree),
      log_(log),
      options_(std::move(options)),
      standard_(standard) {}

Snapshotter::~Snapshotter() { Cancel(); }

// The helpers
// --------------------------------------------------------------------------------------

Result<void> Snapshotter::Start(snapshot::Job job, Milliseconds limit) {
  job_began_us_ = NowUs();
  work_folder_.reset();
  Result<std::unique_ptr<snapshot::WorkFolder>> folder = snapshot::WorkFolder::Make();
  if (!folder) return std::move(folder.error()).While("snapshot");
  work_folder_ = *std::move(folder);
  job.work_dir = work_folder_->path();
  Result<SocketPair> criu = MakeSocketPair();
  if (!criu) return std::move(criu.error());
  Result<SocketPair> channel = MakeSocketPair();
  if (!channel) return std::move(channel.error());
  // The worker first, which is there at once, and has things to do while CRIU starts.
  if (Result<void> started = StartWorker(job, channel->first.get(), criu->second.get()); !started) {
    return started;
  }
  if (Result<void> started = StartCriu(criu->first.get()); !started) {
    EndHelpers();
    return started;
  }
  channel_ = std::move(channel->second);
  Result<std::unique_ptr<event::Poller>> poller =
      event::Poller::Watch(loop_, channel_.get(), [this](event::Poller::Ready) { OnReadable(); });
  if (!poller) {
    EndHelpers();
    return std::move(poller.error()).While("snapshot");
  }
  poller_ = *std::move(poller);
  poller_->WaitFor(true, false);
  limit_ = clock_.After(limit, [this] { OnLimit(); });
  return {};
}

Result<void> Snapshotter::StartCriu(int socket) {
  process::LaunchSpec spec = snapshot::SwrkSpec(options_.criu, work_folder_->path(), socket);
  // A restored process gets its user and groups back only where CRIU has them already.
  spec.credentials = options_.credentials;
  if (spec.credentials && spec.credentials->uid != ::geteuid()) {
    spec.capabilities = process::CurrentCapabilities().permitted & ~kToChangeUsers;
  } else if (::geteuid() == 0) {
    snapshot::SkipLauncher(spec);
  }
  // In our log its words would be nobody's.
  const Result<snapshot::CriuOutput> output = snapshot::OpenCriuOutput(work_folder_->path());
  if (!output) return Error(output.error()).While("snapshot");
  spec.fds.push_back({output->input.get(), STDIN_FILENO});
  spec.fds.push_back({output->said.get(), STDOUT_FILENO});
  spec.fds.push_back({output->said.get(), STDERR_FILENO});
  int next = snapshot::kCriuFirstDescriptorFd;
  spec.fds.push_back({standard_[0], next++});
  for (int i = 0; i < snapshot::kCriuErrorFds; ++i) spec.fds.push_back({standard_[1], next++});
  return StartHelper(kCriu, spec);
}

Result<void> Snapshotter::StartWorker(const snapshot::Job& job, int channel, int criu) {
  Result<UniqueFd> sealed = snapshot::SealJob(job);
  if (!sealed) return std::move(sealed.error());
  process::LaunchSpec spec;
  spec.personality = snapshot::RunWorker;
  spec.argv = {snapshot::kWorkerArgv0};
  spec.workdir = "/";
  spec.fds.push_back({channel, snapshot::kWorkerChannelFd});
  spec.fds.push_back({sealed->get(), snapshot::kWorkerJobFd});
  spec.fds.push_back({criu, snapshot::kWorkerCriuFd});
  spec.parent_death_signal = SIGKILL;
  return StartHelper(kWorker, spec);
}

Result<void> Snapshotter::StartHelper(const char* name, const process::LaunchSpec& spec) {
  const auto helper = helpers_.insert(helpers_.end(), {name, nullptr});
  Result<std::unique_ptr<process::Process>> process =
      launcher_.Launch(spec, [this, helper](ExitStatus status) { OnHelperExit(helper, status); });
  if (!process) {
    helpers_.erase(helper);
    return std::move(process.error()).While(Concat("snapshot: ", name));
  }
  helper->process = *std::move(process);
  tree_.SpareHelper(helper->process->pid());
  return {};
}

// A worker that has died says so by the end of its channel, and a CRIU to the worker likewise.
void Snapshotter::OnHelperExit(Helpers::iterator helper, ExitStatus status) {
  const pid_t pid = helper->process->pid();
  tree_.ForgetHelper(pid);
  log_.Debug("snapshot.helper",
             {{"name", helper->name}, {"pid", pid}, {"status", status.ToString()}});
  if (helper->name == kCriu && !status.ok()) snapshot::EndCriu(*helper->process);
  helpers_.erase(helper);
}

void Snapshotter::EndHelpers() {
  is_late_ = false;
  pages_lost_.clear();
  limit_.reset();
  poller_.reset();
  channel_.Reset();
  KillHelpers(kWorker);
  KillHelpers(kCriu);
  work_folder_.reset();
}

void Snapshotter::KillHelpers(const char* name) {
  for (const Helper& helper : helpers_) {
    if (helper.name == name) (void)helper.process->Signal(SIGKILL);
  }
}

// The worker hears of CRIU's end at once, if it hears at all.
void Snapshotter::OnLimit() {
  if (on_judged_) return Finish(Error("it could not be noted in time"));
  if (is_late_) return Finish(Error(""));
  is_late_ = true;
  KillHelpers(kCriu);
  limit_ = clock_.After(kWorkerGrace, [this] { OnLimit(); });
}

// Whatever was under way has failed.
void Snapshotter::Finish(Error error) {
  if (is_late_) {
    const Milliseconds limit = on_restored_ ? options_.restore_limit : options_.dump_limit;
    error = Error(Concat("not done within ", limit.count(), " ms"));
    if (!pages_lost_.empty()) error = Error("lazy pages: " + pages_lost_);
  }
  EndHelpers();
  if (on_restored_) return Answer(std::move(error));
  if (std::exchange(criu_dumps_, false)) {
    const DumpEvents dump = std::exchange(dump_, {});
    if (dump.on_broken) dump.on_broken(error);
    return;
  }
  if (on_judged_) return Judged(std::move(error));
  if (dump_.on_resumed) return Resumed(std::move(error));
  if (dump_.on_published) return Published(std::move(error));
  log_.Warn("snapshot.failed", {{"message", error.message()}});
}

void Snapshotter::Answer(Result<Restored> restored) {
  if (const OnRestored on_restored = std::exchange(on_restored_, nullptr)) {
    on_restored(std::move(restored));
  }
}

void Snapshotter::Judged(const Result<Judgement>& judged) {
  if (const OnJudged on_judged = std::exchange(on_judged_, nullptr)) on_judged(judged);
}

void Snapshotter::Resumed(const Result<void>& resumed) {
  const auto on_resumed = std::exchange(dump_.on_resumed, nullptr);
  if (!resumed) dump_ = {};
  if (on_resumed) on_resumed(resumed);
}

void Snapshotter::Published(const Result<void>& published) {
  const DumpEvents dump = std::exchange(dump_, {});
  if (dump.on_published) dump.on_published(published);
}

void Snapshotter::Cancel() {
  has_begun_ = false;
  on_restored_ = nullptr;
  on_judged_ = nullptr;
  dump_ = {};
  criu_dumps_ = false;
  EndHelpers();
}

// What the worker reports
// --------------------------------------------------------------------------

void Snapshotter::OnReadable() {
  WorkerReport report{};
  ssize_t got = 0;
  do {
    got = ::recv(channel_.get(), &report, sizeof report, MSG_DONTWAIT);
    // It has left something unheard; what it has said comes after that.
  } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
  if (got < 0 && errno == EAGAIN) return;
  if (got != static_cast<ssize_t>(sizeof report)) return Finish(Error("the worker has ended"));
  OnReport(report);
}

int64_t Snapshotter::NowUs() const {
  return std::chrono::duration_cast<Microseconds>(clock_.Now().time_since_epoch()).count();
}

// Somebody asks for them in time, or there are too many.
void Snapshotter::TakeOver(const BootTimeline& steps) {
  for (const BootSpan& step : steps.spans()) {
    if (steps_.size() < BootTimeline::kMost) steps_.push_back(step);
  }
}

void Snapshotter::OnReport(const WorkerReport& report) {
  if (report.kind == WorkerReport::Kind::kKey && !report.steps.spans().empty()) {
    const int64_t began_us = report.steps.spans().front().begin_us;
    steps_.push_back({BootStep::kRestoreStart, 0, job_began_us_, began_us});
  }
  TakeOver(report.steps);
  switch (report.kind) {
    case WorkerReport::Kind::kKey:
      return OnKey(report);
    case WorkerReport::Kind::kFound:
      if (on_restored_) {
        has_snapshot_ = true;
        if (report.reason[0] != '\0') {
          log_.Info("snapshot.pages",
                    {{"message", Concat("all at once: ", BoardText(report.reason))}});
        }
        return Tell(WorkerRequest::Kind::kGoOn, report.other != 0 && StartPages() ? 1 : 0, "");
      }
      if (dump_.on_ready) dump_.on_ready();
      return;
    case WorkerReport::Kind::kNothing:
      criu_dumps_ = false;
      if (report.value > 0) has_snapshot_ = true;
      return Finish(Error(std::string(BoardText(report.reason))));
    case WorkerReport::Kind::kAgain:
      EndHelpers();
      if (!on_restored_) {
        criu_dumps_ = false;
        dump_job_.with_keeper = true;
        return StartDump();
      }
      if (report.value != 1) {
        StartRestore(false);
        return Tell(WorkerRequest::Kind::kBegin, 0, "");
      }
      is_again_ = true;
      return Answer(Error("what was begun on a guess is begun anew"));
    case WorkerReport::Kind::kProven:
      has_snapshot_ = true;
      has_proven_ = true;
      return Finish(Error(Concat("there is a proven snapshot: ", BoardText(report.reason))));
    case WorkerReport::Kind::kRestored:
      is_late_ = false;
      limit_.reset();
      Answer(Restored{report.pid, report.other, Milliseconds(report.cold_ms),
                      static_cast<uint64_t>(report.value), pages_ != nullptr});
      if (!pages_lost_.empty()) OnPagesEnd(Error(std::exchange(pages_lost_, {})));
      return;
    case WorkerReport::Kind::kResumed:
      has_snapshot_ = true;
      criu_dumps_ = false;
      log_.Info("snapshot.dumped", {{"key", key_}, {"frozen_ms", report.value}});
      return Resumed({});
    case WorkerReport::Kind::kDone:
      return Done(BoardText(report.text), BoardText(report.reason), report.value);
    case WorkerReport::Kind::kFailed:
      if (report.value != 1) criu_dumps_ = false;
      return Finish(Error(std::string(BoardText(report.reason))));
  }
  Finish(Error("the worker has said something that nobody understands"));
}

// A snapshot of so many bytes is there, or one has been judged by its restore.
void Snapshotter::Done(std::string_view standing, std::string_view message, int64_t bytes) {
  if (standing.empty()) {
    log_.Info("snapshot.done", {{"key", key_}, {"bytes", bytes}});
  } else {
    log_.Info("snapshot.done", {{"key", key_}, {"standing", standing}, {"message", message}});
  }
  Judgement judgement{std::string(standing), std::string(message)};
  EndHelpers();
  if (on_judged_) return Judged(std::move(judgement));
  Published({});
}

// False: it goes without, eagerly.
bool Snapshotter::StartPages() {
  are_all_in_ = false;
  served_.reset();
  pages_ = std::make_unique<PageHelper>(
      loop_, launcher_, tree_, log_,
      [this](const Result<PageHelper::AllIn>& end) { OnPagesEnd(end); });
  const Result<void> started = pages_->Start(options_.executable, work_folder_->path());
  if (started) return true;
  pages_.reset();
  log_.Warn("snapshot.pages", {{"message", started.error().message()}});
  return false;
}

// A restore that is under way ends with CRIU, and the worker notes in its folder that it has
// failed.
void Snapshotter::OnPagesEnd(const Result<PageHelper::AllIn>& end) {
  const std::optional<Milliseconds> served = std::exchange(served_, std::nullopt);
  if (end) {
    if (served) Tell(WorkerRequest::Kind::kServed, served->count(), "");
    log_.Info("snapshot.pages",
              {{"pages", end->pages}, {"faults", end->faults}, {"ms", end->took}});
  } else if (on_restored_) {
    pages_lost_ = end.error().message();
    if (!is_late_) OnLimit();
    return;
  }
  are_all_in_ = true;
  if (on_memory_) on_memory_(end);
}

void Snapshotter::OnKey(const WorkerReport& report) {
  key_ = BoardText(report.text);
  image_identity_ = BoardText(report.reason);
  if (key_.empty()) {
    return Finish(Error(Concat("no identity of the image: ", BoardText(report.reason),
                               "; write one with --snapshot-key")));
  }
  log_.Debug("snapshot.key", {{"key", key_}, {"image", image_identity_}});
}

void Snapshotter::Tell(WorkerRequest::Kind kind, int64_t value, const std::string& text) {
  if (!channel_) return;
  WorkerRequest request{};
  request.kind = kind;
  request.value = value;
  SetBoardText(request.text, text);
  if (::send(channel_.get(), &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    log_.Warn("snapshot.failed",
              {{"message", Error::FromErrno("tell the worker", errno).message()}});
  }
}

// What the supervisor asks for
// ---------------------------------------------------------------------

void Snapshotter::Begin() {
  if (!std::exchange(has_begun_, true)) StartRestore(!std::exchange(is_again_, false));
}

void Snapshotter::Restore(OnRestored on_restored) {
  on_restored_ = std::move(on_restored);
  Begin();
  has_begun_ = false;
  Tell(WorkerRequest::Kind::kBegin, 0, "");
}

void Snapshotter::StartRestore(bool guesses) {
  pages_.reset();
  snapshot::Job job = options_.job;
  job.guesses = guesses;
  if (!guesses) job.image_identity = image_identity_;
  job.kind = snapshot::JobKind::kRestore;
  job.raise_pids = options_.dumps;
  job.creates = options_.creates;
  if (Result<void> started = Start(job, options_.restore_limit); !started) {
    // From the loop, as everything else.
    limit_ = clock_.After(Milliseconds(0),
                          [this, why = started.error().message()] { Finish(Error(why)); });
  }
}

// What its pages are worth is known when all of them have been read.
void Snapshotter::RestoreServed(Milliseconds ready, OnJudged on_judged) {
  if (pages_ && !are_all_in_) {
    served_ = ready;
    on_judged_ = std::move(on_judged);
    return;
  }
  Tell(WorkerRequest::Kind::kServed, ready.count(), "");
  AwaitJudgement(std::move(on_judged));
}

void Snapshotter::RestoreFailed(const std::string& why, OnJudged on_judged) {
  Tell(WorkerRequest::Kind::kUseless, 0, why);
  AwaitJudgement(std::move(on_judged));
}

// A worker that is gone already is told of from the loop, as everything else.
void Snapshotter::AwaitJudgement(OnJudged on_judged) {
  if (!on_judged) return;
  on_judged_ = std::move(on_judged);
  limit_ = clock_.After(channel_ ? kJudgeLimit : Milliseconds(0), [this] { OnLimit(); });
}

bool Snapshotter::WantsDump() const {
  return options_.dumps && !key_.empty() && (options_.creates || !has_snapshot_);
}

void Snapshotter::Dump(const Tree& tree, DumpEvents events) {
  dump_ = std::move(events);
  snapshot::Job& job = dump_job_ = options_.job;
  job.kind = tree.ends ? snapshot::JobKind::kCreate : snapshot::JobKind::kDump;
  job.key = key_;
  job.image_identity = image_identity_;
  job.root = tree.root;
  job.workload = tree.workload;
  job.listening = tree.listening;
  job.cold_ms = tree.cold.count();
  job.hooks_ms = tree.hooks.count();
  StartDump();
}

void Snapshotter::StartDump() {
  if (Result<void> started = Start(dump_job_, options_.dump_limit); !started) {
    limit_ = clock_.After(Milliseconds(0),
                          [this, why = started.error().message()] { Finish(Error(why)); });
  }
}

void Snapshotter::Proceed() {
  criu_dumps_ = true;
  Tell(WorkerRequest::Kind::kGoOn, 0, "");
}

}  // namespace modal::lifecycle
