// Reads what a hook writes and logs it line by line under the hook's name.
//
// A hook may leave a server behind that holds the other end of the pipe for as long as the
// container lives, so pumps are kept, not waited for: one lives until its pipe ends. Reads are
// bounded a turn, so a flood cannot starve the loop; and the log never blocks.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/base/line_splitter.h"
#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/poller.h"

namespace modal::lifecycle {

class OutputPump {
 public:
  static constexpr size_t kLongestLine = 8192;

  // `on_end` runs once, from the loop: the pipe has ended, and the pump may be destroyed.
  static Result<std::unique_ptr<OutputPump>> Start(event::Loop& loop, Log& log, std::string hook,
                                                   UniqueFd pipe, std::function<void()> on_end);
  // Takes what is there now, so that a hook's last words come before the news of its end.
  void ReadAvailable();

 private:
  OutputPump(Log& log, std::string hook, UniqueFd pipe, std::function<void()> on_end);
  bool ReadOnce();  // false: nothing there, or the end
  void OnReadable();

  Log& log_;
  std::string hook_;
  UniqueFd pipe_;
  std::function<void()> on_end_;
  LineSplitter lines_;
  bool ended_ = false;
  std::unique_ptr<event::Poller> poller_;
};

}  // namespace modal::lifecycle
