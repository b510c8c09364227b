// Starts startup hooks and the workload below a keeper (keeper.h), so that one tree holds them all.
//
// The keeper is started with the first of them, as the user and with the rights of that one; later
// ones get the same. To those who launch, it looks as if they had no keeper: the exit of a hook
// comes from the keeper's word, that of the workload from the keeper's own end, and a keeper that
// is gone ends them all. A workload that has ended with 0 and left daemons behind is told to have
// ended, and the keeper stays for the daemons. `Launch()` waits for the keeper's answer, up to
// kPatience: it runs as the workload's user, and might be stopped by it.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"
#include "agent/process/launcher.h"
#include "lifecycle/keeper_protocol.h"

namespace modal::lifecycle {

// As the supervisor sees it.
class TreeKeeper {
 public:
  virtual ~TreeKeeper() = default;

  // What they start is alike, but for the end: the workload's is the keeper's.
  virtual process::Launcher& for_hooks() = 0;
  virtual process::Launcher& for_workload() = 0;
  // The root of the tree, and leader of its session; 0: there is none.
  virtual pid_t root() const = 0;
  // The server's own process; 0: it was not started here.
  virtual pid_t workload() const = 0;
  // Whether anything that was started below it still runs.
  virtual bool HoldsAnybody() const = 0;
  // Ends the channel: nothing can be launched any more. `on_left` (may be empty) runs from the loop
  // once the keeper has closed its end, too, be that long ago; with an Error if it does not. Never
  // if the keeper ends.
  using OnLeft = std::function<void(const Result<void>&)>;
  virtual void Leave(OnLeft on_left) = 0;
  // How the keeper has ended, if it stood for nobody then whose end is told: the last of what a
  // hook or the workload had left behind. Tells it once.
  virtual std::optional<ExitStatus> TakeEnd() = 0;
  // Orphans that keepers have reaped, as long as they had a channel to say so.
  virtual uint64_t orphans_reaped() const = 0;
};

class KeeperLauncher : public TreeKeeper {
 public:
  static constexpr Milliseconds kPatience{5000};

  // `executable`: path of the agent's own binary. `standard` become the keeper's descriptors 0, 1
  // and 2 (not owned), which what it starts inherits.
  KeeperLauncher(event::Loop& loop, Clock& clock, process::Launcher& launcher, Log& log,
                 std::string executable, std::array<int, 3> standard);
  ~KeeperLauncher() override;

  process::Launcher& for_hooks() override { return hooks_; }
  process::Launcher& for_workload() override { return workload_; }
  pid_t root() const override { return keeper_ ? keeper_->pid() : 0; }
  pid_t workload() const override { return main_pid_; }
  bool HoldsAnybody() const override;
  void Leave(OnLeft on_left) override;
  std::optional<ExitStatus> TakeEnd() override { return std::exchange(end_, std::nullopt); }
  uint64_t orphans_reaped() const override { return orphans_before_ + orphans_; }

 private:
  // One of the two faces above.
  class Face : public process::Launcher {
   public:
    Face(KeeperLauncher& owner, bool is_main) : owner_(owner), is_main_(is_main) {}
    Result<std::unique_ptr<process::Process>> Launch(const process::LaunchSpec& spec,
                                                     process::ExitCallback on_exit) override {
      return owner_.Launch(spec, std::move(on_exit), is_main_);
    }
    std::unique_ptr<process::Process> Adopt(pid_t pid, process::ExitCallback on_exit) override {
      return owner_.launcher_.Adopt(pid, std::move(on_exit));
    }

   private:
    KeeperLauncher& owner_;
    bool is_main_;
  };
  class KeptProcess;

  Result<std::unique_ptr<process::Process>> Launch(const process::LaunchSpec& spec,
                                                   process::ExitCallback on_exit, bool is_main);
  Result<void> StartKeeper(const process::LaunchSpec& spec);
  Result<void> Ask(const process::LaunchSpec& spec, uint32_t id, bool is_main);
  Result<KeeperReply> AwaitAnswer(uint32_t id);
  enum class Taken { kReply, kNothing, kEnd };
  Taken TakeReply(KeeperReply& reply);
  void OnReadable();
  void OnExited(const KeeperReply& reply);
  void OnKeeperExit(ExitStatus status);
  void ChannelClosed();
  void Left(const Result<void>& left);

  event::Loop& loop_;
  Clock& clock_;
  process::Launcher& launcher_;
  Log& log_;
  std::string executable_;
  std::array<int, 3> standard_;
  Face hooks_{*this, false};
  Face workload_{*this, true};

  UniqueFd channel_;
  std::unique_ptr<event::Poller> poller_;
  std::unique_ptr<process::Process> keeper_;
  std::map<uint32_t, KeptProcess*> children_;  // by the id of their launch
  std::vector<KeeperReply> early_;             // exits that came while an answer was awaited
  std::unique_ptr<Timer> early_turn_;
  uint32_t last_id_ = 0;
  uint32_t main_id_ = 0;
  pid_t main_pid_ = 0;
  uint64_t orphans_before_ = 0;  // of earlier keepers
  uint32_t orphans_ = 0;
  OnLeft on_left_;
  std::unique_ptr<Timer> left_turn_;
  std::optional<ExitStatus> end_;
};

}  // namespace modal::lifecycle
