#include "snapshot/worker.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "agent/process/file_user.h"
#include "snapshot/changed_files.h"
#include "snapshot/criu_session.h"
#include "snapshot/hazards.h"
#include "snapshot/image_check.h"
#include "snapshot/kernel_cache.h"
#include "snapshot/page_sums.h"
#include "snapshot/pages_choice.h"
#include "snapshot/pids.h"
#include "snapshot/restorable.h"
#include "snapshot/tree.h"
#include "snapshot/unlinked_files.h"
#include "snapshot/userfaultfd.h"

namespace modal::snapshot {
namespace {

constexpr const char* kCarriedFiles = "files.tar";

int64_t UptimeMs() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// As the supervisor's clock.
int64_t SteadyUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<Microseconds>(now).count();
}

int64_t UnixMs() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

WorkerReport NewReport(WorkerReport::Kind kind) {
  WorkerReport report{};
  report.kind = kind;
  report.value = -1;
  report.cold_ms = -1;
  return report;
}

// Removes what is there and has not proved itself: it was tried, or cannot be.
Result<void> MakeWay(Store& store, const std::string& key) {
  {
    const Result<std::optional<Store::Found>> found = store.Find(key);
    if (found && !*found) return {};
    const Result<Verdict> verdict = store.ReadVerdict(key);
    if (found && verdict && verdict->standing == Standing::kProven) return {};
  }
  return store.Delete(key);
}

// Where a restore that has failed is followed by a dump.
Result<void> PrepareAnother(const Job& job) {
  return job.creates && job.raise_pids ? RaisePids() : Result<void>();
}

// What is known before the dump.
Manifest NewManifest(const Job& job) {
  Manifest manifest;
  manifest.key = job.key;
  manifest.agent_version = job.inputs.agent_version;
  manifest.criu_build = job.inputs.criu_build;
  manifest.kernel = job.inputs.kernel;
  manifest.image_identity = job.image_identity;
  manifest.command = job.inputs.command;
  KeyInputs inputs = job.inputs;
  inputs.image.text = job.image_identity;
  for (const auto& [name, hash] : MakeKey(inputs).variables) manifest.variables.push_back(name);
  manifest.root = job.root;
  manifest.workload = job.workload;
  manifest.capabilities = job.inputs.capabilities;
  manifest.uid = job.inputs.uid;
  manifest.gid = job.inputs.gid;
  manifest.listening = job.listening;
  manifest.times.cold_ms = job.cold_ms;
  manifest.times.hooks_ms = job.hooks_ms;
  return manifest;
}

}  // namespace

// The key of this container. What the identity of the image has to look at it looks at beside our
// other work.
class KeyInquiry {
 public:
  // The job must outlive it.
  explicit KeyInquiry(const Job& job) : job_(job) {
    const auto identify = [&job] {
      return IdentifyImage(job.explicit_key, kStampFile, job.fingerprint);
    };
    if (job.explicit_key.empty()) {
      later_ = std::async(std::launch::async, identify);
    } else {
      image_ = identify();
    }
  }

  bool takes_time() const { return later_.valid(); }
  bool is_told() const { return is_told_; }

  const Result<ImageIdentity>& Await() {
    if (later_.valid()) image_ = later_.get();
    is_told_ = true;
    if (*image_) key_ = KeyFor((*image_)->text);
    return *image_;
  }
  // Null: there is none, or Await() has not been called.
  const Key* key() const { return key_ ? &*key_ : nullptr; }

  // The key that we have if this is the identity of the image.
  Key KeyFor(const std::string& image_identity) const {
    KeyInputs inputs = job_.inputs;
    inputs.image.text = image_identity;
    return MakeKey(inputs);
  }

 private:
  const Job& job_;
  std::future<Result<ImageIdentity>> later_;
  std::optional<Result<ImageIdentity>> image_;
  std::optional<Key> key_;
  bool is_told_ = false;
};

