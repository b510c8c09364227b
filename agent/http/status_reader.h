// Reads the head of one answer, for its status and nothing else. Pure, and of fixed size: what it
// reads is not kept. Interim answers (1xx) are passed over.
//
// Meant for a server that we only want to know alive: it is lenient with sloppy line ends and
// header values, since no body is read and the connection serves nobody else.
#pragma once

#include <llhttp.h>

#include <cstddef>
#include <string_view>

namespace modal::http {

class StatusReader {
 public:
  enum class State { kMore, kDone, kFailed };

  StatusReader();
  StatusReader(const StatusReader&) = delete;
  StatusReader& operator=(const StatusReader&) = delete;

  // After kDone or kFailed further input changes nothing.
  State Feed(std::string_view input);
  // The other end has sent all it will: kMore becomes kFailed.
  State Finish();

  int status() const { return status_; }             // kDone: 200 to 599, or 101
  std::string_view error() const { return error_; }  // kFailed: what is wrong with the answer

 private:
  static int OnHeadersComplete(llhttp_t* llhttp);
  static const llhttp_settings_t kSettings;
  State Fail(std::string_view error);

  llhttp_t llhttp_;
  State state_ = State::kMore;
  size_t size_ = 0;
  int status_ = 0;
  std::string_view error_;
};

}  // namespace modal::http
