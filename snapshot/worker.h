// The snapshot worker: a personality that does what may block, as a copy of the agent without an
// exec, so that it is there at once. It does one job (job.h), reports on its channel
// (worker_protocol.h), and ends.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/boot_timeline.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "snapshot/criu.h"
#include "snapshot/job.h"
#include "snapshot/key_inquiry.h"
#include "snapshot/replaced_files.h"
#include "snapshot/store.h"
#include "snapshot/worker_protocol.h"

namespace modal::snapshot {

// What the worker says, and is told; a seam for tests.
class WorkerChannel {
 public:
  virtual ~WorkerChannel() = default;
  virtual void Report(const WorkerReport& report) = 0;
  // Waits for the next request; an Error: there will be none, the supervisor is gone.
  virtual Result<WorkerRequest> Await() = 0;
};

class Worker {
 public:
  // `root`: where carried files are put and changed ones looked for ("/"). All outlive the worker.
  Worker(Criu& criu, WorkerChannel& channel, std::string root, Identify identify = IdentifyImageOf)
      : criu_(criu), channel_(channel), root_(std::move(root)), identify_(std::move(identify)) {}

  // Does the job, and has reported all there is to say when it returns.
  void Do(const Job& job);

 private:
  class Comeback;  // of one snapshot

  Result<void> Restore(const Job& job);
  const Key* TellKey(KeyInquiry& inquiry);
  Result<void> Cold(const Job& job, std::string_view why);
  std::optional<Store::Found> FindLikely(const KeyInquiry& inquiry, Store& store);
  Result<std::optional<Store::Found>> FindOurs(const Job& job, Store& store, const Key& key);
  Result<void> RestoreFound(const Job& job, Store& store, const Store::Found& found,
                            KeyInquiry& inquiry);
  bool MayBeMadeEarly(const Store::Found& found) const;
  Result<void> GuessedWrong(const Job& job, Store& store, const KeyInquiry& inquiry,
                            bool left_processes);
  Result<void> Again(bool left_processes);
  Result<void> AwaitBegin();
  Result<bool> PrepareLazyPages(const Job& job, Store& store, const Manifest& manifest);
  Result<void> CarryBack(const Store::Found& found);
  std::string TakenBack(std::string why);
  Result<void> AwaitVerdict(const Job& job, Store& store, const Manifest& manifest);
  Result<void> Dump(const Job& job);
  Result<void> DumpInto(const Job& job, Store& store, std::unique_ptr<Staging> staging);
  void Nothing(std::string_view reason, bool has_snapshot);
  void Enter(BootStep step);
  void StepFailed();
  // With the steps done since the last one; the one that is under way ends.
  void Tell(WorkerReport report);

  Criu& criu_;
  WorkerChannel& channel_;
  std::string root_;
  Identify identify_;
  bool has_begun_ = false;
  std::optional<ReplacedFiles> replaced_;  // by files that have travelled with the snapshot
  BootTimeline steps_;
};

// The personality: argv is kWorkerArgv0 alone, descriptors as in worker_protocol.h.
int RunWorker(std::span<char* const> argv);

}  // namespace modal::snapshot
