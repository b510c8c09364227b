// What a server answers, as a proxy reads it: cut in any way it is understood the same, and what
// is plain enough for a reader of a few lines is understood as that one does.
//
// The first byte says to which method, and whether the server closes at the end.
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/base/strings.h"
#include "tests/fuzz/pieces.h"
#include "tests/support/parse_answers.h"

using namespace modal;

namespace {

const http::ParserLimits kLimits{1024, 16};

// One answer to GET of a known length or in chunks without extensions or trailers, and nothing
// else: its body. It knows nothing of what else there may be.
bool ReadPlainly(std::string_view text, std::string& body) {
  if (!text.starts_with("HTTP/1.1 200 OK\r\n")) return false;
  const size_t head_end = text.find("\r\n\r\n");
  if (head_end == std::string_view::npos || head_end > 900) return false;
  const std::string_view lines = text.substr(15, head_end - 15 + 2);
  std::string_view rest = text.substr(head_end + 4);
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  constexpr std::string_view kChunked = "\r\nTransfer-Encoding: chunked\r\n";
  if (lines == kChunked) {
    for (;;) {
      size_t digits = rest.find_first_not_of("0123456789abcdef");
      if (digits == 0 || digits == std::string_view::npos || digits > 7) return false;
      if (!rest.substr(digits).starts_with("\r\n")) return false;
      const size_t size = std::stoul(std::string(rest.substr(0, digits)), nullptr, 16);
      rest.remove_prefix(digits + 2);
      if (size == 0) return rest == "\r\n";
      if (rest.size() < size + 2 || rest.substr(size, 2) != "\r\n") return false;
      body += rest.substr(0, size);
      rest.remove_prefix(size + 2);
    }
  }
  if (!lines.starts_with(kLength)) return false;
  const std::string_view value = lines.substr(kLength.size(), lines.size() - kLength.size() - 2);
  if (value.empty() || value.size() > 7) return false;
  if (value.find_first_not_of("0123456789") != std::string_view::npos) return false;
  body = rest;
  return rest.size() == std::stoul(std::string(value));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const auto method = (data[0] & 1) != 0 ? http::Method::kHead : http::Method::kGet;
  const bool closes = (data[0] & 2) != 0;
  test::Pieces pieces(data + 1, size - 1);
  const std::string& text = pieces.text();

  const test::ParsedAnswers whole = test::ParseAnswers(
      text, [&] { return text.size(); }, method, closes, kLimits);
  const test::ParsedAnswers cut = test::ParseAnswers(
      text, [&] { return pieces.Next(); }, method, closes, kLimits);
  const test::ParsedAnswers bytes = test::ParseAnswers(
      text, [] { return size_t{1}; }, method, closes, kLimits);
  MODAL_CHECK(whole.story == cut.story && whole.story == bytes.story);
  MODAL_CHECK(whole.error == cut.error && whole.error == bytes.error);
  MODAL_CHECK(whole.left == cut.left && whole.left == bytes.left);

  std::string body;
  if (method == http::Method::kGet && ReadPlainly(text, body)) {
    MODAL_CHECK(whole.error.empty() && whole.left == 0);
    MODAL_CHECK(whole.story.ends_with(body.empty() ? "] end\n" : Concat(" <", body, "> end\n")));
  }
  return 0;
}
