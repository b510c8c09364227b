#include "agent/http/status_reader.h"

namespace modal::http {
namespace {

constexpr size_t kMaxHeads = size_t{256} * 1024;  // interim ones included

constexpr llhttp_settings_t Settings(llhttp_cb on_headers_complete) {
  llhttp_settings_t settings{};
  settings.on_headers_complete = on_headers_complete;
  return settings;
}

}  // namespace

const llhttp_settings_t StatusReader::kSettings = Settings(OnHeadersComplete);

StatusReader::StatusReader() {
  llhttp_init(&llhttp_, HTTP_RESPONSE, &kSettings);
  llhttp_.data = this;
  llhttp_set_lenient_headers(&llhttp_, 1);
  llhttp_set_lenient_chunked_length(&llhttp_, 1);
  llhttp_set_lenient_transfer_encoding(&llhttp_, 1);
  llhttp_set_lenient_keep_alive(&llhttp_, 1);
  llhttp_set_lenient_data_after_close(&llhttp_, 1);
  llhttp_set_lenient_optional_cr_before_lf(&llhttp_, 1);
}

int StatusReader::OnHeadersComplete(llhttp_t* llhttp) {
  auto& self = *static_cast<StatusReader*>(llhttp->data);
  const int status = llhttp->status_code;
  const bool interim = status >= 100 && status < 200 && status != 101;
  if (!interim) {
    self.status_ = status;
    return HPE_PAUSED;
  }
  llhttp->upgrade = 0;
  return 1;  // no body; another head follows
}

StatusReader::State StatusReader::Feed(std::string_view input) {
  if (state_ != State::kMore || input.empty()) return state_;
  // Never beyond the limit, so that how the input is cut makes no difference.
  const std::string_view piece = input.substr(0, kMaxHeads - size_);
  const llhttp_errno_t result = llhttp_execute(&llhttp_, piece.data(), piece.size());
  size_ += piece.size();
  if (result == HPE_PAUSED) {
    if (status_ < 100 || status_ > 599) return Fail("the answer's status is not a status");
    return state_ = State::kDone;
  }
  if (result != HPE_OK) return Fail("the answer is not HTTP");
  if (size_ >= kMaxHeads) return Fail("the answer's head is too large");
  return state_;
}

StatusReader::State StatusReader::Finish() {
  if (state_ != State::kMore) return state_;
  return Fail(size_ == 0 ? "the connection was closed without an answer"
                         : "the connection was closed in the middle of the answer's head");
}

StatusReader::State StatusReader::Fail(std::string_view error) {
  error_ = error;
  return state_ = State::kFailed;
}

}  // namespace modal::http
