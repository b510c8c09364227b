#include "agent/http/request_parser.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/support/parse_requests.h"

using namespace modal;
using test::ParsedRequests;

namespace {

// However it is cut, it must mean the same.
ParsedRequests Parse(const std::string& text, const http::ParserLimits& limits = {}) {
  const ParsedRequests whole = test::ParseRequests(
      text, [&] { return text.size(); }, limits);
  const ParsedRequests bytes = test::ParseRequests(
      text, [] { return 1; }, limits);
  CHECK(bytes.story == whole.story);
  CHECK(bytes.status == whole.status);
  for (unsigned seed = 0; seed < 8; ++seed) {
    std::minstd_rand random(seed);
    const ParsedRequests pieces = test::ParseRequests(
        text, [&] { return random() % (seed < 4 ? 7 : 97); }, limits);
    CHECK(pieces.story == whole.story);
    CHECK(pieces.status == whole.status);
  }
  return whole;
}

std::string Get(const std::string& lines) { return "GET / HTTP/1.1\r\n" + lines + "\r\n"; }
std::string Chunked(const std::string& body) {
  return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body;
}

void CheckRefused(const std::string& text, int status = 400) {
  CAPTURE(text);
  const ParsedRequests parsed = Parse(text);
  CHECK(parsed.status == status);
  CHECK_FALSE(parsed.error.empty());
}

void CheckTaken(const std::string& text, const std::string& story) {
  CAPTURE(text);
  const ParsedRequests parsed = Parse(text);
  CHECK(parsed.story == story + "\n");
  CHECK(parsed.left == 0);
}

}  // namespace

