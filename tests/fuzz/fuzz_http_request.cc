// The request parser: whatever the bytes, and however they are cut, it says the same, keeps no more
// than its limits, and takes nothing that it cannot frame.
#include <algorithm>
#include <string>

#include "agent/base/check.h"
#include "tests/fuzz/pieces.h"
#include "tests/support/parse_requests.h"

using namespace modal;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::Pieces pieces(data, size);
  const std::string& text = pieces.text();
  // Some inputs are to reach the limits.
  const bool tight = pieces.how() >= 128;
  const http::ParserLimits limits{tight ? 64u : 64 * 1024u, tight ? 4u : 256u};

  const test::ParsedRequests whole = test::ParseRequests(
      text, [&] { return text.size(); }, limits);
  const test::ParsedRequests cut = test::ParseRequests(
      text, [&] { return pieces.Next(); }, limits);
  const test::ParsedRequests bytes = test::ParseRequests(
      text, [] { return 1; }, limits);
  for (const test::ParsedRequests* other : {&cut, &bytes}) {
    MODAL_CHECK(other->story == whole.story);
    MODAL_CHECK(other->status == whole.status);
    MODAL_CHECK(other->left == whole.left);
  }
  for (const test::ParsedRequests* one : {&whole, &cut, &bytes}) {
    for (const std::string* part : {&one->method, &one->target, &one->version}) {
      MODAL_CHECK(text.find(*part) != std::string::npos);
    }
  }
  MODAL_CHECK(whole.status == 0 || (whole.status >= 400 && whole.status < 600));
  MODAL_CHECK((whole.status == 0) == whole.error.empty());
  return 0;
}
