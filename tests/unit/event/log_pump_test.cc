#include "agent/event/log_pump.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "tests/support/fake_clock.h"

namespace modal::event {
namespace {

using namespace std::chrono_literals;
using test::FakeClock;

// A log that goes through a pump into a pipe which a test reads, or does not.
struct Fixture {
  Fixture() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read.Reset(ends[0]);
    write.Reset(ends[1]);
    REQUIRE(::fcntl(read.get(), F_SETFL, O_NONBLOCK) == 0);
    sink = std::make_unique<DescriptorSink>(write.get());
    pump = std::make_unique<LogPump>(clock, *sink);
    log = std::make_unique<Log>(*pump, LogFormat::kText, LogLevel::kInfo);
    pump->set_log(log.get());
  }

  std::string ReadAvailable() {
    std::string all;
    char buffer[4096];
    for (ssize_t size; (size = ::read(read.get(), buffer, sizeof buffer)) > 0;) {
      all.append(buffer, static_cast<size_t>(size));
    }
    return all;
  }
  void FillPipe() {
    while (!sink->pending()) pump->Write(kLine);
  }
  // More lines than the sink can keep; how many were lost.
  uint64_t Flood() {
    FillPipe();
    const uint64_t before = sink->lost_lines();
    while (sink->lost_lines() < before + 5) pump->Write(kLine);
    return sink->lost_lines() - before;
  }

  static constexpr const char* kLine = "a line that is as long as any other in this test is ...\n";
  FakeClock clock;
  UniqueFd read;
  UniqueFd write;
  std::unique_ptr<DescriptorSink> sink;
  std::unique_ptr<LogPump> pump;
  std::unique_ptr<Log> log;
};

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST_CASE_FIXTURE(Fixture, "while everything can be written the pump never wakes up") {
  for (int i = 0; i < 100; ++i) log->Info("some.event", {{"i", i}});
  CHECK(clock.pending() == 0);
  CHECK(Count(ReadAvailable(), "some.event") == 100);
}

TEST_CASE_FIXTURE(Fixture, "what a slow reader left is written later, by itself") {
  FillPipe();
  CHECK(clock.pending() == 1);
  ReadAvailable();
  clock.Advance(10ms);
  CHECK_FALSE(sink->pending());
  CHECK(ReadAvailable().ends_with("...\n"));
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "it is tried ever less often, down to twice a second") {
  FillPipe();
  for (const Milliseconds pause : {10ms, 20ms, 40ms, 80ms, 160ms, 320ms, 500ms, 500ms}) {
    clock.Advance(pause);
    CHECK(sink->pending());
  }
  ReadAvailable();
  clock.Advance(499ms);
  CHECK(sink->pending());
  clock.Advance(1ms);
  CHECK_FALSE(sink->pending());

  // The next time begins from the start.
  FillPipe();
  ReadAvailable();
  clock.Advance(10ms);
  CHECK_FALSE(sink->pending());
}

TEST_CASE_FIXTURE(Fixture, "lines that were lost are reported once, when the log moves again") {
  const uint64_t lost = Flood();
  CHECK(Count(ReadAvailable(), "log.lost") == 0);
  clock.Advance(10ms);  // the sink keeps as much as the pipe holds
  const std::string rest = ReadAvailable();
  clock.Advance(10s);
  const std::string report = rest + ReadAvailable();
  CHECK(Count(report, "log.lost") == 1);
  CHECK(Count(report, Concat("lines=", lost, "\n")) == 1);
  CHECK(clock.pending() == 0);

  // And the next loss for itself.
  const uint64_t lost_again = Flood();
  std::string again = ReadAvailable();
  for (int i = 0; i < 3; ++i) {
    clock.Advance(1s);
    again += ReadAvailable();
  }
  CHECK(Count(again, Concat("lines=", lost_again, "\n")) == 1);
  CHECK(clock.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a pump that is gone wakes up for nothing") {
  FillPipe();
  log.reset();
  pump.reset();
  CHECK(clock.pending() == 0);
  ReadAvailable();
  clock.Advance(10s);
  CHECK(sink->pending());
}

}  // namespace
}  // namespace modal::event
