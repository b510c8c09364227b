#include "agent/http/status_reader.h"

#include <doctest/doctest.h>

#include <string>

using namespace modal;
using State = http::StatusReader::State;

namespace {

struct Outcome {
  State state;
  int status;
  std::string_view error;
};

Outcome ReadInPieces(const std::string& text, size_t size) {
  http::StatusReader reader;
  for (size_t at = 0; at < text.size(); at += size) reader.Feed(text.substr(at, size));
  return {reader.Finish(), reader.status(), reader.error()};
}

Outcome Read(const std::string& text) {
  const Outcome whole = ReadInPieces(text, text.size() + 1);
  for (const size_t size : {1, 2, 7}) {
    const Outcome pieces = ReadInPieces(text, size);
    CHECK(pieces.state == whole.state);
    CHECK(pieces.status == whole.status);
    CHECK(pieces.error == whole.error);
  }
  return whole;
}

int StatusOf(const std::string& text) {
  CAPTURE(text);
  const Outcome outcome = Read(text);
  CHECK(outcome.state == State::kDone);
  return outcome.status;
}

std::string_view ErrorOf(const std::string& text) {
  CAPTURE(text);
  const Outcome outcome = Read(text);
  CHECK(outcome.state == State::kFailed);
  return outcome.error;
}

}  // namespace

TEST_CASE("the status of an answer is read, whatever its body") {
  CHECK(StatusOf("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") == 200);
  CHECK(StatusOf("HTTP/1.1 204\r\n\r\n") == 204);
  CHECK(StatusOf("HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\n") == 302);
  CHECK(StatusOf("HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\nzz") ==
        503);
  CHECK(
      StatusOf("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\1") ==
      101);
}

TEST_CASE("interim answers are passed over") {
  CHECK(StatusOf("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                 "HTTP/1.1 200 OK\r\n\r\n") == 200);
}

TEST_CASE("sloppy servers are alive too") {
  CHECK(StatusOf("HTTP/1.1 200 OK\nA: b\n\n") == 200);
  CHECK(StatusOf("HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n") == 200);
  CHECK(StatusOf("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n") ==
        200);
}

TEST_CASE("what is no answer is an error") {
  CHECK(ErrorOf("") == "the connection was closed without an answer");
  CHECK(ErrorOf("HTTP/1.1 200 OK\r\nContent-Le") ==
        "the connection was closed in the middle of the answer's head");
  CHECK(ErrorOf("HTTP/1.1 100 Continue\r\n\r\n") ==
        "the connection was closed in the middle of the answer's head");
  CHECK(ErrorOf("SSH-2.0-OpenSSH_9.2\r\n") == "the answer is not HTTP");
  CHECK(ErrorOf("HTTP/1.1 2000 OK\r\n\r\n") == "the answer is not HTTP");
  CHECK(ErrorOf("HTTP/1.1 -20 OK\r\n\r\n") == "the answer is not HTTP");
  CHECK(ErrorOf("HTTP/1.1 099 Low\r\n\r\n") == "the answer's status is not a status");
  CHECK(ErrorOf("HTTP/1.1 999 High\r\n\r\n") == "the answer's status is not a status");
}

TEST_CASE("an endless head is given up on") {
  http::StatusReader reader;
  REQUIRE(reader.Feed("HTTP/1.1 200 OK\r\nX: ") == State::kMore);
  const std::string more(1000, 'x');
  int fed = 0;
  while (reader.Feed(more) == State::kMore) ++fed;
  CHECK(fed < 300);
  CHECK(reader.error() == "the answer's head is too large");
  CHECK(reader.Feed("\r\n\r\n") == State::kFailed);
}
