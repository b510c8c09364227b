// Signals sent to this process, read from a signalfd(2): nothing ever runs in a signal handler,
// and each signal tells who sent it.
//
// BlockSignals() is called first thing in main(), before anything else can go wrong: a blocked
// signal waits, and even process 1 of a PID namespace, to which the kernel does not deliver a
// signal whose action is the default, gets it later. What was pending before counts as well.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"

namespace modal::event {

struct SignalEvent {
  int number;
  pid_t sender_pid;  // 0: the kernel, or a process outside of this PID namespace
  uid_t sender_uid;
  bool from_kernel;  // SIGCHLD, a key on the terminal (^C, ^Z, a closed window)
};

// Blocks every signal except those that report a fault of the program itself (SIGSEGV and the
// like), and sets SIGCHLD to its default (inherited as ignored, no exit would ever be seen).
void BlockSignals();

// The opposite, for a short-lived command: everything is delivered as to any other program.
void UnblockSignals();

class Signals {
 public:
  // Delivers each signal to `on_signal`, in the order in which the kernel hands them over.
  static Result<std::unique_ptr<Signals>> Watch(Loop& loop,
                                                std::function<void(const SignalEvent&)> on_signal);

 private:
  Signals() = default;
  void Read();

  UniqueFd fd_;
  std::function<void(const SignalEvent&)> on_signal_;
  std::unique_ptr<Poller> poller_;
};

}  // namespace modal::event