void Worker::Do(const Job& job) {
  const bool restores = job.kind == JobKind::kRestore;
  const Result<void> done = restores ? Restore(job) : Dump(job);
  if (done) return;
  StepFailed();
  WorkerReport report = NewReport(WorkerReport::Kind::kFailed);
  report.value = !restores && criu_.HasLeftTreeSuspect() ? 1 : 0;
  SetBoardText(report.reason, done.error().message());
  Tell(report);
}

void Worker::Nothing(std::string_view reason, bool has_snapshot) {
  WorkerReport report = NewReport(WorkerReport::Kind::kNothing);
  report.value = has_snapshot ? 1 : 0;
  SetBoardText(report.reason, reason);
  Tell(report);
}

void Worker::Enter(BootStep step) { steps_.Enter(step, SteadyUs()); }

void Worker::StepFailed() {
  steps_.Fail();
  steps_.End(SteadyUs());
}

void Worker::Tell(WorkerReport report) {
  steps_.End(SteadyUs());
  report.steps = std::exchange(steps_, BootTimeline());
  channel_.Report(report);
}

// Restore
// ------------------------------------------------------------------------------------------

Result<void> Worker::Restore(const Job& job) {
  KeyInquiry inquiry(job);
  const bool guesses = inquiry.takes_time() && job.guesses && !job.creates;
  Enter(guesses ? BootStep::kRestoreFind : BootStep::kRestoreIdentity);
  // A folder that takes no writing is as good to restore from; only what came of it is not noted.
  Result<std::unique_ptr<Store>> store = Store::Open(job.folder, Store::Use::kWrite);
  if (!store) store = Store::Open(job.folder, Store::Use::kRead);
  if (store && guesses) {
    if (const std::optional<Store::Found> likely = FindLikely(inquiry, **store)) {
      return RestoreFound(job, **store, *likely, inquiry);
    }
    // A cold start, most likely: there is time for this now, and it harms no restore.
    if (job.raise_pids) (void)RaisePids();
    Enter(BootStep::kRestoreIdentity);
  }
  const Key* key = TellKey(inquiry);
  if (!key) return {};
  Enter(BootStep::kRestoreFind);
  if (!store) return Cold(job, store.error().message());
  Result<std::optional<Store::Found>> found = FindOurs(job, **store, *key);
  if (!found) return std::move(found.error());
  if (!*found) return {};
  return RestoreFound(job, **store, **found, inquiry);
}

// The key, once it is known, is told once. Null: there is none, as has been told too.
const Key* Worker::TellKey(KeyInquiry& inquiry) {
  if (inquiry.is_told()) return inquiry.key();
  WorkerReport report = NewReport(WorkerReport::Kind::kKey);
  const Result<ImageIdentity>& image = inquiry.Await();
  if (!image) {
    StepFailed();
    SetBoardText(report.reason, image.error().message());
  } else {
    SetBoardText(report.text, inquiry.key()->text);
    SetBoardText(report.reason, image->text);
  }
  Tell(report);
  return inquiry.key();
}

Result<void> Worker::Cold(const Job& job, std::string_view why) {
  if (job.raise_pids) {
    Enter(BootStep::kRestorePids);
    if (Result<void> raised = RaisePids(); !raised) return raised;
  }
  Nothing(why, false);
  return {};
}

// The youngest snapshot that is ours if the image has not changed since.
std::optional<Store::Found> Worker::FindLikely(const KeyInquiry& inquiry, Store& store) {
  return store.FindYoungest([&](const Manifest& manifest) {
    if (inquiry.KeyFor(manifest.image_identity).text != manifest.key) return false;
    const Result<Verdict> verdict = store.ReadVerdict(manifest.key);
    return verdict && WhyNotNow(manifest, *verdict, static_cast<uint64_t>(UptimeMs())).empty();
  });
}

