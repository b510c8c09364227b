#include "agent/policy/hop_by_hop.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace modal::policy {
namespace {

struct Header {
  std::string_view name;
  std::string_view value;
};
using Headers = std::vector<Header>;

// The names of those that are copied.
std::string Copied(const Headers& headers, Direction direction = Direction::kRequest) {
  const ConnectionOptions options(headers);
  std::string names;
  for (const Header& header : headers) {
    if (Passes(KindOf(header.name), header.name, header.value, options, direction)) {
      names += header.name;
      names += ' ';
    }
  }
  return names;
}

TEST_CASE("each special header is known in any case, and its neighbours are not") {
  const std::pair<std::string_view, HeaderKind> kinds[] = {
      {"Connection", HeaderKind::kConnection},
      {"Content-Length", HeaderKind::kContentLength},
      {"Expect", HeaderKind::kExpect},
      {"Forwarded", HeaderKind::kForwarded},
      {"Host", HeaderKind::kHost},
      {"HTTP2-Settings", HeaderKind::kHttp2Settings},
      {"Keep-Alive", HeaderKind::kKeepAlive},
      {"Modal-Key", HeaderKind::kModalKey},
      {"Modal-Secret", HeaderKind::kModalSecret},
      {"Proxy", HeaderKind::kProxy},
      {"Proxy-Authenticate", HeaderKind::kProxy},
      {"Proxy-Authorization", HeaderKind::kProxy},
      {"Proxy-Authentication-Info", HeaderKind::kProxy},
      {"Proxy-Connection", HeaderKind::kProxy},
      {"Proxy-Status", HeaderKind::kProxy},
      {"Proxy-X", HeaderKind::kProxy},
      {"Proxy-Features", HeaderKind::kProxy},
      {"TE", HeaderKind::kTe},
      {"traceparent", HeaderKind::kTraceParent},
      {"tracestate", HeaderKind::kTraceState},
      {"Trailer", HeaderKind::kTrailer},
      {"Transfer-Encoding", HeaderKind::kTransferEncoding},
      {"Upgrade", HeaderKind::kUpgrade},
      {"X-Forwarded-For", HeaderKind::kXForwardedFor},
      {"X-Forwarded-Host", HeaderKind::kXForwardedHost},
      {"X-Forwarded-Proto", HeaderKind::kXForwardedProto},
      {"X-Request-Id", HeaderKind::kXRequestId},
  };
  for (const auto& row : kinds) {
    const auto& [name, kind] = row;
    CAPTURE(row.first);
    std::string upper(name), lower(name), near(name);
    for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    CHECK(KindOf(name) == kind);
    CHECK(KindOf(upper) == kind);
    CHECK(KindOf(lower) == kind);
    near[0] = near[0] == 'q' ? 'r' : 'q';
    CHECK(KindOf(near) == HeaderKind::kOther);
    if (kind == HeaderKind::kProxy) continue;
    near = name;
    near.back() = '_';
    CHECK(KindOf(near) == HeaderKind::kOther);
    CHECK(KindOf(std::string(name) + "x") == HeaderKind::kOther);
    CHECK(KindOf(name.substr(1)) == HeaderKind::kOther);
  }
  for (const std::string& other :
       {std::string(), std::string("x"), std::string("Age"), std::string("Content-Type"),
        std::string("Proxyy"), std::string(1000, 'p'), std::string("\0\0", 2)}) {
    CHECK(KindOf(other) == HeaderKind::kOther);
  }
}

TEST_CASE("what belongs to one connection is not copied, in either direction") {
  const Headers headers{{"Accept", "*/*"},
                        {"Connection", "close"},
                        {"Keep-Alive", "timeout=5"},
                        {"Proxy-Connection", "keep-alive"},
                        {"Proxy-Authorization", "Basic x"},
                        {"Proxy", "http://evil"},
                        {"Upgrade", "h2c"},
                        {"HTTP2-Settings", "AAMAAABkAAQ"},
                        {"Transfer-Encoding", "chunked"},
                        {"Content-Length", "5"},
                        {"Modal-Key", "wk-1"},
                        {"Modal-Secret", "ws-1"},
                        {"Trailer", "Checksum"},
                        {"Cookie", "a=b"}};
  CHECK(Copied(headers) == "Accept Trailer Cookie ");
  CHECK(Copied(headers, Direction::kAnswer) == "Accept Trailer Cookie ");
}

TEST_CASE("what the gateway writes into requests is copied from answers only") {
  const Headers headers{{"Host", "a"},
                        {"Expect", "100-continue"},
                        {"Forwarded", "for=x"},
                        {"X-Forwarded-For", "x"},
                        {"X-Forwarded-Host", "x"},
                        {"X-Forwarded-Proto", "x"},
                        {"X-Request-Id", "x"},
                        {"traceparent", "x"},
                        {"tracestate", "x"}};
  CHECK(Copied(headers) == "Host ");
  CHECK(Copied(headers, Direction::kAnswer) ==
        "Host Expect Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Request-Id "
        "traceparent tracestate ");
  for (const Header& header : headers) {
    CHECK(WrittenByUs(KindOf(header.name)) == (header.name != "Host"));
  }
}

TEST_CASE("what Connection names is not copied, over several lines and in any case") {
  CHECK(Copied({{"X-Hop", "1"},
                {"Connection", "close, x-hop ,\t,X-OTHER"},
                {"x-other", "2"},
                {"x-third", "3"},
                {"Connection", "x-THIRD"},
                {"X-Hop-Not", "4"},
                {"X-Hop", "5"}}) == "X-Hop-Not ");
}

TEST_CASE("Connection cannot take away what is meant for the far end") {
  const std::string_view essential[] = {"Host",
                                        "Authorization",
                                        "Cookie",
                                        "Set-Cookie",
                                        "Cache-Control",
                                        "Content-Type",
                                        "Content-Range",
                                        "Content-Encoding",
                                        "Content-Disposition",
                                        "Date",
                                        "Location",
                                        "Origin",
                                        "Range",
                                        "Vary",
                                        "Via",
                                        "X-Real-IP",
                                        "X-Forwarded-Prefix",
                                        "X-Forwarded-Port",
                                        "Sec-WebSocket-Key",
                                        "Trailer"};
  for (const std::string_view name : essential) {
    CAPTURE(name);
    std::string lower(name);
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    CHECK(Copied({{name, "1"}, {"Connection", lower}}) == std::string(name) + " ");
  }
  CHECK(Copied({{"X-Forwarded-For", "1"}, {"Connection", "x-forwarded-for"}}, Direction::kAnswer) ==
        "X-Forwarded-For ");
}

TEST_CASE("Connection's own words are told apart from names") {
  const ConnectionOptions none{Headers{{"Connected", "close"}}};
  CHECK_FALSE(none.close());
  const ConnectionOptions options{Headers{{"Connection", "Keep-Alive"}, {"connection", "Upgrade"}}};
  CHECK(options.keep_alive());
  CHECK(options.upgrade());
  CHECK_FALSE(options.close());
  CHECK(ConnectionOptions{Headers{{"Connection", ",CLOSE,"}}}.close());
}

TEST_CASE("more names than anybody needs are told, and repeating one is not more") {
  std::string many;
  for (int i = 0; i < 16; ++i) many += "x-hop-" + std::to_string(i) + ",";
  CHECK_FALSE(ConnectionOptions{Headers{{"Connection", many + "x-hop-3, close"}}}.overflowed());
  CHECK(ConnectionOptions{Headers{{"Connection", many + "x-more"}}}.overflowed());
  CHECK(Copied({{"Connection", many + "x-more"}, {"x-hop-15", ""}}).empty());
  const std::string long_name(5000, 'x');
  CHECK(Copied({{"Connection", long_name}, {long_name, ""}, {"a", ""}}) == "a ");
}

TEST_CASE("TE passes as trailers and nothing else, and in requests only") {
  CHECK(Copied({{"TE", "trailers"}}) == "TE ");
  CHECK(Copied({{"te", " Trailers "}}) == "te ");
  CHECK(Copied({{"TE", "trailers, deflate"}}).empty());
  CHECK(Copied({{"TE", "gzip"}}).empty());
  CHECK(Copied({{"TE", "trailers"}}, Direction::kAnswer).empty());
  CHECK(AcceptsTrailers("deflate;q=0.5 , Trailers"));
  CHECK(AcceptsTrailers("trailers;q=1"));
  CHECK_FALSE(AcceptsTrailers("trailer"));
  CHECK_FALSE(AcceptsTrailers(""));
}

}  // namespace
}  // namespace modal::policy
