#include "agent/http/response_parser.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/support/parse_answers.h"

using namespace modal;
using http::Method;

namespace {

test::ParsedAnswers Parse(std::string_view text, Method method = Method::kGet) {
  return test::ParseAnswers(
      text, [&] { return text.size(); }, method);
}
std::string Story(std::string_view text, Method method = Method::kGet) {
  return Parse(text, method).story;
}
// What is said of it when the server closes after it.
test::ParsedAnswers Closed(std::string_view text, Method method = Method::kGet) {
  return test::ParseAnswers(
      text, [&] { return text.size(); }, method, true);
}

const std::string kOk = "HTTP/1.1 200 OK\r\n";

}  // namespace

TEST_CASE("an answer is taken apart") {
  CHECK(Story(kOk + "Content-Length: 5\r\nDate: now\r\nX-A:  b c \r\n\r\nhello") ==
        "200 OK keep body length=5 date [Content-Length=5] [Date=now] [X-A=b c] <hello> end\n");
  CHECK(Story("HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n") ==
        "404  keep length=0 [Content-Length=0] end\n");
  CHECK(Story("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n") ==
        "404  keep length=0 [Content-Length=0] end\n");
  CHECK(Story("HTTP/1.1 599 Not At All\r\nContent-Length: 0\r\n\r\n") ==
        "599 Not At All keep length=0 [Content-Length=0] end\n");
}

