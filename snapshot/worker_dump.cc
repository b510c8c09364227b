// The part of the worker that dumps.

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/strings.h"
#include "agent/process/file_user.h"
#include "agent/process/process_table.h"
#include "snapshot/changed_files.h"
#include "snapshot/hazards.h"
#include "snapshot/held_files.h"
#include "snapshot/kernel_cache.h"
#include "snapshot/page_sums.h"
#include "snapshot/restorable.h"
#include "snapshot/tree.h"
#include "snapshot/unlinked_files.h"
#include "snapshot/worker.h"

namespace modal::snapshot {
namespace {

int64_t UnixMs() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
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
  manifest.workload = job.workload;
  manifest.capabilities = job.inputs.capabilities;
  manifest.uid = job.inputs.uid;
  manifest.gid = job.inputs.gid;
  manifest.listening = job.listening;
  manifest.times.cold_ms = job.cold_ms;
  manifest.times.hooks_ms = job.hooks_ms;
  return manifest;
}

Result<pid_t> FindRoot(const Job& job) {
  if (job.with_keeper) return job.root;
  const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
  if (!all) return all.error();
  return RootToDump(job.root, job.workload, *all);
}

}  // namespace

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

  const Result<pid_t> root = FindRoot(job);
  if (!root) return root.error();
  Manifest manifest = NewManifest(job);
  manifest.root = *root;
  manifest.processes = std::move(facts->processes);
  if (*root != job.root) {
    std::erase_if(manifest.processes, [&job](const auto& one) { return one.pid == job.root; });
  }
  manifest.descriptors = std::move(facts->descriptors);
  manifest.sockets = std::move(facts->sockets);

  DumpSpec spec;
  spec.images_dir = staging->images_dir();
  spec.work_dir = job.work_dir;
  spec.root = manifest.root;
  spec.leave_running = job.kind == JobKind::kDump;
  UnlinkedFiles unlinked;
  std::optional<HeldFiles> held;
  bool has_lost_somebody = false;
  spec.when_frozen = [&]() -> Result<void> {
    if (*root != job.root) {
      const Result<pid_t> still = FindRoot(job);
      if (!still) return still.error();
      has_lost_somebody = *still != *root;
    }
    if (has_lost_somebody) return Error("a process has left the workload's tree in this moment");
    const process::FileUser user(manifest.uid, manifest.gid);
    held = HeldFiles::Look(manifest.root);
    unlinked.Open(manifest.root);
    return {};
  };
  spec.while_frozen = [&]() -> Result<void> {
    {
      const process::FileUser user(manifest.uid, manifest.gid);
      unlinked.PutBack();
    }
    manifest.uptime_ms = UptimeMs();
    manifest.created_unix_ms = UnixMs();
    Result<ChangedFiles> now = ScanChangedFiles(scan);
    if (!now) return std::move(now.error());
    manifest.touches_files = !held || held->HasOneOf(root_, *now);
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
  const uint64_t asked = UptimeMs();
  const Result<CriuTimes> times = criu_.Dump(spec);
  // He is the keeper's now, and stands outside of what would have been dumped.
  if (!times && has_lost_somebody && !criu_.HasLeftTreeSuspect()) {
    staging.reset();  // and with it the lock, for whoever does it again
    return Again(false);
  }
  if (!times) return times.error();
  manifest.times.dump_ms = static_cast<int64_t>(UptimeMs() - asked);
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

}  // namespace modal::snapshot
