// A keeper without a process: what is to be started below it is started by a FakeLauncher, and the
// test says how the keeper fares.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lifecycle/keeper_launcher.h"
#include "tests/support/fake_launcher.h"

namespace modal::test {

class FakeTreeKeeper : public lifecycle::TreeKeeper {
 public:
  explicit FakeTreeKeeper(FakeLauncher& launcher) : hooks_(*this, false), main_(*this, true) {
    launcher_ = &launcher;
  }

  static constexpr pid_t kRoot = 900;

  pid_t root_pid = 0;      // kRoot from the first launch on
  pid_t workload_pid = 0;  // of the last that was started as the workload
  bool holds_anybody = false;
  std::vector<std::string> hooks;      // the first word of each hook
  std::vector<std::string> workloads;  // and of each workload
  int leaves = 0;
  OnLeft on_left;
  std::optional<ExitStatus> end;

  void Left(const Result<void>& left = {}) {
    if (const OnLeft on_left_now = std::exchange(on_left, nullptr)) on_left_now(left);
  }
  // It ends, and stands for nobody.
  void End(ExitStatus status) {
    root_pid = 0;
    workload_pid = 0;
    on_left = nullptr;
    end = status;
  }

  process::Launcher& for_hooks() override { return hooks_; }
  process::Launcher& for_workload() override { return main_; }
  pid_t root() const override { return root_pid; }
  pid_t workload() const override { return workload_pid; }
  bool HoldsAnybody() const override { return holds_anybody; }
  void Leave(OnLeft answer) override {
    ++leaves;
    on_left = std::move(answer);
  }
  std::optional<ExitStatus> TakeEnd() override { return std::exchange(end, std::nullopt); }
  uint64_t orphans_reaped() const override { return 0; }

 private:
  class Face : public process::Launcher {
   public:
    Face(FakeTreeKeeper& owner, bool is_main) : owner_(owner), is_main_(is_main) {}
    Result<std::unique_ptr<process::Process>> Launch(const process::LaunchSpec& spec,
                                                     process::ExitCallback on_exit) override {
      auto launched = owner_.launcher_->Launch(spec, std::move(on_exit));
      if (!launched) return launched;
      owner_.root_pid = kRoot;
      (is_main_ ? owner_.workloads : owner_.hooks).push_back(spec.argv.at(0));
      if (is_main_) owner_.workload_pid = (*launched)->pid();
      return launched;
    }
    std::unique_ptr<process::Process> Adopt(pid_t pid, process::ExitCallback on_exit) override {
      return owner_.launcher_->Adopt(pid, std::move(on_exit));
    }

   private:
    FakeTreeKeeper& owner_;
    bool is_main_;
  };

  FakeLauncher* launcher_ = nullptr;
  Face hooks_;
  Face main_;
};

}  // namespace modal::test
