#include "lifecycle/workload_output.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>

#include "agent/base/check.h"
#include "agent/base/sanitized.h"
#include "agent/base/strings.h"
#include "agent/event/uv_clock.h"
#include "tests/support/run_loop.h"
#include "tests/unit/agent/temp_folder.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::lifecycle {
namespace {

using process::testing::InAnotherProcess;

// ThreadSanitizer writes what it has to say of a process to descriptor 2, when that ends.
const doctest::skip kTakesStandardError(kThreadSanitizer);

struct Ends {
  UniqueFd near;
  UniqueFd far;
};

Ends PipeOf() {
  int ends[2];
  MODAL_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  return {UniqueFd(ends[1]), UniqueFd(ends[0])};
}

Ends SocketPairOf() {
  int ends[2];
  MODAL_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const int small = 4096;
  ::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Ends TerminalOf() {
  int far = -1;
  int near = -1;
  MODAL_CHECK(::openpty(&far, &near, nullptr, nullptr, nullptr) == 0);
  termios raw{};
  ::tcgetattr(near, &raw);
  ::cfmakeraw(&raw);
  ::tcsetattr(near, TCSANOW, &raw);
  return {UniqueFd(near), UniqueFd(far)};
}

std::string Pattern(size_t size) {
  std::string text;
  for (size_t line = 0; text.size() < size; ++line) text += Concat("line ", line, "\n");
  return text;
}

// A process whose standard output and error is `near`, with a WorkloadOutput.
struct Alone {
  explicit Alone(int near) {
    MODAL_CHECK(::dup2(near, STDOUT_FILENO) >= 0 && ::dup2(near, STDERR_FILENO) >= 0);
    Result<std::unique_ptr<WorkloadOutput>> made = WorkloadOutput::Make(loop, clock);
    MODAL_CHECK(made.ok());
    output = *std::move(made);
  }
  int out() const { return output->standard()[1]; }

  // Somebody who writes all of it there, and ends.
  void StartWriter(const std::string& text) {
    writer = ::fork();
    MODAL_CHECK(writer >= 0);
    if (writer != 0) return;
    for (size_t at = 0; at < text.size();) {
      const ssize_t put = ::write(out(), text.data() + at, text.size() - at);
      if (put <= 0) ::_exit(1);
      at += static_cast<size_t>(put);
    }
    ::_exit(0);
  }
  bool HasWritten() const { return ::waitpid(writer, nullptr, WNOHANG) == writer; }

  event::Loop loop;
  event::UvClock clock{loop};
  std::unique_ptr<WorkloadOutput> output;
  pid_t writer = -1;
};

// Takes what is there without waiting.
void TakeInto(std::string& text, int fd) {
  char piece[4096];
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  for (ssize_t got; (got = ::read(fd, piece, sizeof piece)) > 0;) {
    text.append(piece, static_cast<size_t>(got));
  }
}

std::string Compare(const std::string& got, const std::string& expected) {
  if (got == expected) return "";
  return Concat("got ", got.size(), " bytes of ", expected.size());
}

TEST_CASE("a pipe and /dev/null are given to the workload as they are" * kTakesStandardError) {
  CHECK(InAnotherProcess([]() -> std::string {
          const Ends pipe = PipeOf();
          const Alone alone(pipe.near.get());
          if (alone.out() != STDOUT_FILENO) return "out";
          return alone.output->standard()[2] == STDERR_FILENO ? "" : "err";
        }) == "");
  CHECK(InAnotherProcess([]() -> std::string {
          const UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
          return Alone(null.get()).out() == STDOUT_FILENO ? "" : "not as it is";
        }) == "");
}

TEST_CASE("a pipe that is another user's is replaced by one of ours" *
          doctest::skip(::geteuid() != 0)) {
  const Ends pipe = PipeOf();
  const std::string wrong = InAnotherProcess([&]() -> std::string {
    if (::fchmod(pipe.near.get(), 0600) != 0) return "chmod";
    if (::setresuid(1000, 1000, 1000) != 0) return "setresuid";
    const Alone alone(pipe.near.get());
    return alone.out() == STDOUT_FILENO ? "it is given as it is" : "";
  });
  CHECK(wrong == "");
}

TEST_CASE("standard input is /dev/null" * kTakesStandardError) {
  CHECK(InAnotherProcess([]() -> std::string {
          const Ends pipe = PipeOf();
          const Alone alone(pipe.near.get());
          char byte = 0;
          return ::read(alone.output->standard()[0], &byte, 1) == 0 ? "" : "something to read";
        }) == "");
}

TEST_CASE("a named pipe, a file, a socket and a terminal are replaced by a pipe that leads there" *
          kTakesStandardError) {
  const test::TempFolder temp;
  const std::string fifo = temp.path() + "/fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const std::string file = temp.path() + "/file";
  const std::function<Ends()> kinds[] = {
      [&fifo] {
        UniqueFd far(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
        return Ends{UniqueFd(::open(fifo.c_str(), O_WRONLY | O_CLOEXEC)), std::move(far)};
      },
      [&file] {
        UniqueFd near(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        return Ends{std::move(near), UniqueFd(::open(file.c_str(), O_RDONLY | O_CLOEXEC))};
      },
      SocketPairOf, TerminalOf};
  for (const auto& kind : kinds) {
    CHECK(InAnotherProcess([&kind]() -> std::string {
            const Ends ends = kind();
            Alone alone(ends.near.get());
            if (alone.out() == STDOUT_FILENO) return "given as it is";
            const std::string link =
                std::filesystem::read_symlink(Concat("/proc/self/fd/", alone.out())).string();
            if (!link.starts_with("pipe:[")) return link;
            const std::string text = Pattern(300'000);
            alone.StartWriter(text);
            std::string got;
            (void)test::RunUntil(alone.loop, [&] {
              TakeInto(got, ends.far.get());
              return got.size() >= text.size();
            });
            return Compare(got, text);
          }) == "");
  }
}

TEST_CASE("a reader that is slow holds the workload up, not us, and nothing is lost" *
          kTakesStandardError) {
  for (const auto& kind : {SocketPairOf, TerminalOf}) {
    CHECK(InAnotherProcess([&kind]() -> std::string {
            const Ends ends = kind();
            Alone alone(ends.near.get());
            const std::string text = Pattern(1'000'000);
            alone.StartWriter(text);
            // Nobody reads; the loop goes on, and no more than some pieces are taken in.
            int turns = 0;
            std::unique_ptr<Timer> timer;
            const std::function<void()> turn = [&] {
              if (++turns < 30) timer = alone.clock.After(Milliseconds(1), turn);
            };
            turn();
            if (!test::RunUntil(alone.loop, [&] { return turns >= 30; })) return "the loop hangs";
            if (alone.HasWritten()) return "all was taken, though nobody reads";
            std::string got;
            (void)test::RunUntil(alone.loop, [&] {
              TakeInto(got, ends.far.get());
              return got.size() >= text.size();
            });
            return Compare(got, text);
          }) == "");
  }
}

TEST_CASE("what is in the pipe at the end is passed on, to a slow reader too" *
          kTakesStandardError) {
  CHECK(InAnotherProcess([]() -> std::string {
          Ends ends = SocketPairOf();
          Alone alone(ends.near.get());
          const std::string text = Pattern(60'000);
          MODAL_CHECK(::write(alone.out(), text.data(), text.size()) ==
                      static_cast<ssize_t>(text.size()));
          const Ends told = PipeOf();
          const pid_t reader = ::fork();
          if (reader == 0) {
            ::close(STDOUT_FILENO);
            ::close(STDERR_FILENO);
            ends.near.Reset();
            std::string got;
            char piece[1000];
            while (got.size() < text.size()) {
              const ssize_t size = ::read(ends.far.get(), piece, sizeof piece);
              if (size <= 0) break;
              got.append(piece, static_cast<size_t>(size));
            }
            ::_exit(got == text ? 0 : 1);
          }
          alone.output->FlushFor(30'000);
          ::shutdown(STDOUT_FILENO, SHUT_WR);
          int status = 0;
          ::waitpid(reader, &status, 0);
          return status == 0 ? "" : "the end is missing";
        }) == "");
}

TEST_CASE("a reader that has gone is no reason to wait at the end") {
  CHECK(InAnotherProcess([]() -> std::string {
          ::signal(SIGPIPE, SIG_IGN);
          Ends ends = SocketPairOf();
          Alone alone(ends.near.get());
          ends.far.Reset();
          const std::string text = Pattern(60'000);
          alone.StartWriter(Pattern(300'000));
          return test::RunUntil(alone.loop, [&] { return alone.HasWritten(); })
                     ? ""
                     : "the workload hangs";
        }) == "");
}

}  // namespace
}  // namespace modal::lifecycle