TEST_CASE("an answer in chunks is put together, and its trailers are told") {
  CHECK(Story(kOk + "Transfer-Encoding: Chunked\r\n\r\n"
                    "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\nV: w\r\n\r\n") ==
        "200 OK keep body [Transfer-Encoding=Chunked] <abcde> {T=u} {V=w} end\n");
  CHECK(Story(kOk + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n") ==
        "200 OK keep body [Transfer-Encoding=chunked] end\n");
}

TEST_CASE("answers follow each other on a connection") {
  const std::string one = kOk + "Content-Length: 1\r\n\r\n";
  const auto parsed = Parse(one + "a" + one + "b" + one.substr(0, 9));
  CHECK(parsed.story ==
        "200 OK keep body length=1 [Content-Length=1] <a> end\n"
        "200 OK keep body length=1 [Content-Length=1] <b> end\n");
  CHECK(parsed.left == 9);
}

TEST_CASE("interim answers come before the answer, and have no body") {
  CHECK(Story("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
              "Content-Length: 7\r\n\r\n" +
              kOk + "Content-Length: 2\r\n\r\nhi") ==
        "100 Continue interim keep\n"
        "103 Early Hints interim keep length=7 [Link=</a>] [Content-Length=7]\n"
        "200 OK keep body length=2 [Content-Length=2] <hi> end\n");
  // To HEAD too.
  CHECK(Story("HTTP/1.1 100 Continue\r\n\r\n" + kOk + "Content-Length: 2\r\n\r\n", Method::kHead) ==
        "100 Continue interim keep\n"
        "200 OK keep length=2 [Content-Length=2] end\n");
}

TEST_CASE("after 101 comes another protocol, which is not looked at") {
  const auto parsed = Parse(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
      "Connection: Upgrade\r\n\r\n\x81\x02hi");
  CHECK(parsed.story ==
        "101 Switching Protocols switches keep [Upgrade=websocket] [Connection=Upgrade] end\n");
  CHECK(parsed.left == 4);
}

TEST_CASE("answers to HEAD, and 204 and 304, have no body, whatever they say") {
  const std::string next = "HTTP/1.1 204 No Content\r\n\r\n";
  CHECK(Story(kOk + "Content-Length: 5\r\n\r\n" + next, Method::kHead) ==
        "200 OK keep length=5 [Content-Length=5] end\n204 No Content keep end\n");
  CHECK(Story(kOk + "Transfer-Encoding: chunked\r\n\r\n" + next, Method::kHead) ==
        "200 OK keep [Transfer-Encoding=chunked] end\n204 No Content keep end\n");
  CHECK(Story(kOk + "\r\n" + next, Method::kHead) == "200 OK keep end\n204 No Content keep end\n");
  for (const char* status : {"204", "304"}) {
    const std::string line = std::string("HTTP/1.1 ") + status + " X\r\n";
    const std::string start = std::string(status) + " X keep";
    CHECK(Story(line + "Content-Length: 5\r\n\r\n" + next) ==
          start + " length=5 [Content-Length=5] end\n204 No Content keep end\n");
    CHECK(Story(line + "Transfer-Encoding: chunked\r\n\r\n" + next) ==
          start + " [Transfer-Encoding=chunked] end\n204 No Content keep end\n");
  }
}

TEST_CASE("without length and chunks the body ends with the connection") {
  CHECK(Closed(kOk + "\r\nall of it").story == "200 OK body <all of it> end\n");
  CHECK(Closed(kOk + "\r\n").story == "200 OK body end\n");
  CHECK(Closed("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nall").story ==
        "200 OK body [Connection=keep-alive] <all> end\n");
  // Not before.
  CHECK(Story(kOk + "\r\nall of it") == "200 OK body <all of it");
}

TEST_CASE("a server that closes too early is found out, and where it was") {
  const auto error = [](const std::string& text) { return std::string(Closed(text).error); };
  CHECK(error(kOk.substr(0, 4)) == "the server closed in the middle of the answer's head");
  CHECK(error(kOk + "Content-Length: 5\r\n") ==
        "the server closed in the middle of the answer's head");
  CHECK(error("HTTP/1.1 100 Continue\r\n\r\n") == "the server closed without an answer");
  CHECK(error(kOk + "Content-Length: 5\r\n\r\nhell") ==
        "the server closed in the middle of the answer's body");
  const std::string chunked = kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
  CHECK(error(chunked) == "the server closed in the middle of the answer's body");
  CHECK(error(chunked + "0\r\n") == "the server closed in the middle of the answer's body");
  CHECK(error(chunked + "0\r\nT: u\r\n") == "the server closed in the middle of the answer's body");
  CHECK(error(chunked + "0\r\n\r\n").empty());
  http::ResponseParser parser({});
  CHECK_FALSE(parser.Finish());
  CHECK(parser.error().message == "the server closed without an answer");
  CHECK(parser.error().status == 502);
}

TEST_CASE("whether the connection can be used again depends on version and Connection header") {
  const auto keeps = [](const std::string& text) {
    return Story(text + "Content-Length: 0\r\n\r\n").find(" keep ") != std::string::npos;
  };
  CHECK(keeps("HTTP/1.1 200 OK\r\n"));
  CHECK(keeps("HTTP/1.1 200 OK\r\nConnection: x\r\n"));
  CHECK_FALSE(keeps("HTTP/1.1 200 OK\r\nConnection: Close\r\n"));
  CHECK_FALSE(keeps("HTTP/1.1 200 OK\r\nConnection: x , close\r\n"));
  CHECK_FALSE(keeps("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\n"));
  CHECK_FALSE(keeps("HTTP/1.0 200 OK\r\n"));
  CHECK(keeps("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n"));
}

TEST_CASE("how long a server keeps idle connections is read, if it is a number") {
  const auto seconds = [](const std::string& value) {
    http::ResponseParser parser({});
    const std::string text = kOk + "Keep-Alive: " + value + "\r\nContent-Length: 0\r\n\r\n";
    REQUIRE(parser.Next(text).event == http::ResponseParser::Event::kHead);
    return parser.response().keep_alive_seconds;
  };
  CHECK(seconds("timeout=5") == 5u);
  CHECK(seconds("max=100 , Timeout=75") == 75u);
  CHECK(seconds("timeout=0") == 0u);
  CHECK_FALSE(seconds("timeout=-1"));
  CHECK_FALSE(seconds("timeout="));
  CHECK_FALSE(seconds("timeout=5s"));
  CHECK_FALSE(seconds("timeout=99999999999999999999"));
  CHECK_FALSE(seconds("max=100"));
}

TEST_CASE("what two readers could frame differently is refused") {
  const auto refused = [](const std::string& lines) {
    const auto parsed = Parse(kOk + lines + "\r\n0\r\n\r\n");
    return parsed.story == " error\n";
  };
  CHECK_FALSE(refused("Content-Length: 5\r\n"));
  CHECK(refused("Content-Length: 5\r\nContent-Length: 5\r\n"));
  CHECK(refused("Content-Length: 5\r\nContent-Length: 6\r\n"));
  CHECK(refused("Content-Length: 5, 5\r\n"));
  CHECK(refused("Content-Length: -5\r\n"));
  CHECK(refused("Content-Length: +5\r\n"));
  CHECK(refused("Content-Length: 0x5\r\n"));
  CHECK(refused("Content-Length: 5 5\r\n"));
  CHECK(refused("Content-Length: \r\n"));
  CHECK(refused("Content-Length: 99999999999999999999\r\n"));
  CHECK(refused("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"));
  CHECK(refused("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"));
  CHECK(refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"));
  CHECK(refused("Transfer-Encoding: chunked, chunked\r\n"));
  CHECK(refused("Transfer-Encoding: gzip, chunked\r\n"));
  CHECK(refused("Transfer-Encoding: chunked, gzip\r\n"));
  CHECK(refused("Transfer-Encoding: identity\r\n"));
  CHECK(refused("Transfer-Encoding: xchunked\r\n"));
  CHECK(refused("Transfer-Encoding:\r\n"));
  CHECK(Parse("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").story ==
        " error\n");
}

TEST_CASE("two lengths are refused where there is no body too") {
  CHECK(Parse(kOk + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", Method::kHead).story ==
        " error\n");
  CHECK(Parse("HTTP/1.1 304 X\r\nContent-Length: x\r\n\r\n").story == " error\n");
}

TEST_CASE("malformed status lines are refused") {
  const std::string rest = "Content-Length: 0\r\n\r\n";
  for (const char* line : {"HTTP/1.1 OK\r\n",         "HTTP/1.1 20 OK\r\n",
                           "HTTP/1.1 2000 OK\r\n",    "HTTP/1.1 099 OK\r\n",
                           "HTTP/1.1 600 OK\r\n",     "HTTP/1.1 999 OK\r\n",
                           "HTTP/1.1  200 OK\r\n",    "HTTP/1.1\r\n",
                           "HTTP/2.0 200 OK\r\n",     "HTTP/0.9 200 OK\r\n",
                           "HTTP/1.2 200 OK\r\n",     "HTTP/11 200 OK\r\n",
                           "http/1.1 200 OK\r\n",     "ICY 200 OK\r\n",
                           "RTSP/1.0 200 OK\r\n",     " HTTP/1.1 200 OK\r\n",
                           "HTTP/1.1 200 O\rK\r\n",   "GET / HTTP/1.1\r\n",
                           "\r\nHTTP/1.1 200 OK\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
                           "{\"error\":1}\r\n",       "\x16\x03\x01\r\n",
                           "HTTP/1.1 200 OK\n"}) {
    CAPTURE(line);
    const auto parsed = Parse(line + rest);
    CHECK(parsed.story == " error\n");
    CHECK_FALSE(parsed.error.empty());
  }
}

TEST_CASE("malformed header lines are refused") {
  for (const char* line : {"A\r\n", "A : b\r\n", ": b\r\n", "A\tB: c\r\n", " A: b\r\n",
                           "A: b\r\n c\r\n", "A: b\r\n\tc\r\n", "A: b\rc\r\n", "A: b\n",
                           "\xc3\xa4: b\r\n", "A: b\x01\r\n", "A: b\x7f\r\n"}) {
    CAPTURE(line);
    CHECK(Parse(kOk + line + "Content-Length: 0\r\n\r\n").story == " error\n");
  }
  const std::string nul = kOk + "A: b" + std::string(1, '\0') + "c\r\nContent-Length: 0\r\n\r\n";
  CHECK(Parse(nul).story == " error\n");
  CHECK(Story(kOk + "A: \xc3\xa4\r\nContent-Length: 0\r\n\r\n") ==
        "200 OK keep length=0 [A=\xc3\xa4] [Content-Length=0] end\n");
}

TEST_CASE("malformed chunks are refused") {
  for (const char* chunks :
       {"x\r\n", "-1\r\n", "+1\r\na\r\n", "0x1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n", "\r\n",
        "1\na\r\n", "1\r\nab\r\n", "1\r\na\n", "1\r\naX", "fffffffffffffffff\r\n", "1\ra",
        "0\r\nT : u\r\n\r\n", "0\r\n T: u\r\n\r\n", "0\r\nT\r\n\r\n"}) {
    CAPTURE(chunks);
    const auto parsed = Parse(kOk + "Transfer-Encoding: chunked\r\n\r\n" + chunks);
    CHECK(parsed.story.ends_with(" error\n"));
  }
}

TEST_CASE("heads, headers, chunk lines and trailers have their limits") {
  const auto refused = [](const std::string& text, const http::ParserLimits& limits) {
    const auto parsed = test::ParseAnswers(
        text, [&] { return text.size(); }, Method::kGet, false, limits);
    return parsed.story.ends_with(" error\n");
  };
  const std::string head = kOk + "Content-Length: 0\r\n\r\n";
  CHECK_FALSE(refused(head, {head.size(), 256}));
  CHECK(refused(head, {head.size() - 1, 256}));
  CHECK_FALSE(refused(kOk + "Content-Length: 0\r\nA: b\r\n\r\n", {4096, 2}));
  CHECK(refused(kOk + "Content-Length: 0\r\nA: b\r\nC: d\r\n\r\n", {4096, 2}));
  const std::string chunked = kOk + "Transfer-Encoding: chunked\r\n\r\n";
  CHECK(refused(chunked + "1;" + std::string(5000, 'x') + "\r\na\r\n0\r\n\r\n", {}));
  CHECK(refused(chunked + "0\r\nT: " + std::string(200, 'x') + "\r\n\r\n", {150, 256}));
}

TEST_CASE("a parser that has failed stays so until it is reset") {
  http::ResponseParser parser({});
  CHECK(parser.Next("nonsense\r\n\r\n").event == http::ResponseParser::Event::kError);
  CHECK(parser.Next(kOk).event == http::ResponseParser::Event::kError);
  parser.Reset();
  CHECK(parser.Next(kOk + "\r\n").event == http::ResponseParser::Event::kHead);
}

TEST_CASE("a body may pass by another way") {
  http::ResponseParser parser({});
  using Event = http::ResponseParser::Event;
  CHECK(parser.Next(kOk + "Content-Length: 10\r\n\r\n").event == Event::kHead);
  CHECK(parser.Next("ab").event == Event::kBody);
  CHECK(parser.body_left() == 8);
  parser.SkipBody(7);
  CHECK(parser.Next("").event == Event::kMore);
  parser.SkipBody(1);
  CHECK(parser.Next("").event == Event::kEnd);
}

TEST_CASE("however the bytes come in, the answers are the same") {
  const std::vector<std::string> texts{
      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + kOk + "Content-Length: 5\r\n\r\nhello" +
          kOk + "Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\n" +
          "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n" +
          "HTTP/1.0 200 OK\r\n\r\nuntil the end",
      kOk + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX",
      kOk + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi",
  };
  for (const std::string& text : texts) {
    for (const Method method : {Method::kGet, Method::kHead}) {
      const auto whole = test::ParseAnswers(
          text, [&] { return text.size(); }, method, true);
      for (unsigned seed = 0; seed < 40; ++seed) {
        std::minstd_rand random(seed);
        const auto cut = test::ParseAnswers(
            text, [&] { return seed == 0 ? 1 : 1 + random() % 30; }, method, true);
        CHECK(cut.story == whole.story);
        CHECK(cut.error == whole.error);
      }
    }
  }
}
