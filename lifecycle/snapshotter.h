// Takes and restores snapshots for the supervisor.
//
// What may block is done by a worker process, what CRIU does by `criu swrk`; both are helpers of
// ours, started here, and ended when they take too long. The restored tree is our own child.
//
// Restore() comes first, before anything of the workload is started; then, of a workload that was
// started cold, Dump(). Callbacks run from the loop, once each, and never after Cancel().
#pragma once

#include <array>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/boot_timeline.h"
#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"
#include "agent/process/launcher.h"
#include "lifecycle/page_helper.h"
#include "lifecycle/process_tree.h"
#include "snapshot/job.h"
#include "snapshot/work_folder.h"
#include "snapshot/worker_protocol.h"

namespace modal::lifecycle {

// As the supervisor sees it.
class Snapshots {
 public:
  // A tree that has been restored: its root, as if it had been launched; and the server's own
  // process (0: a hook had started it).
  struct Restored {
    pid_t root = 0;
    pid_t workload = 0;
    Milliseconds cold{};  // what the cold start had taken
    uint64_t bytes = 0;   // of memory that came back
    bool lazy = false;    // or that comes back as it is touched
  };
  // An Error: a cold start, and why.
  using OnRestored = std::function<void(Result<Restored>)>;
  // What was noted of a snapshot's worth, once that can be read by others: "proven", ... An Error:
  // it could not be noted.
  struct Judgement {
    std::string standing;
    std::string reason;
  };
  using OnJudged = std::function<void(const Result<Judgement>&)>;

  // Of a tree whose memory comes lazily: all of it is in; or (an Error) some of it will never be,
  // and whoever touches that waits for ever.
  using OnMemory = std::function<void(const Result<PageHelper::AllIn>&)>;

  // What is to be dumped, and what the manifest is to say of it.
  struct Tree {
    pid_t root = 0;
    pid_t workload = 0;
    bool ends = false;  // it is not to go on afterwards
    std::string listening;
    Milliseconds cold{};   // from its start until now, without the time that went into a restore
    Milliseconds hooks{};  // of it, the startup hooks
  };
  struct DumpEvents {
    // The worker is ready, and waits for Proceed().
    std::function<void()> on_ready;
    // The tree runs again (or has ended, as asked for), or (an Error) never stood still: there will
    // be no snapshot.
    std::function<void(const Result<void>&)> on_resumed;
    // Instead of it: CRIU was ended while it worked inside of the tree, which nobody should rely on
    // any more. There will be no snapshot.
    std::function<void(const Error&)> on_broken;
    // The snapshot can be found from now on; or (an Error) it came to nothing after all. Only after
    // on_resumed.
    std::function<void(const Result<void>&)> on_published;
  };

  virtual ~Snapshots() = default;

  // Starts what the first Restore() needs, ahead of it and of all else: CRIU takes its time until
  // it can be spoken with. Nothing of a snapshot runs, or is there at all, before Restore(); what
  // fails is told there. May be called more than once.
  virtual void Begin() = 0;
  virtual void Restore(OnRestored on_restored) = 0;
  // A restore that has failed is to be called for again once nothing of it is left.
  virtual bool WantsAnotherRestore() const = 0;
  // Before Restore(). Once for each such tree.
  virtual void WatchMemory(OnMemory on_memory) = 0;
  // Nothing of a restored tree is left.
  virtual void ReleaseMemory() = 0;
  // The restored tree was ready so long after the agent's start; or it was not, and why.
  // `on_judged`, from the loop, may be empty. Of one that failed nothing may run any more (but
  // where the container ends): the files that came with it are gone again by then, as far as can
  // be.
  virtual void RestoreServed(Milliseconds ready, OnJudged on_judged) = 0;
  virtual void RestoreFailed(const std::string& why, OnJudged on_judged) = 0;

  // Whether a dump would make a snapshot: there is a key, and none of that key yet, or
  // (--snapshot create) one that gives way.
  virtual bool WantsDump() const = 0;
  // --snapshot create: there is one already that has proved itself, so that none is made.
  virtual bool HasProven() const = 0;
  virtual void Dump(const Tree& tree, DumpEvents events) = 0;
  virtual void Proceed() = 0;
  // The key of this container; empty: it is not known, or there is none.
  virtual const std::string& key() const = 0;
  // What is over of the parts of a restore or dump, and was not asked for before: on the clock.
  virtual std::vector<BootSpan> TakeSteps() = 0;