TEST_CASE("of a request that is refused what came of its first line is known") {
  const auto check = [](const std::string& text, const std::string& line) {
    CAPTURE(text);
    for (const size_t piece : {text.size(), size_t{1}, size_t{7}}) {
      const ParsedRequests parsed = test::ParseRequests(text, [&] { return piece; });
      CHECK(parsed.status >= 400);
      CHECK(parsed.method + " " + parsed.target + " " + parsed.version == line);
    }
  };
  check("GET /a?b HTTP/1.1\r\nHost : a\r\n\r\n", "GET /a?b 1.1");
  check("\r\n\r\nGET /a HTTP/1.0\r\nA: b\r\n c\r\n\r\n", "GET /a 1.0");
  check(Get("Host: a\r\n") + "POST /b HTTP/1.1\r\n\r\n", "POST /b 1.1");
  check("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "GET / 3.0");
  check(Chunked("nonsense\r\n"), "POST / 1.1");
  check(Chunked("0\r\nA : b\r\n\r\n"), "POST / 1.1");
  check("\x16\x03\x01\x02", "  ");
}

TEST_CASE("a request is taken apart") {
  CheckTaken("GET /a/b?c=d HTTP/1.1\r\nHost: example.org:80\r\nX-Y:  z \t\r\nEmpty:\r\n\r\n",
             "GET /a/b?c=d path=/a/b query=c=d host=example.org:80 [Host=example.org:80] [X-Y=z] "
             "[Empty=]");
  CheckTaken("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * path=* query= host=a [Host=a]");
  CheckTaken("GET //a/%2e%2E//b HTTP/1.1\r\nHost:\r\n\r\n",
             "GET //a/%2e%2E//b path=//a/%2e%2E//b query= host= [Host=]");
}

TEST_CASE("an absolute target names the host, whatever the Host header says") {
  CheckTaken("GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
             "GET http://b:81/x?y path=/x query=y host=b:81 [Host=a]");
  CheckTaken("GET HTTPS://[::1]?y HTTP/1.1\r\nHost: a\r\n\r\n",
             "GET HTTPS://[::1]?y path=/ query=y host=[::1] [Host=a]");
}

TEST_CASE("whether the connection stays open depends on version and Connection header") {
  CheckTaken("GET / HTTP/1.0\r\n\r\n", "GET / path=/ query= host= 1.0 close");
  CheckTaken("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
             "GET / path=/ query= host= 1.0 [Connection=Keep-Alive]");
  CheckTaken(Get("Host: a\r\nConnection: x, Close\r\n"),
             "GET / path=/ query= host=a close [Host=a] [Connection=x, Close]");
  CheckTaken(Get("Host: a\r\nConnection: keep-alive\r\nConnection: close\r\n"),
             "GET / path=/ query= host=a close [Host=a] [Connection=keep-alive] "
             "[Connection=close]");
  CheckTaken(Get("Host: a\r\nConnection: closed\r\nProxy-Connection: close\r\n"),
             "GET / path=/ query= host=a [Host=a] [Connection=closed] [Proxy-Connection=close]");
}

TEST_CASE("an upgrade is told of, and the request ends where it would without") {
  const ParsedRequests parsed =
      Parse(Get("Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n") + Get("Host: b\r\n"));
  CHECK(parsed.story ==
        "GET / path=/ query= host=a upgrade [Host=a] [Connection=Upgrade] [Upgrade=websocket]\n"
        "GET / path=/ query= host=b [Host=b]\n");
  CheckTaken(Get("Host: a\r\nUpgrade: websocket\r\n"),
             "GET / path=/ query= host=a [Host=a] [Upgrade=websocket]");
}

TEST_CASE("bodies of announced length are read to their end and no further") {
  CheckTaken("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \r\n\r\nhello",
             "POST / path=/ query= host=a length=5 [Host=a] [Content-Length=5] body=hello");
  CheckTaken("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
             "POST / path=/ query= host=a length=0 [Host=a] [Content-Length=0]");
  const ParsedRequests parsed =
      Parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabcGET / HTTP/1.0\r\n\r\nGE");
  CHECK(parsed.story ==
        "POST / path=/ query= host=a length=3 [Host=a] [Content-Length=003] body=abc\n"
        "GET / path=/ query= host= 1.0 close\n");
  CHECK(parsed.left == 2);
}

TEST_CASE("chunked bodies are decoded, trailers told apart from headers") {
  CheckTaken(Chunked("5\r\nhello\r\nA;x=\"y;\"\r\n0123456789\r\n0\r\nT: u\r\nV: \r\n\r\n"),
             "POST / path=/ query= host=a chunked [Host=a] [Transfer-Encoding=chunked] "
             "body=hello0123456789 trailers: [T=u] [V=]");
  CheckTaken(Chunked("000\r\n\r\n"),
             "POST / path=/ query= host=a chunked [Host=a] [Transfer-Encoding=chunked]");
  CheckTaken(Get("Host: a\r\nTransfer-Encoding: CHUNKED \r\n") + "1\r\nx\r\n0\r\n\r\n",
             "GET / path=/ query= host=a chunked [Host=a] [Transfer-Encoding=CHUNKED] body=x");
}

TEST_CASE("empty lines before a request are passed over") {
  CheckTaken("\r\n\r\nGET / HTTP/1.0\r\n\r\n", "GET / path=/ query= host= 1.0 close");
  CheckRefused("\nGET / HTTP/1.0\r\n\r\n");
  CheckRefused("\r\rGET / HTTP/1.0\r\n\r\n");
}

TEST_CASE("a parser tells when a request has begun") {
  http::RequestParser parser({});
  (void)parser.Next("\r\n");
  CHECK_FALSE(parser.started());
  (void)parser.Next("G");
  CHECK(parser.started());
  parser.Reset();
  CHECK_FALSE(parser.started());
}

TEST_CASE("what two readers could frame differently is refused") {
  for (const char* lines : {
           "Content-Length: 5\r\nContent-Length: 5\r\n",
           "Content-Length: 5\r\nContent-Length: 6\r\n",
           "Content-Length: 5, 5\r\n",
           "Content-Length: +5\r\n",
           "Content-Length: -5\r\n",
           "Content-Length: 0x5\r\n",
           "Content-Length: 5a\r\n",
           "Content-Length: 5 5\r\n",
           "Content-Length:\r\n",
           "Content-Length: 18446744073709551616\r\n",
           "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
           "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
           "Transfer-Encoding: chunked, chunked\r\n",
           "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
           "Transfer-Encoding: chunked, identity\r\n",
           "Transfer-Encoding: identity\r\n",
           "Transfer-Encoding: gzip, chunked\r\n",
           "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
           "Transfer-Encoding: xchunked\r\n",
           "Transfer-Encoding: chunked;q=1\r\n",
           "Transfer-Encoding: \"chunked\"\r\n",
           "Transfer-Encoding: \x0b"
           "chunked\r\n",
           "Transfer-Encoding:\r\n",
           "Transfer-Encoding : chunked\r\n",
           "Transfer-Encoding\r\n : chunked\r\n",
       }) {
    CheckRefused(Get("Host: a\r\n" + std::string(lines)));
  }
  CheckRefused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

TEST_CASE("malformed header lines are refused") {
  for (const std::string lines : {
           "A : b\r\n",
           "A: b\r\n c\r\n",
           "A: b\r\n\tc\r\n",
           "A:\r\n c\r\n",
           " A: b\r\n",
           "A: b\nC: d\r\n",
           "A: b\rC: d\r\n",
           "A: b\r\r\n",
           "A: b\x01\r\n",
           "A: b\x7f\r\n",
           "A(: b\r\n",
           "A\x80: b\r\n",
           ": b\r\n",
           "A\r\n",
           "\n",
       }) {
    CheckRefused(Get("Host: a\r\n" + lines));
  }
  CheckRefused(Get("Host: a\r\n" + std::string("A: b\0c\r\n", 8)));
  CheckRefused(Get("Host: a\r\n" + std::string("A\0: b\r\n", 7)));
}

TEST_CASE("bytes above ASCII are let through in values") {
  CheckTaken(Get("Host: a\r\nA: \xc3\xa4\xff\r\n"),
             "GET / path=/ query= host=a [Host=a] [A=\xc3\xa4\xff]");
}

TEST_CASE("there must be one Host, and it must be a host") {
  CheckRefused(Get(""));
  CheckRefused(Get("Host: a\r\nHost: a\r\n"));
  CheckRefused(Get("Host: a\r\nhOST: b\r\n"));
  CheckRefused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n");
  for (const char* host :
       {"a b", "a/b", "u@a", "a?b", "a#b", "a\\b", "a:b", "a:80:80", ":80", "[::1", "[]", "[x]",
        "[::1]x", "a:123456", "\"a\"", "<a>", "a\xc3\xa4"}) {
    CheckRefused(Get("Host: " + std::string(host) + "\r\n"));
  }
  for (const char* host :
       {"a", "a.example", "127.0.0.1:8000", "[::1]:8000", "a_b-c~d", "a:", "%41"}) {
    CHECK(Parse(Get("Host: " + std::string(host) + "\r\n")).status == 0);
  }
}

TEST_CASE("malformed request lines are refused") {
  for (const char* line : {
           "GET  / HTTP/1.1",
           "GET /  HTTP/1.1",
           "GET\t/ HTTP/1.1",
           " GET / HTTP/1.1",
           "GET / HTTP/1.1 ",
           "GET /",
           "GET",
           "GET / ",
           "get / HTTP/1.1",
           "G@T / HTTP/1.1",
           "GET / http/1.1",
           "GET / HTTP/1.12",
           "GET / HTTP/11.1",
           "GET / HTTP/1",
           "GET / HTTP/1.x",
           "GET / HTTP/1.2",
           "GET / RTSP/1.0",
           "SOURCE / ICE/1.0",
           "DESCRIBE / RTSP/1.0",
           "GET a HTTP/1.1",
           "GET a:80 HTTP/1.1",
           "GET * HTTP/1.1",
           "GET /a#b HTTP/1.1",
           "GET /\x80 HTTP/1.1",
           "GET http:///a HTTP/1.1",
           "GET http://u@a/ HTTP/1.1",
           "GET http://:80/ HTTP/1.1",
           "GET ftp://a/ HTTP/1.1",
           "GET http:/a HTTP/1.1",
       }) {
    CheckRefused(std::string(line) + "\r\nHost: a\r\n\r\n");
  }
  CheckRefused("GET / HTTP/1.1\nHost: a\n\n");
  CheckRefused(std::string("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 28));
}

TEST_CASE("other versions and protocols are refused") {
  CheckRefused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
  CheckRefused("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505);
  CheckRefused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  CheckRefused("\x16\x03\x01\x02");
  CheckRefused(std::string("\0\0\0\1", 4));
  CheckRefused("SSH-2.0-OpenSSH_9.2\r\n");
  CheckRefused("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405);
}

TEST_CASE("only one thing may be expected") {
  CheckTaken("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
             "PUT / path=/ query= host=a expects length=1 [Host=a] [Expect=100-Continue] "
             "[Content-Length=1] body=x");
  CheckRefused("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417);
  CHECK(Parse("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").story ==
        "PUT / path=/ query= host= 1.0 close [Expect=100-continue]\n");
}

TEST_CASE("malformed chunks are refused") {
  for (const char* body : {
           "x\r\n",
           "-1\r\n",
           "+1\r\n",
           "0x1\r\n",
           " 1\r\nx\r\n",
           "1 \r\nx\r\n",
           "\r\n",
           ";a\r\n",
           "1\nx\r\n0\r\n\r\n",
           "1\r\nx\n0\r\n\r\n",
           "1\r\nxy\r\n0\r\n\r\n",
           "1\r\nx0\r\n\r\n",
           "1;a\nb\r\nx\r\n",
           "1;a\rb\r\nx\r\n",
           "10000000000000000\r\n",
           "0\r\nA : b\r\n\r\n",
           "0\r\nA: b\r\n c\r\n\r\n",
           "0\r\nContent-Length: 3\r\n\r\n",
           "0\r\nTransfer-Encoding: chunked\r\n\r\n",
       }) {
    CheckRefused(Chunked(body));
  }
}

TEST_CASE("a head may be as large as the limit, and no larger") {
  const std::string smallest = Get("Host: a\r\nX: \r\n");
  const auto head_of = [&](size_t size) {
    return Get("Host: a\r\nX: " + std::string(size - smallest.size(), 'x') + "\r\n");
  };
  const http::ParserLimits limits{200, 256};
  CHECK(Parse(head_of(200), limits).status == 0);
  CHECK(Parse(head_of(201), limits).status == 431);
  CHECK(Parse(head_of(2000) + std::string("\0", 1), limits).status == 431);
  CHECK(Parse("GET /" + std::string(195, 'x'), limits).status == 414);
  CHECK(Parse("GET /" + std::string(2000, 'x') + " HTTP/1.1\r\n", limits).status == 414);
  CHECK(Parse(std::string(2000, '\n'), limits).status == 431);
}

TEST_CASE("there may be as many headers as the limit says, and no more") {
  const http::ParserLimits limits{1000, 3};
  CHECK(Parse(Get("Host: a\r\nA:\r\nB:\r\n"), limits).status == 0);
  CHECK(Parse(Get("Host: a\r\nA:\r\nB:\r\nC:\r\n"), limits).status == 431);
  CHECK(Parse(Chunked("0\r\nA:\r\nB:\r\nC:\r\n\r\n"), limits).status == 0);
  CHECK(Parse(Chunked("0\r\nA:\r\nB:\r\nC:\r\nD:\r\n\r\n"), limits).status == 431);
}

TEST_CASE("chunk extensions and trailers have their limits too") {
  CHECK(Parse(Chunked("1;" + std::string(3000, 'x') + "\r\ny\r\n0\r\n\r\n")).status == 0);
  CHECK(Parse(Chunked("1;" + std::string(5000, 'x') + "\r\ny\r\n0\r\n\r\n")).status == 400);
  const http::ParserLimits limits{200, 256};
  CHECK(Parse(Chunked("0\r\nX: " + std::string(195, 'x') + "\r\n\r\n"), limits).status == 431);
  CHECK(Parse(Chunked("0\r\nX: " + std::string(150, 'x') + "\r\n\r\n"), limits).status == 0);
}

TEST_CASE("a parser that has failed stays so until it is reset") {
  http::RequestParser parser({});
  CHECK(parser.Next("x").event == http::RequestParser::Event::kError);
  CHECK(parser.Next("GET / HTTP/1.0\r\n\r\n").event == http::RequestParser::Event::kError);
  parser.Reset();
  CHECK(parser.Next("GET / HTTP/1.0\r\n\r\n").event == http::RequestParser::Event::kHead);
}
