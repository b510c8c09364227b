// The part of the worker that restores.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"
#include "snapshot/changed_files.h"
#include "snapshot/image_check.h"
#include "snapshot/kernel_cache.h"
#include "snapshot/key_inquiry.h"
#include "snapshot/page_sums.h"
#include "snapshot/pages_choice.h"
#include "snapshot/pids.h"
#include "snapshot/restorable.h"
#include "snapshot/userfaultfd.h"
#include "snapshot/worker.h"

namespace modal::snapshot {
namespace {

// More is not read before it is needed.
constexpr uint64_t kMostRead = uint64_t{4} << 20;

UniqueFd OpenCarried(const Store::Found& found) {
  const std::string path = found.path + "/" + kCarriedFiles;
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
}

// Where a restore that has failed is followed by a dump.
Result<void> PrepareAnother(const Job& job) {
  return job.creates && job.raise_pids ? RaisePids() : Result<void>();
}

}  // namespace

Result<void> Worker::Restore(const Job& job) {
  KeyInquiry inquiry(job, identify_);
  const bool guesses = inquiry.takes_time() && job.guesses && !job.creates;
  Enter(guesses ? BootStep::kRestoreFind : BootStep::kRestoreIdentity);
  // A folder that takes no writing is as good to restore from; only what came of it is not noted.
  Result<std::unique_ptr<Store>> store = Store::Open(job.folder, Store::Use::kWrite);
  if (!store) store = Store::Open(job.folder, Store::Use::kRead);
  bool has_raised_pids = false;
  if (store && guesses) {
    if (const std::optional<Store::Found> likely = FindLikely(inquiry, **store)) {
      return RestoreFound(job, **store, *likely, inquiry);
    }
    // A cold start, most likely: there is time for this now, and it harms no restore.
    has_raised_pids = job.raise_pids && RaisePids();
    Enter(BootStep::kRestoreIdentity);
  }
  const Key* key = TellKey(inquiry);
  if (!key) return {};
  Enter(BootStep::kRestoreFind);
  if (!store) return Cold(job, store.error().message());
  Result<std::optional<Store::Found>> found = FindOurs(job, **store, *key);
  if (!found) return std::move(found.error());
  if (!*found) return {};
  if (has_raised_pids) {
    constexpr std::string_view kWhy =
        "there is a snapshot, but it was made while this container started, and its pids may be "
        "taken here by now";
    Nothing(kWhy, true);
    return {};
  }
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
    return WhyNotNow(manifest, verdict ? *verdict : Verdict(), UptimeMs()).empty();
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
  const std::vector<std::string> why =
      WhyNotNow((*found)->manifest, verdict ? *verdict : Verdict(), UptimeMs());
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

// Files that travel along have to be in place before CRIU opens them; folders are opened, too.
bool Worker::MayBeMadeEarly(const Store::Found& found) const {
  if (found.manifest.touches_files) return false;
  if (found.manifest.carried_files == 0) return true;
  if (found.manifest.carried_bytes > kMostRead) return false;
  const UniqueFd file = OpenCarried(found);
  const Result<bool> there = file ? HasFoldersOf(root_, file.get()) : Result<bool>(false);
  return there && *there;
}

// A snapshot that was found, on its way back. It may turn out to be another key's: until it is
// known to be ours nothing outside of the work folder is touched. Processes are made before that if
// it takes no more than their memory and descriptors: nothing of them runs, and they end if it is
// not ours.
class Worker::Comeback {
 public:
  Comeback(Worker& worker, const Job& job, Store& store, const Store::Found& found,
           KeyInquiry& inquiry)
      : worker_(worker),
        job_(job),
        store_(store),
        found_(found),
        inquiry_(inquiry),
        lazy_(worker.PrepareLazyPages(job, store, found.manifest)),
        may_be_lazy_(lazy_ && *lazy_) {
    check_.emplace(found_.path, found_.manifest.files, !may_be_lazy_);
  }

  Result<void> Run();

 private:
  enum class Asked { kNotYet, kOurs, kAnother, kNobody, kAlone };

  void Plan();
  void FindOut();
  Result<void> Ask();
  void Carry();
  Result<void> CheckMemory();
  void OnMoment(CriuMoment moment);
  Result<void> BeforeProcesses();
  Result<void> BeforeRunning();
  Result<void> Conclude(const Result<Restored>& restored);
  Result<void> Failed(const Error& error);

  Worker& worker_;
  const Job& job_;
  Store& store_;
  const Store::Found& found_;
  KeyInquiry& inquiry_;
  const Result<bool> lazy_;  // an Error: they would be better, but cannot be
  const bool may_be_lazy_;
  std::optional<ImageCheck> check_;
  RestoreSpec spec_;
  Asked asked_ = Asked::kNotYet;
  bool may_be_early_ = false;
  bool is_early_ = false;  // there are processes, or were, without it being known to be ours
  std::optional<Result<void>> carried_;
};

Result<void> Worker::RestoreFound(const Job& job, Store& store, const Store::Found& found,
                                  KeyInquiry& inquiry) {
  (void)CopyKernelCache(found.path, job.work_dir);
  return Comeback(*this, job, store, found, inquiry).Run();
}

Result<void> Worker::Comeback::Run() {
  Plan();
  // While CRIU starts. What brings memory lazily has to be there before CRIU is told.
  Result<void> ready;
  if (inquiry_.is_told() || may_be_lazy_) ready = Ask();
  if (ready) {
    worker_.Enter(BootStep::kRestoreCriu);
    ready = check_->AwaitOthers();
  }
  may_be_early_ = !inquiry_.is_told() && worker_.MayBeMadeEarly(found_);
  Result<Restored> restored =
      ready ? worker_.criu_.Restore(spec_) : Result<Restored>(std::move(ready.error()));
  if (asked_ == Asked::kNotYet) {
    if (restored) restored = Error("criu has restored it without asking");
    worker_.StepFailed();
    if (is_early_) {
      FindOut();
    } else {
      (void)Ask();
    }
  }
  return Conclude(restored);
}

void Worker::Comeback::Plan() {
  spec_.images_dir = found_.path + "/images";
  spec_.work_dir = job_.work_dir;
  int next_error = kCriuFirstDescriptorFd + 1;
  for (const DumpedDescriptor& descriptor : found_.manifest.descriptors) {
    const int fd = descriptor.fd == STDOUT_FILENO ? kCriuFirstDescriptorFd : next_error++;
    spec_.descriptors.push_back({descriptor.id, fd});
  }
  spec_.on_moment = [this](CriuMoment moment) { OnMoment(moment); };
  spec_.before_processes = [this] { return BeforeProcesses(); };
  spec_.before_running = [this] { return BeforeRunning(); };
}

void Worker::Comeback::FindOut() {
  if (!inquiry_.is_told()) worker_.Enter(BootStep::kRestoreIdentity);
  const Key* key = worker_.TellKey(inquiry_);
  const bool is_ours = key && key->text == found_.manifest.key;
  asked_ = !key ? Asked::kNobody : is_ours ? Asked::kOurs : Asked::kAnother;
}

// Whether it is ours, and whether the supervisor is ready for it.
Result<void> Worker::Comeback::Ask() {
  FindOut();
  if (asked_ != Asked::kOurs) return Error("it is not the snapshot of this container");
  if (Result<void> begun = worker_.AwaitBegin(); !begun) {
    asked_ = Asked::kAlone;
    return begun;
  }
  WorkerReport report = NewReport(WorkerReport::Kind::kFound);
  report.value = static_cast<int64_t>(found_.manifest.TotalBytes());
  report.other = may_be_lazy_ ? 1 : 0;
  if (!lazy_) SetBoardText(report.reason, lazy_.error().message());
  report.cold_ms = found_.manifest.times.cold_ms;
  worker_.Tell(report);
  const Result<WorkerRequest> go = worker_.channel_.Await();
  if (!go) {
    asked_ = Asked::kAlone;
    return go.error();
  }
  spec_.lazy = may_be_lazy_ && go->value != 0;
  if (may_be_lazy_ && !spec_.lazy) check_.emplace(found_.path, found_.manifest.files);
  return {};
}

void Worker::Comeback::Carry() {
  worker_.Enter(BootStep::kRestoreFiles);
  carried_ = worker_.CarryBack(found_);
}

// What CRIU reads of its memory is compared meanwhile; nothing of the tree runs before that is
// done. What comes lazily is compared by whoever brings it.
Result<void> Worker::Comeback::CheckMemory() {
  if (!spec_.lazy) return check_->AwaitMemory();
  return CheckEagerPages(spec_.images_dir, static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
}

void Worker::Comeback::OnMoment(CriuMoment moment) {
  if (moment == CriuMoment::kInPlace && !is_early_) worker_.Enter(BootStep::kRestoreResume);
  if (moment != CriuMoment::kUp) return;
  // It reads images now, which takes about as long.
  if (asked_ == Asked::kOurs) Carry();
  if (!carried_ || *carried_) worker_.Enter(BootStep::kRestoreImages);
}

Result<void> Worker::Comeback::BeforeProcesses() {
  check_->StartMemory();
  if (asked_ == Asked::kNotYet && may_be_early_ && !inquiry_.is_known()) {
    if (Result<void> begun = worker_.AwaitBegin(); !begun) return begun;
    is_early_ = true;
    worker_.Enter(BootStep::kRestoreMemory);
    return {};
  }
  if (asked_ == Asked::kNotYet) {
    if (Result<void> ours = Ask(); !ours) return ours;
  }
  if (!carried_) Carry();
  if (!*carried_) return *carried_;
  worker_.Enter(BootStep::kRestoreMemory);
  return {};
}

Result<void> Worker::Comeback::BeforeRunning() {
  if (!is_early_) return CheckMemory();
  if (Result<void> ours = Ask(); !ours) return ours;
  is_early_ = false;
  if (Result<void> whole = CheckMemory(); !whole) return whole;
  Carry();
  worker_.Enter(BootStep::kRestoreResume);
  return *carried_;
}

Result<void> Worker::Comeback::Conclude(const Result<Restored>& restored) {
  if (asked_ == Asked::kNobody) return {};
  if (asked_ == Asked::kAlone) return restored.error();
  if (asked_ == Asked::kAnother) return worker_.GuessedWrong(job_, store_, inquiry_, is_early_);
  // As good as not tried: it may have failed for being early.
  if (is_early_) return worker_.Again(true);
  if (!restored) return Failed(restored.error());
  const Manifest& manifest = found_.manifest;
  WorkerReport report = NewReport(WorkerReport::Kind::kRestored);
  report.pid = restored->root;
  report.other = manifest.workload;
  const uint64_t memory = spec_.lazy ? MemoryBytes(manifest) : restored->times.pages * 4096;
  report.value = static_cast<int64_t>(memory);
  report.cold_ms = manifest.times.cold_ms;
  worker_.Tell(report);
  return worker_.AwaitVerdict(job_, store_, manifest);
}

Result<void> Worker::Comeback::Failed(const Error& error) {
  worker_.StepFailed();
  const std::string why = worker_.TakenBack(error.message());
  (void)store_.ChangeVerdict(found_.manifest.key, [&why](Verdict verdict) {
    return AfterFailure(std::move(verdict), why);
  });
  if (Result<void> ready_again = PrepareAnother(job_); !ready_again) return ready_again;
  return Error(why);
}

// CRIU serves one call, and that one is over.
Result<void> Worker::GuessedWrong(const Job& job, Store& store, const KeyInquiry& inquiry,
                                  bool left_processes) {
  Enter(BootStep::kRestoreFind);
  Result<std::optional<Store::Found>> found = FindOurs(job, store, *inquiry.key());
  if (!found) return std::move(found.error());
  return *found ? Again(left_processes) : Result<void>();
}

Result<void> Worker::Again(bool left_processes) {
  WorkerReport report = NewReport(WorkerReport::Kind::kAgain);
  report.value = left_processes ? 1 : 0;
  Tell(report);
  return {};
}

Result<void> Worker::AwaitBegin() {
  if (std::exchange(has_begun_, true)) return {};
  const Result<WorkerRequest> begin = channel_.Await();
  return begin ? Result<void>() : begin.error();
}

Result<void> Worker::CarryBack(const Store::Found& found) {
  const bool has_files = found.manifest.carried_files > 0;
  if (!has_files && found.manifest.sockets.empty()) return {};
  UniqueFd file;
  if (has_files) {
    file = OpenCarried(found);
    if (!file) return Error::FromErrno(found.path + "/" + kCarriedFiles, errno);
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

}  // namespace modal::snapshot