  // Ends whatever is under way.
  virtual void Cancel() = 0;
};

class Snapshotter : public Snapshots {
 public:
  // For the worker to note what came of it, when CRIU has hung.
  static constexpr Milliseconds kWorkerGrace{1000};
  // For the worker to note what a snapshot is worth, and to take back the files that came with it,
  // when somebody waits for that.
  static constexpr Milliseconds kJudgeLimit{10'000};

  struct Options {
    std::string criu;                                 // path of the program
    std::string executable;                           // of the agent's own binary
    bool dumps = true;                                // --snapshot auto and create
    bool creates = false;                             // --snapshot create
    std::optional<process::Credentials> credentials;  // of the workload: CRIU has the same
    // At these CRIU is ended, and the worker kWorkerGrace later.
    Milliseconds restore_limit{30'000};
    Milliseconds dump_limit{120'000};
    // The restore job, as far as the configuration tells; dumps use its folder and its inputs.
    snapshot::Job job;
  };

  // `standard`: descriptors that stand in for the workload's standard output and error (not owned).
  Snapshotter(event::Loop& loop, Clock& clock, process::Launcher& launcher, ProcessTree& tree,
              Log& log, Options options, std::array<int, 2> standard);
  ~Snapshotter() override;

  void Begin() override;
  void Restore(OnRestored on_restored) override;
  bool WantsAnotherRestore() const override { return is_again_; }
  void WatchMemory(OnMemory on_memory) override { on_memory_ = std::move(on_memory); }
  void ReleaseMemory() override { pages_.reset(); }
  void RestoreServed(Milliseconds ready, OnJudged on_judged) override;
  void RestoreFailed(const std::string& why, OnJudged on_judged) override;
  bool WantsDump() const override;
  bool HasProven() const override { return has_proven_; }
  void Dump(const Tree& tree, DumpEvents events) override;
  void Proceed() override;
  const std::string& key() const override { return key_; }
  std::vector<BootSpan> TakeSteps() override { return std::exchange(steps_, {}); }
  void Cancel() override;

 private:
  // One of the two processes, until it has been reaped.
  struct Helper {
    const char* name;
    std::unique_ptr<process::Process> process;
  };
  using Helpers = std::list<Helper>;

  Result<void> Start(snapshot::Job job, Milliseconds limit);
  Result<void> StartCriu(int socket);
  Result<void> StartWorker(const snapshot::Job& job, int channel, int criu);
  Result<void> StartHelper(const char* name, const process::LaunchSpec& spec);
  void OnHelperExit(Helpers::iterator helper, ExitStatus status);
  void OnReadable();
  void OnReport(const snapshot::WorkerReport& report);
  void Done(std::string_view standing, std::string_view message, int64_t bytes);
  bool StartPages();
  void OnPagesEnd(const Result<PageHelper::AllIn>& end);
  void TakeOver(const BootTimeline& steps);
  int64_t NowUs() const;
  void OnKey(const snapshot::WorkerReport& report);
  void StartRestore(bool guesses);
  void StartDump();
  void OnLimit();
  void Tell(snapshot::WorkerRequest::Kind kind, int64_t value, const std::string& text);
  void Finish(Error error);
  void Answer(Result<Restored> restored);
  void AwaitJudgement(OnJudged on_judged);
  void Judged(const Result<Judgement>& judged);
  void Resumed(const Result<void>& resumed);
  void Published(const Result<void>& published);
  void EndHelpers();
  void KillHelpers(const char* name);

  event::Loop& loop_;
  Clock& clock_;
  process::Launcher& launcher_;
  ProcessTree& tree_;
  Log& log_;
  Options options_;
  std::array<int, 2> standard_;

  std::string key_;
  std::string image_identity_;
  std::vector<BootSpan> steps_;
  int64_t job_began_us_ = 0;
  bool has_snapshot_ = false;  // of this key, whatever it is worth
  bool has_proven_ = false;
  bool has_begun_ = false;  // and Restore() has still to come
  bool is_again_ = false;   // what was begun on a guess had processes that have to be gone first
  OnRestored on_restored_;
  OnMemory on_memory_;
  OnJudged on_judged_;
  DumpEvents dump_;
  snapshot::Job dump_job_;
  bool criu_dumps_ = false;  // since Proceed(), and nothing was heard of how it ended
  std::unique_ptr<snapshot::WorkFolder> work_folder_;  // of the job that is under way
  UniqueFd channel_;
  std::unique_ptr<event::Poller> poller_;
  Helpers helpers_;       // also those of an earlier job that were told to end
  bool is_late_ = false;  // CRIU was ended at its limit; the worker may still say so in its folder
  std::unique_ptr<Timer> limit_;
  std::unique_ptr<PageHelper> pages_;   // of the tree that was restored last, if it comes lazily
  std::string pages_lost_;              // why the restore that is under way will fail
  bool are_all_in_ = false;             // or never will be
  std::optional<Milliseconds> served_;  // what is told when they are
};

}  // namespace modal::lifecycle
