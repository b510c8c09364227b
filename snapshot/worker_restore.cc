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
    return verdict && WhyNotNow(manifest, *verdict, UptimeMs()).empty();
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

// `found` may turn out to be another key's. Until it is known to be ours nothing outside of the
// work folder is touched. Processes are made before that if it takes no more than their memory and
// descriptors: nothing of them runs, and they end if it is not ours.
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
  bool may_be_early = false;
  bool is_early = false;  // there are processes, or were, without it being known to be ours
  const auto find_out = [&] {
    if (!inquiry.is_told()) Enter(BootStep::kRestoreIdentity);
    const Key* key = TellKey(inquiry);
    asked = !key ? Asked::kNobody : key->text == manifest.key ? Asked::kOurs : Asked::kAnother;
  };
  const auto ask = [&]() -> Result<void> {
    find_out();
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
    if (moment == CriuMoment::kInPlace && !is_early) Enter(BootStep::kRestoreResume);
    if (moment != CriuMoment::kUp) return;
    // It reads images now, which takes about as long.
    if (asked == Asked::kOurs) carry();
    if (!carried || *carried) Enter(BootStep::kRestoreImages);
  };
  // What CRIU reads of its memory is compared meanwhile; nothing of the tree runs before that is
  // done. What comes lazily is compared by whoever brings it.
  const auto check_memory = [&]() -> Result<void> {
    if (!spec.lazy) return check->AwaitMemory();
    return CheckEagerPages(spec.images_dir, static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
  };
  spec.before_running = [&]() -> Result<void> {
    if (!is_early) return check_memory();
    if (Result<void> ours = ask(); !ours) return ours;
    is_early = false;
    if (Result<void> whole = check_memory(); !whole) return whole;
    carry();
    Enter(BootStep::kRestoreResume);
    return *carried;
  };
  spec.before_processes = [&]() -> Result<void> {
    check->StartMemory();
    if (asked == Asked::kNotYet && may_be_early && !inquiry.is_known()) {
      is_early = true;
      Enter(BootStep::kRestoreMemory);
      return {};
    }
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
  may_be_early = !inquiry.is_told() && MayBeMadeEarly(found);
  Result<Restored> restored =
      ready ? criu_.Restore(spec) : Result<Restored>(std::move(ready.error()));
  if (asked == Asked::kNotYet) {
    if (restored) restored = Error("criu has restored it without asking");
    StepFailed();
    if (is_early) {
      find_out();
    } else {
      (void)ask();
    }
  }
  if (asked == Asked::kNobody) return {};
  if (asked == Asked::kAlone) return std::move(restored.error());
  if (asked == Asked::kAnother) return GuessedWrong(job, store, inquiry, is_early);
  if (is_early) return Again(true);  // as good as not tried: it may have failed for being early
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
