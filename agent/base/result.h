// Errors as values: Result<T> is a T or an Error.
//
// An Error is one line of text that tells the whole story ("read config: open /etc/x: No such
// file"), plus the errno it came from where there is one (0 otherwise). Each layer adds what it was
// doing with While(). A Result must be looked at: reading the value of a failed one is a bug and
// ends the program.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "agent/base/check.h"

namespace modal {

class [[nodiscard]] Error {
 public:
  explicit Error(std::string message) : message_(std::move(message)) {}

  // "open /x: No such file or directory", with the code kept.
  static Error FromErrno(std::string_view what, int code) {
    std::string message(what);
    message.append(": ").append(::strerror(code));
    Error error(std::move(message));
    error.code_ = code;
    return error;
  }

  // The same error seen from one layer up: "context: message".
  Error While(std::string_view context) && {
    message_.insert(0, ": ").insert(0, context);
    return std::move(*this);
  }

  // The exit code with which the agent ends if this error ends it (exit_status.h).
  Error WithExitCode(int exit_code) && {
    exit_code_ = exit_code;
    return std::move(*this);
  }

  const std::string& message() const { return message_; }
  int code() const { return code_; }            // errno, or 0
  int exit_code() const { return exit_code_; }  // 0: none was given

 private:
  std::string message_;
  int code_ = 0;
  int exit_code_ = 0;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit

  explicit operator bool() const { return state_.index() == 0; }
  bool ok() const { return state_.index() == 0; }

  T& operator*() & {
    MODAL_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  const T& operator*() const& {
    MODAL_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  T&& operator*() && {
    MODAL_CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

  Error& error() {
    MODAL_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }
  const Error& error() const {
    MODAL_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit

  explicit operator bool() const { return !error_; }
  bool ok() const { return !error_; }

  Error& error() {
    MODAL_CHECK(error_);
    return *error_;
  }
  const Error& error() const {
    MODAL_CHECK(error_);
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace modal
