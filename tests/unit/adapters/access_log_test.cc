#include "adapters/access_log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "tests/support/fake_log.h"

using namespace modal;
using policy::AccessLogFormat;

namespace {

struct Pipe {
  Pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    read_end = UniqueFd(ends[0]);
    write_end = UniqueFd(ends[1]);
  }
  std::string Read() {
    std::string text;
    std::array<char, 65536> buffer;
    for (;;) {
      const ssize_t size = ::read(read_end.get(), buffer.data(), buffer.size());
      if (size <= 0) return text;
      text.append(buffer.data(), static_cast<size_t>(size));
    }
  }
  UniqueFd read_end, write_end;
};

struct Fixture {
  explicit Fixture(AccessLogFormat format, uint32_t slow_ms = 0) { Configure(format, slow_ms); }
  void Configure(AccessLogFormat format, uint32_t slow_ms = 0) {
    policy::GatewayConfig config{};
    config.access_log = format;
    config.slow_request_ms = slow_ms;
    log.Configure(config);
  }
  // The line of one entry, with its time made into "TIME".
  std::string Line(const adapters::AccessEntry& entry) {
    log.Add(entry);
    log.Flush();
    std::string line = pipe.Read();
    if (line.starts_with('{')) {
      Hide(line, "\"time\":\"", "\",");
    } else {
      Hide(line, "[", "] ");
    }
    return line;
  }
  static void Hide(std::string& line, const std::string& before, const std::string& after) {
    const size_t at = line.find(before);
    if (at == std::string::npos) return;
    const size_t begin = at + before.size();
    line.replace(begin, line.find(after, begin) - begin, "TIME");
  }

  Pipe pipe;
  test::FakeLog own;
  adapters::AccessLog log{std::move(pipe.write_end), own.log};
};

adapters::AccessEntry SomeEntry() {
  adapters::AccessEntry entry;
  entry.client = "192.0.2.7";
  entry.method = "GET";
  entry.target = "/a?b";
  entry.version = "1.1";
  entry.host = "example.org";
  entry.status = 200;
  entry.outcome = "ok";
  entry.bytes_received = 5;
  entry.bytes_sent = 512;
  entry.microseconds = 1234;
  entry.upstream_microseconds = 1000;
  entry.request_id = "id";
  entry.user_agent = "agent";
  entry.referer = "from";
  return entry;
}

}  // namespace

TEST_CASE("the common format") {
  Fixture f(AccessLogFormat::kCommon);
  adapters::AccessEntry entry = SomeEntry();
  CHECK(f.Line(entry) == "192.0.2.7 - - [TIME] \"GET /a?b HTTP/1.1\" 200 512 \"from\" \"agent\"\n");
  entry.client = entry.referer = entry.user_agent = {};
  entry.version = "1.0";
  CHECK(f.Line(entry) == "- - - [TIME] \"GET /a?b HTTP/1.0\" 200 512 \"-\" \"-\"\n");
  // As far as it came.
  entry.version = {};
  CHECK(f.Line(entry) == "- - - [TIME] \"GET /a?b\" 200 512 \"-\" \"-\"\n");
  entry.target = {};
  CHECK(f.Line(entry) == "- - - [TIME] \"GET\" 200 512 \"-\" \"-\"\n");
  entry.method = {};
  CHECK(f.Line(entry) == "- - - [TIME] \"-\" 200 512 \"-\" \"-\"\n");
}

TEST_CASE("the JSON format") {
  Fixture f(AccessLogFormat::kJson);
  adapters::AccessEntry entry = SomeEntry();
  CHECK(f.Line(entry) ==
        "{\"time\":\"TIME\",\"client\":\"192.0.2.7\",\"method\":\"GET\",\"target\":\"/a?b\","
        "\"host\":\"example.org\",\"status\":200,\"outcome\":\"ok\",\"bytes_received\":5,"
        "\"bytes_sent\":512,\"us\":1234,\"upstream_us\":1000,\"request_id\":\"id\","
        "\"user_agent\":\"agent\",\"referer\":\"from\"}\n");
  entry.upstream_microseconds.reset();
  CHECK(f.Line(entry).find("\"upstream_us\":null,") != std::string::npos);
}

TEST_CASE("times are those of the day, in UTC") {
  Fixture f(AccessLogFormat::kCommon);
  f.log.Add(SomeEntry());
  f.Configure(AccessLogFormat::kJson);
  f.log.Add(SomeEntry());
  f.log.Flush();
  const std::string text = f.pipe.Read();
  // 192.0.2.7 - - [21/Nov/2026:16:20:00 +0000]
  const std::string common = text.substr(text.find('[') + 1, 26);
  CHECK(common[2] == '/');
  CHECK(common[6] == '/');
  CHECK(common[11] == ':');
  CHECK(common.ends_with(" +0000"));
  const std::string json = text.substr(text.find("\"time\":\"") + 8, 24);
  CHECK(json[4] == '-');
  CHECK(json[10] == 'T');
  CHECK(json[19] == '.');
  CHECK(json[23] == 'Z');
  // Both name the same day of the month, or the next if midnight lay between.
  CHECK((common.substr(0, 2) == json.substr(8, 2) || json.substr(11, 5) == "00:00"));
}