// The snapshot of this key, if it is to be restored; nothing: it is not, and that has been told.
Result<std::optional<Store::Found>> Worker::FindOurs(const Job& job, Store& store, const Key& key) {
  // What is there stays there until somebody deletes it, or it gives way to a new one.
  const auto unused = [&](std::string_view why) -> Result<std::optional<Store::Found>> {
    Result<void> told;
    if (job.creates) {
      told = Cold(job, why);
    } else {
      Nothing(why, true);
    }
    if (!told) return std::move(told.error());
    return std::optional<Store::Found>();
  };
  Result<std::optional<Store::Found>> found = store.Find(key.text);
  if (!found) {
    const std::string why = found.error().message();
    (void)store.ChangeVerdict(
        key.text, [&why](Verdict verdict) { return AfterFailure(std::move(verdict), why); });
    return unused(why);
  }
  if (!*found) {
    if (Result<void> cold = Cold(job, "there is no snapshot of this key yet"); !cold) {
      return std::move(cold.error());
    }
    return found;
  }
  // One that is damaged is as none.
  const Result<Verdict> verdict = store.ReadVerdict(key.text);
  if (job.creates && verdict && verdict->standing == Standing::kProven) {
    WorkerReport report = NewReport(WorkerReport::Kind::kProven);
    SetBoardText(report.reason, verdict->reason);
    Tell(report);
    return std::optional<Store::Found>();
  }
  const std::vector<std::string> why = WhyNotNow((*found)->manifest, verdict ? *verdict : Verdict(),
                                                 static_cast<uint64_t>(UptimeMs()));
  if (why.empty()) return found;
  return unused("there is a snapshot, but " + why.front());
}

// Also sees to it that CRIU knows what it needs to. An Error: they would be better, but cannot be.
Result<bool> Worker::PrepareLazyPages(const Job& job, Store& store, const Manifest& manifest) {
  const Result<Verdict> verdict = store.ReadVerdict(manifest.key);
  if (!WantsLazyPages(job.pages, manifest, verdict ? *verdict : Verdict())) return false;
  const Result<uint64_t> features = ProbeUserfaultfd();
  if (!features) return features.error();
  if (Result<void> put = PutUserfaultfdInto(job.work_dir, *features); !put) {
    return std::move(put.error());
  }
  return true;
}

