#include "adapters/access_log.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"

namespace modal::adapters {
namespace {

// Written in pieces that a pipe takes whole (PIPE_BUF), so that the lines of threads do not mix.
constexpr size_t kPiece = 4096;
constexpr size_t kEnough = size_t{32} * 1024;

// In quotes: nothing that comes from a client can end the field or the line.
void AppendQuoted(std::string& out, std::string_view value) {
  out += '"';
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string FormatTime(std::time_t time, const char* format) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 40> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

// Of the request, as far as it came.
std::string FirstLine(const AccessEntry& entry) {
  std::string line(entry.method.empty() ? "-" : entry.method);
  if (!entry.target.empty()) line.append(" ").append(entry.target);
  if (!entry.version.empty()) line.append(" HTTP/").append(entry.version);
  return line;
}

}  // namespace

AccessLog::AccessLog(UniqueFd log_fd, Log& own_log) : own_log_(own_log) {
  Reopen(std::move(log_fd));
}

void AccessLog::Reopen(UniqueFd log_fd) {
  if (sink_) {
    Flush();
    lost_ += sink_->lost_lines();
  }
  fd_ = std::move(log_fd);
  sink_.emplace(fd_.get(), false);
}

void AccessLog::Configure(const policy::GatewayConfig& config) {
  format_ = config.access_log;
  slow_ms_ = config.slow_request_ms;
  time_ = -1;
}

void AccessLog::Add(const AccessEntry& entry) {
  if (slow_ms_ > 0 && entry.microseconds >= uint64_t{slow_ms_} * 1000) {
    own_log_.Warn("request.slow", {{"method", entry.method},
                                   {"target", entry.target},
                                   {"status", entry.status},
                                   {"outcome", entry.outcome},
                                   {"ms", entry.microseconds / 1000},
                                   {"request_id", entry.request_id}});
  }
  if (format_ == policy::AccessLogFormat::kOff) return;
  if (format_ == policy::AccessLogFormat::kCommon) {
    AppendCommon(entry);
  } else {
    AppendJson(entry);
  }
  if (lines_.size() >= kEnough) Flush();
}

void AccessLog::AppendCommon(const AccessEntry& entry) {
  const std::time_t now = std::time(nullptr);
  if (now != time_) {
    time_ = now;
    time_text_ = FormatTime(now, "%d/%b/%Y:%H:%M:%S +0000");
  }
  lines_.append(entry.client.empty() ? "-" : entry.client);
  lines_.append(" - - [").append(time_text_).append("] ");
  AppendQuoted(lines_, FirstLine(entry));
  lines_ += Concat(" ", entry.status, " ", entry.bytes_sent, " ");
  AppendQuoted(lines_, entry.referer.empty() ? "-" : entry.referer);
  lines_ += ' ';
  AppendQuoted(lines_, entry.user_agent.empty() ? "-" : entry.user_agent);
  lines_ += '\n';
}

void AccessLog::AppendJson(const AccessEntry& entry) {
  const auto now = std::chrono::system_clock::now();
  const auto since_1970 = std::chrono::duration_cast<Milliseconds>(now.time_since_epoch()).count();
  const auto second = static_cast<std::time_t>(since_1970 / 1000);
  if (second != time_) {
    time_ = second;
    time_text_ = FormatTime(second, "%Y-%m-%dT%H:%M:%S.");
  }
  std::array<char, 8> fraction{};
  std::snprintf(fraction.data(), fraction.size(), "%03dZ", static_cast<int>(since_1970 % 1000));
  JsonWriter json;
  json.BeginObject().Key("time").String(time_text_ + fraction.data());
  json.Key("client").String(entry.client).Key("method").String(entry.method);
  json.Key("target").String(entry.target).Key("host").String(entry.host);
  json.Key("status").Number(entry.status).Key("outcome").String(entry.outcome);
  json.Key("bytes_received").Number(static_cast<int64_t>(entry.bytes_received));
  json.Key("bytes_sent").Number(static_cast<int64_t>(entry.bytes_sent));
  json.Key("us").Number(static_cast<int64_t>(entry.microseconds));
  json.Key("upstream_us");
  if (entry.upstream_microseconds) {
    json.Number(static_cast<int64_t>(*entry.upstream_microseconds));
  } else {
    json.Null();
  }
  json.Key("request_id").String(entry.request_id);
  json.Key("user_agent").String(entry.user_agent).Key("referer").String(entry.referer);
  lines_ += json.EndObject().text();
  lines_ += '\n';
}

void AccessLog::Flush() {
  std::string_view rest = lines_;
  while (!rest.empty()) {
    size_t size = rest.size();
    if (size > kPiece) {
      const size_t end = rest.rfind('\n', kPiece - 1);
      size = (end != std::string_view::npos ? end : rest.find('\n')) + 1;
    }
    sink_->Write(rest.substr(0, size));
    rest.remove_prefix(size);
  }
  lines_.clear();
  if (sink_->pending()) sink_->Flush();
}

}  // namespace modal::adapters
