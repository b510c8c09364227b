// Cuts a stream of bytes into lines. Pure.
//
// Lines come without their newline (and without a CR before it); one longer than the limit comes in
// pieces of that length, so memory is bounded whatever is fed.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace modal {

class LineSplitter {
 public:
  LineSplitter(size_t longest, std::function<void(std::string_view)> on_line)
      : longest_(longest), on_line_(std::move(on_line)) {}

  void Feed(std::string_view bytes);
  // The end of the stream: what is left is a line too.
  void Finish();

 private:
  void Emit();

  size_t longest_;
  std::function<void(std::string_view)> on_line_;
  std::string partial_;
};

}  // namespace modal