// `found` may turn out to be another key's. Until it is known to be ours nothing outside of the
// work folder is touched, and CRIU makes no process.
Result<void> Worker::RestoreFound(const Job& job, Store& store, const Store::Found& found,
                                  KeyInquiry& inquiry) {
  enum class Asked { kNotYet, kOurs, kAnother, kNobody, kAlone };
  const Manifest& manifest = found.manifest;
  (void)CopyKernelCache(found.path, job.work_dir);
  const Result<bool> lazy = PrepareLazyPages(job, store, manifest);
  const bool may_be_lazy = lazy && *lazy;
  std::optional<ImageCheck> check;
  check.emplace(found.path, manifest.files, !may_be_lazy);

  RestoreSpec spec;
  Asked asked = Asked::kNotYet;
  const auto ask = [&]() -> Result<void> {
    if (!inquiry.is_told()) Enter(BootStep::kRestoreIdentity);
    const Key* key = TellKey(inquiry);
    asked = !key ? Asked::kNobody : key->text == manifest.key ? Asked::kOurs : Asked::kAnother;
    if (asked != Asked::kOurs) return Error("it is not the snapshot of this container");
    WorkerReport report = NewReport(WorkerReport::Kind::kFound);
    report.value = static_cast<int64_t>(manifest.TotalBytes());
    report.other = may_be_lazy ? 1 : 0;
    if (!lazy) SetBoardText(report.reason, lazy.error().message());
    report.cold_ms = manifest.times.cold_ms;
    Tell(report);
    const Result<WorkerRequest> go = channel_.Await();
    if (!go) {
      asked = Asked::kAlone;
      return go.error();
    }
    spec.lazy = may_be_lazy && go->value != 0;
    if (may_be_lazy && !spec.lazy) check.emplace(found.path, manifest.files);
    return {};
  };
  std::optional<Result<void>> carried;
  const auto carry = [&] {
    Enter(BootStep::kRestoreFiles);
    carried = CarryBack(found);
  };
  spec.on_moment = [&](CriuMoment moment) {
    if (moment == CriuMoment::kInPlace) Enter(BootStep::kRestoreResume);
    if (moment != CriuMoment::kUp) return;
    // It reads images now, which takes about as long.
    if (asked == Asked::kOurs) carry();
    if (!carried || *carried) Enter(BootStep::kRestoreImages);
  };
  // What CRIU reads of its memory is compared meanwhile; nothing of the tree runs before that is
  // done. What comes lazily is compared by whoever brings it.
  spec.before_running = [&]() -> Result<void> {
    if (!spec.lazy) return check->AwaitMemory();
    return CheckEagerPages(spec.images_dir, static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
  };
  spec.before_processes = [&]() -> Result<void> {
    if (asked == Asked::kNotYet) {
      if (Result<void> ours = ask(); !ours) return ours;
    }
    if (!carried) carry();
    if (!*carried) return *carried;
    Enter(BootStep::kRestoreMemory);
    return {};
  };
  spec.images_dir = found.path + "/images";
  spec.work_dir = job.work_dir;
  int next_error = kCriuFirstDescriptorFd + 1;
  for (const DumpedDescriptor& descriptor : manifest.descriptors) {
    const int fd = descriptor.fd == STDOUT_FILENO ? kCriuFirstDescriptorFd : next_error++;
    spec.descriptors.push_back({descriptor.id, fd});
  }
  // While it starts. What brings memory lazily has to be there before CRIU is told.
  Result<void> ready;
  if (inquiry.is_told() || may_be_lazy) ready = ask();
  if (ready) {
    Enter(BootStep::kRestoreCriu);
    ready = check->AwaitOthers();
  }
  Result<Restored> restored =
      ready ? criu_.Restore(spec) : Result<Restored>(std::move(ready.error()));
  if (asked == Asked::kNotYet) {
    if (restored) restored = Error("criu has restored it without asking");
    StepFailed();
    (void)ask();
  }
  if (asked == Asked::kNobody) return {};
  if (asked == Asked::kAlone) return std::move(restored.error());
  if (asked == Asked::kAnother) return GuessedWrong(job, store, inquiry);
  if (!restored) {
    StepFailed();
    const std::string why = TakenBack(restored.error().message());
    (void)store.ChangeVerdict(
        manifest.key, [&why](Verdict verdict) { return AfterFailure(std::move(verdict), why); });
    if (Result<void> ready_again = PrepareAnother(job); !ready_again) return ready_again;
    return Error(why);
  }
  WorkerReport report = NewReport(WorkerReport::Kind::kRestored);
  report.pid = restored->root;
  report.other = manifest.workload;
  const uint64_t memory = spec.lazy ? MemoryBytes(manifest) : restored->times.pages * 4096;
  report.value = static_cast<int64_t>(memory);
  report.cold_ms = manifest.times.cold_ms;
  Tell(report);
  return AwaitVerdict(job, store, manifest);
}

// CRIU serves one call, and that one is over.
Result<void> Worker::GuessedWrong(const Job& job, Store& store, const KeyInquiry& inquiry) {
  Enter(BootStep::kRestoreFind);
  Result<std::optional<Store::Found>> found = FindOurs(job, store, *inquiry.key());
  if (!found) return std::move(found.error());
  if (*found) Tell(NewReport(WorkerReport::Kind::kAgain));
  return {};
}

Result<void> Worker::CarryBack(const Store::Found& found) {
  const bool has_files = found.manifest.carried_files > 0;
  if (!has_files && found.manifest.sockets.empty()) return {};
  UniqueFd file;
  if (has_files) {
    const std::string path = found.path + "/" + kCarriedFiles;
    file.Reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) return Error::FromErrno(path, errno);
  }
  Result<ReplacedFiles> replaced = ReplacedFiles::Note(root_, file.get(), found.manifest.sockets);
  if (!replaced) return std::move(replaced.error());
  replaced_ = *std::move(replaced);
  return has_files ? PutBackFiles(root_, file.get()) : Result<void>();
}

// The cold start that follows finds the root as it was. Returns why that is, and what else failed.
std::string Worker::TakenBack(std::string why) {
  if (!replaced_) return why;
  const Result<void> taken = replaced_->TakeBack();
  replaced_.reset();
  return taken ? why : Concat(why, "; files that came with it are left: ", taken.error().message());
}

