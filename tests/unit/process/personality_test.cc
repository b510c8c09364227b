#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "agent/base/strings.h"
#include "agent/process/launcher.h"
#include "agent/process/title.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

constexpr int kAnswers = 5;
constexpr int kOther = 9;

// What a copy of us sees of itself.
struct Answer {
  pid_t pid;
  pid_t session;
  size_t words;
  bool has_other;     // a descriptor that was named for it
  bool has_leftover;  // one that was not
  bool blocks_term;
  char name[16];
};

void ReadInto(const char* path, char* to, size_t size) {
  const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t got = file ? ::read(file.get(), to, size - 1) : 0;
  to[got > 0 ? got : 0] = '\0';
}

int g_leftover = -1;

int Introduce(std::span<char* const> argv) {
  Answer answer{};
  answer.pid = ::getpid();
  answer.session = ::getsid(0);
  answer.words = argv.size();
  answer.has_other = ::fcntl(kOther, F_GETFD) >= 0;
  answer.has_leftover = ::fcntl(g_leftover, F_GETFD) >= 0;
  sigset_t blocked;
  ::sigprocmask(SIG_BLOCK, nullptr, &blocked);
  answer.blocks_term = sigismember(&blocked, SIGTERM) == 1;
  ReadInto("/proc/self/comm", answer.name, sizeof answer.name);
  const bool is_told = ::write(kAnswers, &answer, sizeof answer) == sizeof answer;
  return is_told ? 23 : 24;
}

TEST_CASE_FIXTURE(LaunchFixture, "a personality is a copy of us, with its own descriptors alone") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd answers(ends[0]);
  UniqueFd answering(ends[1]);
  // Without the flag that an exec would heed.
  const UniqueFd leftover(::fcntl(answers.get(), F_DUPFD, 20));
  g_leftover = leftover.get();

  std::vector<std::string> before = {"a-server-with-a-long-name", "--port", "8000"};
  std::vector<char*> words;
  for (std::string& word : before) words.push_back(word.data());
  KeepArguments(static_cast<int>(words.size()), words.data());

  LaunchSpec spec;
  spec.personality = Introduce;
  spec.argv = {"the-worker"};
  spec.fds = {{answering.get(), kAnswers}, {answering.get(), kOther}};
  std::optional<ExitStatus> ended;
  const auto process = launcher.Launch(spec, [&](ExitStatus status) { ended = status; });
  REQUIRE(process);
  answering.Reset();
  Answer answer{};
  REQUIRE(::read(answers.get(), &answer, sizeof answer) == sizeof answer);
  CHECK(answer.pid == (*process)->pid());
  CHECK(answer.session == answer.pid);
  CHECK(answer.words == 1);
  CHECK(answer.has_other);
  CHECK_FALSE(answer.has_leftover);
  CHECK(answer.blocks_term);
  CHECK(std::string(answer.name) == "the-worker\n");
  // Nothing is left of what stood there, and ours stands as it did.
  CHECK(before[0] == "a-server-with-a-long-name");
  AwaitZombie(answer.pid);
  reaper.Collect();
  REQUIRE(ended);
  CHECK(*ended == ExitStatus::Code(23));
}

TEST_CASE_FIXTURE(LaunchFixture, "a title takes the place of the words, and no more than that") {
  // As the kernel lays them out: one behind the other.
  char block[] = "server\0-v\0A=1\0";
  char* words[] = {block, block + 7, nullptr};
  KeepArguments(2, words);
  SetTitle("x");
  CHECK(std::string(block) == "x");
  CHECK(std::string(block + 7).empty());
  CHECK(std::string(block + 10) == "A=1");
  SetTitle("much-longer-than-that");
  CHECK(std::string(block) == "much-long");
  CHECK(std::string(block + 10) == "A=1");
}

TEST_CASE_FIXTURE(LaunchFixture, "a personality whose descriptor is closed ends before it begins") {
  LaunchSpec spec;
  spec.personality = Introduce;
  spec.argv = {"the-worker"};
  spec.fds = {{1'000, kAnswers}};
  std::optional<ExitStatus> ended;
  const auto process = launcher.Launch(spec, [&](ExitStatus status) { ended = status; });
  REQUIRE(process);
  AwaitZombie((*process)->pid());
  reaper.Collect();
  REQUIRE(ended);
  CHECK(*ended == ExitStatus::Code(kExitAgentError));
  spec.argv.clear();
  CHECK_FALSE(launcher.Launch(spec, nullptr));
}

}  // namespace
}  // namespace modal::process
