// MODAL_CHECK(condition): a broken invariant of our own is a bug. Says where on stderr, in one
// write, and aborts. Never for anything that the world outside can cause.
#pragma once

namespace modal {

[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace modal

#define MODAL_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::modal::CheckFailed(#condition, __FILE__, __LINE__))
