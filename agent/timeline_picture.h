// Draws the steps of a boot as bars, one line a step. Pure; plain ASCII.
//
//                       at      took  0                            30.1 ms
//   restore        0.30 ms   25.2 ms  ##########################
//     identity     0.31 ms   1.20 ms  ==
//     criu failed  1.60 ms   23.9 ms    xxxxxxxxxxxxxxxxxxxxxxxx
//   port           25.5 ms   4.60 ms                            #####
//   serving        30.1 ms                                          >
//
// Parts of a step (names with a dot) stand below it. What is over in less than a column's time has
// a column all the same; what is under way has a + behind its time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace modal {

struct TimelineStep {
  std::string name;  // "restore.memory"; printable
  int64_t begin_us = 0;
  std::optional<int64_t> us;  // nothing: it is under way
  bool failed = false;
};

// `now_us`: until when a step that is under way has come. No line is longer than `width`, unless
// that is too little for the names.
std::string DrawTimeline(const std::vector<TimelineStep>& steps, int64_t now_us, size_t width);

// "0.05 ms", "340 ms", "12.3 s", "5 m 10 s": three digits, at least.
std::string ShortTime(int64_t us);

}  // namespace modal
