// What HTTP messages are made of, seen by those who answer them.
//
// A Request is views into its connection's buffers: good until it has been answered, or its
// connection has gone. Whoever needs more copies it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace modal::http {

enum class Method : uint8_t {
  kGet,
  kHead,
  kPost,
  kPut,
  kPatch,
  kDelete,
  kOptions,
  kTrace,
  kOther,  // see Request::method_name
};

struct Header {
  std::string_view name;
  std::string_view value;  // without white space at its ends
};

// ASCII only, as header names and tokens are.
bool EqualsIgnoringCase(std::string_view a, std::string_view b);

// The value of the first header of this name.
std::optional<std::string_view> FindHeader(std::span<const Header> headers, std::string_view name);

struct Request {
  Method method = Method::kOther;
  std::string_view method_name;  // "GET"
  std::string_view target;       // as it came: "/a/b?c=d", "http://host/a", "*"
  std::string_view path;         // of the target, as it came: "/a/b"
  std::string_view query;        // after the "?", or empty
  std::string_view host;         // of the target if it names one, else of the Host header
  std::span<const Header> headers;
  bool http_1_0 = false;
  bool keep_alive = true;         // the client would send another request
  bool expects_continue = false;  // it waits for "100 Continue" before it sends the body
  bool wants_upgrade = false;     // Connection: upgrade, with an Upgrade header
  bool chunked = false;
  std::optional<uint64_t> content_length;

  // Where bodies are collected (http::Server with a WholeHandler): all of it.
  std::string_view body;
  std::span<const Header> trailers;

  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
  std::optional<std::string_view> Find(std::string_view name) const {
    return FindHeader(headers, name);
  }
};

// A whole answer. Content-Length, Date and Connection are not given here: they are worked out. With
// HEAD the body is not sent, but its length is told; 204 and 304 have none.
struct Response {
  int status = 200;
  std::string content_type = {};  // empty: no such header
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};  // any others
};

// "Not Found"; empty for a number that has no name.
std::string_view StatusText(int status);

// `{"error":"not_ready","message":"...","request_id":"..."}` with its status. Without a request id
// that field is left out.
Response ErrorResponse(int status, std::string_view error, std::string_view message,
                       std::string_view request_id = {});

}  // namespace modal::http
