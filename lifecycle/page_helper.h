// Has the memory of a restored tree filled by a page server (snapshot/page_protocol.h), from the
// moment at which CRIU may ask for it until all of it is in.
//
// `on_end` runs from the loop, at most once: all of it is in, or (an Error) some of it never will
// be; then whoever touches that waits for ever, and the tree is to be ended. Release(), when
// nothing of the tree is left, or nobody has restored one: both processes end. Destroying it does
// the same.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"
#include "agent/process/launcher.h"
#include "lifecycle/process_tree.h"
#include "snapshot/page_protocol.h"

namespace modal::lifecycle {

class PageHelper {
 public:
  struct AllIn {
    uint64_t pages = 0;
    uint64_t faults = 0;
    Milliseconds took{};
  };
  using OnEnd = std::function<void(const Result<AllIn>&)>;

  PageHelper(event::Loop& loop, process::Launcher& launcher, ProcessTree& tree, Log& log,
             OnEnd on_end);
  ~PageHelper();

  // `work_dir`: CRIU's, where it will look for the socket.
  Result<void> Start(const std::string& executable, const std::string& work_dir);
  void Release();

 private:
  void OnReadable();
  bool TakeReport();
  void OnReport(const snapshot::PagesReport& report);
  void OnServerExit(ExitStatus status);
  void OnHolderExit();
  void End(const Result<AllIn>& result);

  event::Loop& loop_;
  process::Launcher& launcher_;
  ProcessTree& tree_;
  Log& log_;
  OnEnd on_end_;
  UniqueFd channel_;
  std::unique_ptr<event::Poller> poller_;
  std::unique_ptr<process::Process> server_;
  std::unique_ptr<process::Process> holder_;
};

}  // namespace modal::lifecycle
