// Words on their way from one of our processes to another of the same binary: NUL-terminated, any
// bytes but NUL in them, in a sealed memfd. Who reads knows what was written, in which order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal {

class WordWriter {
 public:
  WordWriter& Add(std::string_view word);
  WordWriter& Add(int64_t number);
  WordWriter& Add(const std::vector<std::string>& list);

  // `name` is what /proc shows. The memfd is sealed against everything, and stands at its start.
  Result<UniqueFd> Seal(const char* name) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Each call takes the next; once one has failed, all that follow give what is empty, and ok() is
// false.
class WordReader {
 public:
  explicit WordReader(std::string text) : text_(std::move(text)) {}
  // An Error if `fd` cannot be read or holds over 64 MiB.
  static Result<WordReader> Open(int fd);

  std::string Word();
  int64_t Number();
  std::vector<std::string> List();

  bool ok() const { return ok_; }
  bool at_end() const { return at_ == text_.size(); }

 private:
  std::string_view Take();

  std::string text_;
  size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace modal
