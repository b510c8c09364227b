#include "agent/policy/hop_by_hop.h"

#include <algorithm>

namespace modal::policy {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

// `lower` is in lower case; both are of one length.
bool IsSame(std::string_view name, std::string_view lower) {
  for (size_t i = 0; i < lower.size(); ++i) {
    if (Lower(name[i]) != lower[i]) return false;
  }
  return true;
}

bool IsName(std::string_view name, std::string_view lower) {
  return name.size() == lower.size() && IsSame(name, lower);
}

bool StartsWith(std::string_view name, std::string_view lower) {
  return name.size() >= lower.size() && IsSame(name, lower);
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string_view TrimBlanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls `visit` with each element of a comma-separated list that is not empty.
template <class Visit>
void ForEachElement(std::string_view list, Visit visit) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view element = TrimBlanks(list.substr(0, comma));
    if (!element.empty()) visit(element);
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

// Of those that KindOf() does not know, what Connection cannot take away.
bool IsEssential(std::string_view name) {
  constexpr std::array<std::string_view, 11> kEssential{
      "authorization", "cookie", "set-cookie", "cache-control", "date",     "location",
      "origin",        "range",  "vary",       "via",           "x-real-ip"};
  return StartsWith(name, "content-") || StartsWith(name, "x-forwarded-") ||
         StartsWith(name, "sec-websocket-") ||
         std::any_of(kEssential.begin(), kEssential.end(),
                     [name](std::string_view one) { return IsName(name, one); });
}

uint32_t LengthBit(std::string_view name) {
  return uint32_t{1} << std::min<size_t>(name.size(), 31);
}

}  // namespace

HeaderKind KindOf(std::string_view name) {
  const auto is = [name](std::string_view lower, HeaderKind kind) {
    return IsSame(name, lower) ? kind : HeaderKind::kOther;
  };
  if (name.empty()) return HeaderKind::kOther;
  if (Lower(name[0]) == 'p' && StartsWith(name, "proxy-")) return HeaderKind::kProxy;
  switch (name.size()) {
    case 2:
      return is("te", HeaderKind::kTe);
    case 4:
      return is("host", HeaderKind::kHost);
    case 5:
      return is("proxy", HeaderKind::kProxy);
    case 6:
      return is("expect", HeaderKind::kExpect);
    case 7:
      return Lower(name[0]) == 't' ? is("trailer", HeaderKind::kTrailer)
                                   : is("upgrade", HeaderKind::kUpgrade);
    case 9:
      return Lower(name[0]) == 'f' ? is("forwarded", HeaderKind::kForwarded)
                                   : is("modal-key", HeaderKind::kModalKey);
    case 10:
      switch (Lower(name[0])) {
        case 'c':
          return is("connection", HeaderKind::kConnection);
        case 'k':
          return is("keep-alive", HeaderKind::kKeepAlive);
        case 't':
          return is("tracestate", HeaderKind::kTraceState);
        default:
          break;
      }
      break;
    case 11:
      if (Lower(name[0]) == 't') return is("traceparent", HeaderKind::kTraceParent);
      break;
    case 12:
      return Lower(name[0]) == 'm' ? is("modal-secret", HeaderKind::kModalSecret)
                                   : is("x-request-id", HeaderKind::kXRequestId);
    case 14:
      return Lower(name[0]) == 'c' ? is("content-length", HeaderKind::kContentLength)
                                   : is("http2-settings", HeaderKind::kHttp2Settings);
    case 15:
      if (Lower(name[0]) == 'x') return is("x-forwarded-for", HeaderKind::kXForwardedFor);
      break;
    case 16:
      if (Lower(name[0]) == 'x') return is("x-forwarded-host", HeaderKind::kXForwardedHost);
      break;
    case 17:
      if (Lower(name[0]) == 'x') return is("x-forwarded-proto", HeaderKind::kXForwardedProto);
      if (Lower(name[0]) == 't') return is("transfer-encoding", HeaderKind::kTransferEncoding);
      break;
    default:
      break;
  }
  return HeaderKind::kOther;
}

bool WrittenByUs(HeaderKind kind) {
  switch (kind) {
    case HeaderKind::kContentLength:
    case HeaderKind::kExpect:
    case HeaderKind::kForwarded:
    case HeaderKind::kTraceParent:
    case HeaderKind::kTraceState:
    case HeaderKind::kXForwardedFor:
    case HeaderKind::kXForwardedHost:
    case HeaderKind::kXForwardedProto:
    case HeaderKind::kXRequestId:
      return true;
    default:
      return false;
  }
}

void ConnectionOptions::Add(std::string_view value) {
  ForEachElement(value, [this](std::string_view token) { AddToken(token); });
}

void ConnectionOptions::AddToken(std::string_view token) {
  if (IsName(token, "keep-alive")) {
    keep_alive_ = true;
  } else if (IsName(token, "close")) {
    close_ = true;
  } else if (IsName(token, "upgrade")) {
    upgrade_ = true;
  } else if (KindOf(token) == HeaderKind::kOther && !IsEssential(token) && !Names(token)) {
    if (count_ == names_.size()) {
      overflowed_ = true;
      return;
    }
    names_[count_++] = token;
    lengths_ |= LengthBit(token);
  }
}

bool ConnectionOptions::Names(std::string_view name) const {
  if (!(lengths_ & LengthBit(name))) return false;
  return std::any_of(names_.begin(), names_.begin() + count_,
                     [name](std::string_view one) { return EqualsIgnoringCase(one, name); });
}

bool Passes(HeaderKind kind, std::string_view name, std::string_view value,
            const ConnectionOptions& options, Direction direction) {
  switch (kind) {
    case HeaderKind::kOther:
      return !options.Names(name);
    case HeaderKind::kHost:
    case HeaderKind::kTrailer:
      return true;
    case HeaderKind::kTe:
      return direction == Direction::kRequest && IsName(TrimBlanks(value), "trailers");
    case HeaderKind::kConnection:
    case HeaderKind::kContentLength:
    case HeaderKind::kHttp2Settings:
    case HeaderKind::kKeepAlive:
    case HeaderKind::kModalKey:
    case HeaderKind::kModalSecret:
    case HeaderKind::kProxy:
    case HeaderKind::kTransferEncoding:
    case HeaderKind::kUpgrade:
      return false;
    case HeaderKind::kExpect:
    case HeaderKind::kForwarded:
    case HeaderKind::kTraceParent:
    case HeaderKind::kTraceState:
    case HeaderKind::kXForwardedFor:
    case HeaderKind::kXForwardedHost:
    case HeaderKind::kXForwardedProto:
    case HeaderKind::kXRequestId:
      return direction == Direction::kAnswer;
  }
  return false;
}

bool AcceptsTrailers(std::string_view te) {
  bool accepts = false;
  ForEachElement(te, [&accepts](std::string_view element) {
    accepts |= IsName(TrimBlanks(element.substr(0, element.find(';'))), "trailers");
  });
  return accepts;
}

}  // namespace modal::policy