TEST_CASE("nothing that a client sends can end a field or a line, or forge another") {
  adapters::AccessEntry entry = SomeEntry();
  const std::string evil = "a\"b\\c\nd\re\tf\x1b[31m\x7f\xff\xc3\xa4" + std::string(1, '\0');
  entry.target = entry.user_agent = entry.referer = evil;
  SUBCASE("common") {
    Fixture f(AccessLogFormat::kCommon);
    const std::string safe = "a\\\"b\\\\c\\x0ad\\x0de\\x09f\\x1b[31m\\x7f\\xff\\xc3\\xa4\\x00";
    CHECK(f.Line(entry) == "192.0.2.7 - - [TIME] \"GET " + safe + " HTTP/1.1\" 200 512 \"" + safe +
                               "\" \"" + safe + "\"\n");
  }
  SUBCASE("JSON") {
    Fixture f(AccessLogFormat::kJson);
    entry.host = entry.request_id = evil;
    const std::string line = f.Line(entry);
    CHECK(line.find("\"target\":\"a\\\"b\\\\c\\nd\\re\\tf\\u001b[31m") != std::string::npos);
    CHECK(line.find('\n') == line.size() - 1);
    CHECK(line.find('\xff') == std::string::npos);
    for (const char c : line.substr(0, line.size() - 1)) {
      CHECK(static_cast<unsigned char>(c) >= 0x20);
    }
  }
}

TEST_CASE("slow requests are told in the agent's log, others are not") {
  Fixture f(AccessLogFormat::kOff, 1000);
  CHECK(f.log.enabled());
  adapters::AccessEntry entry = SomeEntry();
  entry.microseconds = 999'999;
  CHECK(f.Line(entry) == "");
  CHECK(f.own.lines().empty());
  entry.microseconds = 1'000'000;
  CHECK(f.Line(entry) == "");
  REQUIRE(f.own.Count("request.slow") == 1);
  CHECK(f.own.Has("method=GET"));
  CHECK(f.own.Has("target=/a?b"));
  CHECK(f.own.Has("ms=1000"));
  CHECK(f.own.Has("request_id=id"));
  CHECK(f.own.Has("warn"));
}

TEST_CASE("a log that is off says nothing, until it is switched on") {
  Fixture f(AccessLogFormat::kOff);
  CHECK_FALSE(f.log.enabled());
  CHECK(f.Line(SomeEntry()) == "");
  f.Configure(AccessLogFormat::kCommon);
  CHECK(f.log.enabled());
  CHECK(f.Line(SomeEntry()) != "");
}

TEST_CASE("lines are written together, each of them whole") {
  Fixture f(AccessLogFormat::kCommon);
  std::string target = "/";
  for (int i = 0; i < 100; ++i) {
    adapters::AccessEntry entry = SomeEntry();
    target += std::string(7, 'x');
    entry.target = target;
    f.log.Add(entry);
  }
  CHECK(f.log.pending());
  f.log.Flush();
  CHECK_FALSE(f.log.pending());
  const std::string text = f.pipe.Read();
  CHECK(std::count(text.begin(), text.end(), '\n') == 100);
  CHECK(text.ends_with("\n"));
  CHECK(f.log.lost() == 0);
}

TEST_CASE("a reader that is too slow costs lines, which are counted, and no time") {
  Fixture f(AccessLogFormat::kCommon);
  for (int i = 0; i < 5000; ++i) f.log.Add(SomeEntry());
  f.log.Flush();
  CHECK(f.log.pending());
  CHECK(f.log.lost() > 0);
  std::string text;
  while (f.log.pending()) {
    text += f.pipe.Read();
    f.log.Flush();
  }
  text += f.pipe.Read();
  const auto written = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
  CHECK(written + f.log.lost() == 5000);
  CHECK(text.ends_with("\n"));
}

TEST_CASE("a log goes on elsewhere when it is opened anew, with what it had before") {
  Fixture f(AccessLogFormat::kCommon);
  f.log.Add(SomeEntry());
  Pipe other;
  f.log.Reopen(std::move(other.write_end));
  CHECK(f.pipe.Read() != "");
  f.log.Add(SomeEntry());
  f.log.Flush();
  CHECK(f.pipe.Read() == "");
  CHECK(other.Read() != "");
}
