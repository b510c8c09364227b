#include "agent/http/response_encoder.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace modal::http {
namespace {

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool IsValue(std::string_view text) {
  return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

bool IsWorkedOut(std::string_view name) {
  return EqualsIgnoringCase(name, "content-length") ||
         EqualsIgnoringCase(name, "transfer-encoding") || EqualsIgnoringCase(name, "connection") ||
         EqualsIgnoringCase(name, "date");
}

void AppendNumber(std::string& out, uint64_t value, int base = 10) {
  std::array<char, 24> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, base).ptr;
  out.append(digits.data(), end);
}

void AppendStatusLine(std::string& out, int status, std::string_view reason = {}) {
  if (status == 200 && (reason.empty() || reason == "OK")) {
    out += "HTTP/1.1 200 OK\r\n";
    return;
  }
  out += "HTTP/1.1 ";
  AppendNumber(out, static_cast<uint64_t>(status));
  out += ' ';
  out += reason.empty() ? StatusText(status) : reason;
  out += "\r\n";
}

void AppendHeaders(std::string& out, std::span<const Header> headers) {
  for (const Header& header : headers) {
    if (!IsToken(header.name) || !IsValue(header.value) || IsWorkedOut(header.name)) continue;
    out.append(header.name).append(": ").append(header.value).append("\r\n");
  }
}

}  // namespace

bool AnswerHasBody(const Request& request, int status) {
  return request.method != Method::kHead && status >= 200 && status != 204 && status != 304;
}

BodyFraming ChooseFraming(const Request& request, int status, bool length_is_known) {
  if (!AnswerHasBody(request, status)) return BodyFraming::kNone;
  if (length_is_known) return BodyFraming::kLength;
  return request.http_1_0 ? BodyFraming::kUntilClose : BodyFraming::kChunked;
}

void AppendHead(std::string& out, const AnswerHead& head) {
  AppendStatusLine(out, head.status, head.reason);
  AppendHeaders(out, head.headers);
  out += head.lines;
  if (head.framing == BodyFraming::kChunked) out += "Transfer-Encoding: chunked\r\n";
  const bool tells_length = head.status >= 200 && head.status != 204 && head.status != 304;
  if (head.length && tells_length) {
    out += "Content-Length: ";
    AppendNumber(out, *head.length);
    out += "\r\n";
  }
  if (!head.date.empty()) out.append("Date: ").append(head.date).append("\r\n");
  if (!head.keep_alive) {
    out += "Connection: close\r\n";
  } else if (head.http_1_0) {
    out += "Connection: keep-alive\r\n";
  }
  out += "\r\n";
}

void AppendInterimHead(std::string& out, int status, std::span<const Header> headers) {
  AppendStatusLine(out, status);
  AppendHeaders(out, headers);
  out += "\r\n";
}

void AppendChunk(std::string& out, std::string_view data) {
  if (data.empty()) return;  // an empty chunk would be the last
  AppendChunkLine(out, data.size());
  out.append(data).append("\r\n");
}

void AppendChunkLine(std::string& out, size_t size) {
  AppendNumber(out, size, 16);
  out += "\r\n";
}

void AppendLastChunk(std::string& out, std::span<const Header> trailers) {
  out += "0\r\n";
  AppendHeaders(out, trailers);
  out += "\r\n";
}

std::string FormatDate(std::time_t time) {
  constexpr std::array kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                               "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  const auto two = [](int value) {
    return std::string{static_cast<char>('0' + value / 10), static_cast<char>('0' + value % 10)};
  };
  return std::string(kDays[static_cast<size_t>(parts.tm_wday)]) + ", " + two(parts.tm_mday) + " " +
         kMonths[static_cast<size_t>(parts.tm_mon)] + " " + std::to_string(parts.tm_year + 1900) +
         " " + two(parts.tm_hour) + ":" + two(parts.tm_min) + ":" + two(parts.tm_sec) + " GMT";
}

}  // namespace modal::http
