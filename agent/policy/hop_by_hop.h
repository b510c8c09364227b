// Which headers go on to the other side, in both directions (RFC 9110, 7.6.1). Pure, allocates
// nothing, and looks at most headers' lengths only: it runs for each header of each message.
//
//   const ConnectionOptions options(headers);          // anything with .name and .value
//   if (options.overflowed()) ...                      // 400 or 502
//   for (const auto& header : headers) {
//     const HeaderKind kind = KindOf(header.name);
//     if (Passes(kind, header.name, header.value, options, Direction::kRequest)) ... copy it
//   }
//
// Never copied: Connection and what it names, Keep-Alive, Proxy-*, Proxy (which would be HTTP_PROXY
// in a CGI program), Upgrade, HTTP2-Settings, Transfer-Encoding, TE other than `trailers`,
// Modal-Key and Modal-Secret. Nor Content-Length: framing is the caller's. Nor what the caller
// writes into requests itself (WrittenByUs()): Expect, and the names of request and client; from
// answers these are copied.
//
// `Connection` cannot take away what is meant for the far end. Whatever it says, these stay:
// everything that KindOf() knows (Host, Content-Length, X-Forwarded-*, X-Request-Id, traceparent
// ...), all of Content-*, X-Forwarded-* and Sec-WebSocket-*, and Authorization, Cookie, Set-Cookie,
// Cache-Control, Date, Location, Origin, Range, Vary, Via, X-Real-IP.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace modal::policy {

enum class HeaderKind : uint8_t {
  kOther,
  kConnection,
  kContentLength,
  kExpect,
  kForwarded,
  kHost,
  kHttp2Settings,
  kKeepAlive,
  kModalKey,
  kModalSecret,
  kProxy,  // Proxy and Proxy-*
  kTe,
  kTraceParent,
  kTraceState,
  kTrailer,
  kTransferEncoding,
  kUpgrade,
  kXForwardedFor,
  kXForwardedHost,
  kXForwardedProto,
  kXRequestId,
};

// `name` in any case.
HeaderKind KindOf(std::string_view name);

// Headers of a request in whose place the caller writes its own.
bool WrittenByUs(HeaderKind kind);

// What the Connection headers of one message say. The names are views into the headers.
class ConnectionOptions {
 public:
  ConnectionOptions() = default;
  template <class Headers>
  explicit ConnectionOptions(const Headers& headers) {
    for (const auto& header : headers) {
      if (KindOf(header.name) == HeaderKind::kConnection) Add(header.value);
    }
  }

  // One value of a Connection header.
  void Add(std::string_view value);

  bool close() const { return close_; }
  bool keep_alive() const { return keep_alive_; }
  bool upgrade() const { return upgrade_; }
  // More names than anybody needs; not all of them were kept.
  bool overflowed() const { return overflowed_; }
  // Whether `name` is to be left out because Connection names it.
  bool Names(std::string_view name) const;

 private:
  void AddToken(std::string_view token);

  std::array<std::string_view, 16> names_;
  uint32_t count_ = 0;
  uint32_t lengths_ = 0;  // bit n: one is n long (31: or longer)
  bool close_ = false;
  bool keep_alive_ = false;
  bool upgrade_ = false;
  bool overflowed_ = false;
};

enum class Direction : uint8_t { kRequest, kAnswer };

// Whether the header is copied to the other side.
bool Passes(HeaderKind kind, std::string_view name, std::string_view value,
            const ConnectionOptions& options, Direction direction);

// Whether a TE header says that trailers are welcome. Where it says more than that it is not
// copied; then the caller writes `TE: trailers`.
bool AcceptsTrailers(std::string_view te);

}  // namespace modal::policy
