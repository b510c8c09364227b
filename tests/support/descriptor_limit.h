// While it lives this process can open no more descriptors than it has.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/base/check.h"

namespace modal::test {

class DescriptorLimit {
 public:
  // `more`: how many can still be opened.
  explicit DescriptorLimit(int more = 0) {
    MODAL_CHECK(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    // The lowest free numbers are taken first; the limit is about the highest number.
    int next = 0;
    for (int found = -1; found < more; ++next) {
      if (::fcntl(next, F_GETFD) < 0) ++found;
    }
    rlimit lower = before_;
    lower.rlim_cur = static_cast<rlim_t>(next - 1);
    MODAL_CHECK(::setrlimit(RLIMIT_NOFILE, &lower) == 0);
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace modal::test
