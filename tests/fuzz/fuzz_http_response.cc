// The reader of answers to health checks: however they are cut, it says the same.
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/http/status_reader.h"
#include "tests/fuzz/pieces.h"

using namespace modal;
using State = http::StatusReader::State;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::Pieces pieces(data, size);
  const std::string& text = pieces.text();

  http::StatusReader whole;
  whole.Feed(text);
  whole.Finish();

  http::StatusReader cut;
  for (size_t at = 0; at < text.size();) {
    const std::string piece = text.substr(at, pieces.Next());
    cut.Feed(piece);
    at += piece.size();
  }
  const State state = cut.Finish();

  MODAL_CHECK(state != State::kMore);
  MODAL_CHECK(state == whole.Finish());
  MODAL_CHECK(cut.status() == whole.status());
  MODAL_CHECK(cut.error() == whole.error());
  if (state == State::kDone) {
    MODAL_CHECK(cut.status() == 101 || (cut.status() >= 200 && cut.status() < 600));
  } else {
    MODAL_CHECK(!cut.error().empty());
  }
  return 0;
}
