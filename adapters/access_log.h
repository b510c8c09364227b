// The access log: one line a request, and the slow ones once more in the agent's own log.
//
// Lines are collected and written together once a turn of the loop, never so that anybody waits;
// what cannot be written is lost and counted. Several threads (and processes) append to the same
// descriptor: pieces that are written end with a line.
//
//   common  192.0.2.7 - - [31/Jan/2026:12:34:56 +0000] "GET /a HTTP/1.1" 200 512 "referer" "agent"
//   json    {"time":"2026-01-31T12:34:56.789Z","client":"192.0.2.7","method":"GET", ...}
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/descriptor_sink.h"
#include "agent/base/log.h"
#include "agent/base/unique_fd.h"
#include "agent/policy/gateway_config.h"

namespace modal::adapters {

struct AccessEntry {
  std::string_view client;
  std::string_view method;
  std::string_view target;
  std::string_view version;  // "1.1"; this and the two before are empty as far as they did not come
  std::string_view host;
  int status = 0;               // 499: the client left before there was one
  std::string_view outcome;     // "ok", "client_gone", or why there was no (whole) answer
  uint64_t bytes_received = 0;  // of bodies
  uint64_t bytes_sent = 0;
  uint64_t microseconds = 0;
  std::optional<uint64_t> upstream_microseconds;  // until the answer began
  std::string_view request_id;
  std::string_view user_agent;
  std::string_view referer;
};

class AccessLog {
 public:
  // `log_fd` is shared by the logs of all threads. `own_log` is the agent's.
  AccessLog(UniqueFd log_fd, Log& own_log);

  // From now on.
  void Configure(const policy::GatewayConfig& config);
  void Reopen(UniqueFd log_fd);

  bool enabled() const { return format_ != policy::AccessLogFormat::kOff || slow_ms_ > 0; }
  void Add(const AccessEntry& entry);
  // At the end of a turn.
  void Flush();
  bool pending() const { return !lines_.empty() || sink_->pending(); }
  uint64_t lost() const { return lost_ + sink_->lost_lines(); }

 private:
  void AppendCommon(const AccessEntry& entry);
  void AppendJson(const AccessEntry& entry);

  UniqueFd fd_;
  std::optional<DescriptorSink> sink_;
  Log& own_log_;
  policy::AccessLogFormat format_ = policy::AccessLogFormat::kOff;
  uint32_t slow_ms_ = 0;
  std::string lines_;
  uint64_t lost_ = 0;
  std::time_t time_ = -1;
  std::string time_text_;  // of `time_`, in the format of the day
};

}  // namespace modal::adapters