// How long it took until it served, or that it did not.
Result<void> Worker::AwaitVerdict(const Job& job, Store& store, const Manifest& manifest) {
  const Result<WorkerRequest> told = channel_.Await();
  if (!told) return {};  // the container ends before anybody could know
  const bool served = told->kind == WorkerRequest::Kind::kServed;
  const std::string why = served ? "" : TakenBack(std::string(BoardText(told->text)));
  const Milliseconds cold(manifest.times.cold_ms);
  const Result<Verdict> verdict = store.ChangeVerdict(manifest.key, [&](Verdict before) {
    return served ? AfterRestore(std::move(before), Milliseconds(told->value), cold)
                  : AfterFailure(std::move(before), why);
  });
  if (!verdict) return verdict.error();
  if (told->kind == WorkerRequest::Kind::kUseless) {
    if (Result<void> ready = PrepareAnother(job); !ready) return ready;
  }
  WorkerReport report = NewReport(WorkerReport::Kind::kDone);
  SetBoardText(report.text, StandingName(verdict->standing));
  SetBoardText(report.reason, verdict->reason);
  Tell(report);
  return {};
}

// Dump
// ---------------------------------------------------------------------------------------------

Result<void> Worker::Dump(const Job& job) {
  Result<std::unique_ptr<Store>> store = Store::Open(job.folder, Store::Use::kWrite);
  if (!store) return std::move(store.error());
  if (job.kind == JobKind::kCreate) {
    if (Result<void> made = MakeWay(**store, job.key); !made) return made;
  }
  Result<std::unique_ptr<Staging>> staging = (*store)->Stage(job.key);
  if (!staging) return std::move(staging.error());
  if (!*staging) {
    Nothing("there is a snapshot of this key, or somebody makes one at this moment", true);
    return {};
  }
  return DumpInto(job, **store, *std::move(staging));
}

