// Snapshots that restore and dump nothing: a test says what comes of it.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lifecycle/snapshotter.h"

namespace modal::test {

class FakeSnapshots : public lifecycle::Snapshots {
 public:
  bool wants_dump = false;
  bool has_proven = false;
  bool wants_another_restore = false;
  bool takes_back = true;  // at once, when a restore failed
  // What it was asked and told, in order: "restore", "served 120", "useless: why", "dump",
  // "proceed", "cancel".
  std::vector<std::string> calls;
  std::optional<Tree> tree;  // of the last dump
  std::string own_key;
  std::vector<BootSpan> steps;  // for TakeSteps()
  OnRestored on_restored;
  OnMemory on_memory;
  int releases = 0;
  OnJudged on_judged;
  DumpEvents dump;

  bool Has(const std::string& call) const {
    return std::find(calls.begin(), calls.end(), call) != calls.end();
  }
  void Begin() override {}
  void Answer(Result<Restored> restored) {
    if (const auto on_restored_now = std::exchange(on_restored, nullptr)) {
      on_restored_now(std::move(restored));
    }
  }
  void Judge(const Result<Judgement>& judged) {
    if (const auto on_judged_now = std::exchange(on_judged, nullptr)) on_judged_now(judged);
  }
  void Ready() const { dump.on_ready(); }
  void Resumed(const Result<void>& resumed) {
    const auto on_resumed = std::exchange(dump.on_resumed, nullptr);
    if (!resumed) dump = {};
    if (on_resumed) on_resumed(resumed);
  }
  void Broken(const std::string& why) {
    const DumpEvents events = std::exchange(dump, {});
    events.on_broken(Error(why));
  }
  void TakenBack() { Judge(Judgement{"failed", ""}); }
  void Published(const Result<void>& published) {
    const DumpEvents events = std::exchange(dump, {});
    if (events.on_published) events.on_published(published);
  }

  void Restore(OnRestored answer) override {
    calls.emplace_back("restore");
    on_restored = std::move(answer);
  }
  void WatchMemory(OnMemory tell) override { on_memory = std::move(tell); }
  void ReleaseMemory() override { ++releases; }
  void RestoreServed(Milliseconds ready, OnJudged answer) override {
    on_judged = std::move(answer);
    calls.push_back("served " + std::to_string(ready.count()));
  }
  void RestoreFailed(const std::string& why, OnJudged answer) override {
    on_judged = std::move(answer);
    calls.push_back("useless: " + why);
    if (takes_back) TakenBack();
  }
  bool HasProven() const override { return has_proven; }
  bool WantsAnotherRestore() const override { return wants_another_restore; }
  bool WantsDump() const override { return wants_dump; }
  void Dump(const Tree& what, DumpEvents events) override {
    calls.emplace_back("dump");
    tree = what;
    dump = std::move(events);
  }
  void Proceed() override { calls.emplace_back("proceed"); }
  const std::string& key() const override { return own_key; }
  std::vector<BootSpan> TakeSteps() override { return std::exchange(steps, {}); }
  void Cancel() override {
    calls.emplace_back("cancel");
    on_restored = nullptr;
    on_judged = nullptr;
    dump = {};
  }
};

}  // namespace modal::test
