#include "agent/http/response_encoder.h"

#include <doctest/doctest.h>

#include <array>

using namespace modal;

namespace {

std::string Head(const http::AnswerHead& head) {
  std::string out;
  http::AppendHead(out, head);
  return out;
}

}  // namespace

TEST_CASE("a head has its status, headers, framing, date and connection") {
  const std::array headers{http::Header{"A", "b"}, http::Header{"C", ""}};
  CHECK(Head({.headers = headers,
              .date = "today",
              .framing = http::BodyFraming::kLength,
              .length = 5}) ==
        "HTTP/1.1 200 OK\r\nA: b\r\nC: \r\nContent-Length: 5\r\nDate: today\r\n\r\n");
  CHECK(Head({.status = 503, .framing = http::BodyFraming::kChunked, .keep_alive = false}) ==
        "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n");
  CHECK(Head({.status = 599,
              .framing = http::BodyFraming::kLength,
              .length = 0,
              .http_1_0 = true}) ==
        "HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
}

TEST_CASE("ready lines come after the headers, and a reason may be given") {
  const std::array headers{http::Header{"A", "b"}};
  CHECK(Head({.reason = "Fine", .headers = headers, .lines = "C: d\r\nE: f\r\n"}) ==
        "HTTP/1.1 200 Fine\r\nA: b\r\nC: d\r\nE: f\r\n\r\n");
}

TEST_CASE("a header that would split the answer, or is worked out here, is left out") {
  const std::array headers{http::Header{"A", "b\r\nSet-Cookie: c"},
                           http::Header{"B", "c\nd"},
                           http::Header{"C", std::string_view("d\0", 2)},
                           http::Header{"D E", "f"},
                           http::Header{"", "g"},
                           http::Header{"H:", "i"},
                           http::Header{"content-length", "7"},
                           http::Header{"Transfer-Encoding", "chunked"},
                           http::Header{"Connection", "x"},
                           http::Header{"Date", "never"},
                           http::Header{"Good", "\xc3\xa4"}};
  CHECK(Head({.headers = headers, .framing = http::BodyFraming::kLength, .length = 0}) ==
        "HTTP/1.1 200 OK\r\nGood: \xc3\xa4\r\nContent-Length: 0\r\n\r\n");
  std::string out;
  http::AppendInterimHead(out, 103, headers);
  CHECK(out == "HTTP/1.1 103 Early Hints\r\nGood: \xc3\xa4\r\n\r\n");
}

TEST_CASE("how the end of the body is told depends on request and answer") {
  using http::BodyFraming;
  http::Request request;
  request.method = http::Method::kGet;
  CHECK(http::ChooseFraming(request, 200, true) == BodyFraming::kLength);
  CHECK(http::ChooseFraming(request, 200, false) == BodyFraming::kChunked);
  CHECK(http::ChooseFraming(request, 204, true) == BodyFraming::kNone);
  CHECK(http::ChooseFraming(request, 304, false) == BodyFraming::kNone);
  CHECK(http::ChooseFraming(request, 103, false) == BodyFraming::kNone);
  request.http_1_0 = true;
  CHECK(http::ChooseFraming(request, 200, true) == BodyFraming::kLength);
  CHECK(http::ChooseFraming(request, 200, false) == BodyFraming::kUntilClose);
  request.method = http::Method::kHead;
  CHECK(http::ChooseFraming(request, 200, true) == BodyFraming::kNone);
}

TEST_CASE("chunks are sized in hexadecimal, and an empty one is not the last") {
  std::string out;
  http::AppendChunk(out, "");
  CHECK(out == "");
  http::AppendChunk(out, std::string(26, 'x'));
  CHECK(out == "1a\r\n" + std::string(26, 'x') + "\r\n");
  out.clear();
  http::AppendLastChunk(out, {});
  CHECK(out == "0\r\n\r\n");
}

TEST_CASE("dates are written as HTTP wants them") {
  CHECK(http::FormatDate(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK(http::FormatDate(1769862896) == "Sat, 31 Jan 2026 12:34:56 GMT");
}

TEST_CASE("an error answer is a small JSON body") {
  const http::Response plain = http::ErrorResponse(503, "not_ready", "say \"when\"");
  CHECK(plain.status == 503);
  CHECK(plain.content_type == "application/json");
  CHECK(plain.body == "{\"error\":\"not_ready\",\"message\":\"say \\\"when\\\"\"}\n");
  CHECK(http::ErrorResponse(404, "e", "m", "id-1").body ==
        "{\"error\":\"e\",\"message\":\"m\",\"request_id\":\"id-1\"}\n");
}

TEST_CASE("headers are found whatever their case") {
  const std::array headers{http::Header{"Content-TYPE", "a"}, http::Header{"content-type", "b"}};
  CHECK(http::FindHeader(headers, "Content-Type") == "a");
  CHECK_FALSE(http::FindHeader(headers, "Content-Typ"));
  CHECK_FALSE(http::EqualsIgnoringCase("[", "{"));
}