Result<void> Worker::DumpInto(const Job& job, Store& store, std::unique_ptr<Staging> staging) {
  const ScanSpec scan{root_, job.since_ns, job.left_out};
  // Looked at twice: now, so that the second look, while everything stands still, is quick; and so
  // that what cannot be dumped is known before anybody is disturbed.
  Result<ChangedFiles> changed = ScanChangedFiles(scan);
  if (!changed) return std::move(changed.error());
  if (changed->bytes > kMaxCarried) {
    return Error(Concat("files that the start has written are ", changed->bytes >> 20,
                        " MiB, more than travel with a snapshot (", kMaxCarried >> 20,
                        " MiB); keep them on a volume"));
  }
  Result<TreeFacts> facts = LookAtTree(job.root, ::getppid(), job.inputs.uid, job.inputs.gid);
  if (!facts) return std::move(facts.error());
  if (facts->descriptors.size() > size_t{kCriuErrorFds}) {
    return Error(Concat(facts->descriptors.size(),
                        " pipes lead out of the process tree (of hooks whose servers go on), more "
                        "than can be put in their place again"));
  }
  const HazardSpec hazards{root_, job.since_ns};
  if (Result<void> none = FindHazard(hazards, *changed, facts->files); !none) return none;
  Tell(NewReport(WorkerReport::Kind::kFound));
  const Result<WorkerRequest> go = channel_.Await();
  if (!go) return go.error();

  Manifest manifest = NewManifest(job);
  manifest.processes = std::move(facts->processes);
  manifest.descriptors = std::move(facts->descriptors);
  manifest.sockets = std::move(facts->sockets);

  DumpSpec spec;
  spec.images_dir = staging->images_dir();
  spec.work_dir = job.work_dir;
  spec.root = manifest.root;
  spec.leave_running = job.kind == JobKind::kDump;
  UnlinkedFiles unlinked;
  spec.when_frozen = [&]() -> Result<void> {
    const process::FileUser user(manifest.uid, manifest.gid);
    unlinked.Open(manifest.root);
    return {};
  };
  spec.while_frozen = [&]() -> Result<void> {
    {
      const process::FileUser user(manifest.uid, manifest.gid);
      unlinked.PutBack();
    }
    manifest.uptime_ms = static_cast<uint64_t>(UptimeMs());
    manifest.created_unix_ms = UnixMs();
    Result<ChangedFiles> now = ScanChangedFiles(scan);
    if (!now) return std::move(now.error());
    if (now->files.empty()) return {};
    const std::string path = staging->path() + "/" + kCarriedFiles;
    const UniqueFd file(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return Error::FromErrno(path, errno);
    manifest.carried_files = now->files.size();
    manifest.carried_bytes = now->bytes;
    return CarryFiles(scan, *now, file.get(), kMaxCarried);
  };
  spec.on_moment = [this](CriuMoment moment) {
    if (moment == CriuMoment::kFrozen) Enter(BootStep::kDumpFrozen);
  };
  Enter(BootStep::kDumpCriu);
  const int64_t asked = UptimeMs();
  const Result<CriuTimes> times = criu_.Dump(spec);
  if (!times) return times.error();
  manifest.times.dump_ms = UptimeMs() - asked;
  manifest.times.frozen_ms = times->frozen.count();
  WorkerReport report = NewReport(WorkerReport::Kind::kResumed);
  report.value = manifest.times.frozen_ms;
  Tell(report);

  Enter(BootStep::kDumpWritten);
  (void)CopyKernelCache(job.work_dir, staging->path());
  if (Result<void> summed = WritePageSums(staging->images_dir()); !summed) return summed;
  if (Result<void> published = store.Publish(std::move(staging), manifest); !published) {
    return published;
  }
  report = NewReport(WorkerReport::Kind::kDone);
  report.value = static_cast<int64_t>(times->pages) * 4096;
  Tell(report);
  return {};
}

// The personality
// ----------------------------------------------------------------------------------

namespace {

void Say(std::string_view message) {
  ::dprintf(STDERR_FILENO, "%s: %.*s\n", kWorkerArgv0, static_cast<int>(message.size()),
            message.data());
}

class SocketChannel : public WorkerChannel {
 public:
  explicit SocketChannel(UniqueFd socket) : socket_(std::move(socket)) {}

  // A supervisor that is gone is noticed by the next Await().
  void Report(const WorkerReport& report) override {
    (void)::send(socket_.get(), &report, sizeof report, MSG_NOSIGNAL);
  }
  Result<WorkerRequest> Await() override {
    WorkerRequest request{};
    ssize_t got = 0;
    do {
      got = ::recv(socket_.get(), &request, sizeof request, 0);
    } while (got < 0 && errno == EINTR);
    if (got == static_cast<ssize_t>(sizeof request)) return request;
    return Error("the supervisor is gone");
  }

 private:
  UniqueFd socket_;
};

Result<UniqueFd> TakeOver(int number) {
  if (::fcntl(number, F_SETFD, FD_CLOEXEC) == 0) return UniqueFd(number);
  return Error("modal-agent starts this itself, with descriptors of its own");
}

Result<void> Work() {
  Result<UniqueFd> channel = TakeOver(kWorkerChannelFd);
  if (!channel) return std::move(channel.error());
  Result<UniqueFd> job_fd = TakeOver(kWorkerJobFd);
  if (!job_fd) return std::move(job_fd.error());
  Result<UniqueFd> criu_fd = TakeOver(kWorkerCriuFd);
  if (!criu_fd) return std::move(criu_fd.error());
  const Result<Job> job = ReadJob(job_fd->get());
  if (!job) return job.error();
  CriuSession criu(*std::move(criu_fd));
  SocketChannel socket(*std::move(channel));
  Worker(criu, socket, "/").Do(*job);
  return {};
}

}  // namespace

int RunWorker(std::span<char* const> argv) {
  const Result<void> done = argv.size() == 1 ? Work() : Error("it takes no arguments");
  if (!done) Say(done.error().message());
  return done ? 0 : kExitAgentError;
}

}  // namespace modal::snapshot
