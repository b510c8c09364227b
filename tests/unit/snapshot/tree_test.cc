#include "snapshot/tree.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "agent/base/sanitized.h"
#include "agent/base/strings.h"
#include "agent/process/process_table.h"
#include "tests/unit/agent/temp_folder.h"
#include "tests/unit/snapshot/child_process.h"

namespace modal::snapshot {
namespace {

std::string LinkOf(int fd) {
  return std::filesystem::read_symlink(Concat("/proc/self/fd/", fd)).string();
}

process::ProcessInfo Running(pid_t pid, pid_t parent, pid_t session, char state = 'S') {
  return {pid, parent, session, session, state, "server"};
}

TEST_CASE("a workload that is alone below the keeper is dumped without it") {
  const process::ProcessInfo agent = Running(1, 0, 0);
  const process::ProcessInfo keeper = Running(1000, 1, 1000);
  const process::ProcessInfo server = Running(1001, 1000, 1001);
  const process::ProcessInfo worker = Running(1002, 1001, 1001);
  const process::ProcessInfo daemon = Running(1005, 1000, 1005);
  CHECK(RootToDump(1000, 1001, {agent, keeper, server, worker}) == 1001);
  CHECK(RootToDump(1000, 1001, {agent, keeper, server, worker, daemon}) == 1000);
  CHECK(RootToDump(1000, 1001, {daemon, server, keeper, agent}) == 1000);
  CHECK(RootToDump(1000, 1001, {agent, keeper, server, Running(1005, 1000, 1005, 'Z')}) == 1001);
  // A hook has started the server; it has ended, or is about to; it belongs to another session.
  CHECK(RootToDump(1000, 0, {agent, keeper, daemon}) == 1000);
  CHECK(RootToDump(1000, 1001, {agent, keeper}) == 1000);
  CHECK(RootToDump(1000, 1001, {agent, keeper, Running(1001, 1000, 1001, 'Z')}) == 1000);
  CHECK(RootToDump(1000, 1001, {agent, keeper, Running(1001, 1000, 1000)}) == 1000);
}

TEST_CASE("every process of a tree is described, its root first") {
  pid_t grandchild = 0;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd told(ends[0]);
  UniqueFd telling(ends[1]);
  HeldChild child([&](const std::function<void()>& ready) {
    HeldChild below([&](const std::function<void()>& ready_too) { ready_too(); });
    const pid_t self = ::getpid();
    (void)::write(telling.get(), &self, sizeof self);
    ready();
  });
  telling.Reset();
  pid_t root = 0;
  REQUIRE(::read(told.get(), &root, sizeof root) == sizeof root);
  const Result<TreeFacts> facts = LookAtTree(root, ::getpid(), ::geteuid(), ::getegid());
  REQUIRE(facts);
  REQUIRE(facts->processes.size() == 2);
  const DumpedProcess& first = facts->processes[0];
  CHECK(first.pid == root);
  CHECK(first.parent == ::getpid());
  CHECK(first.memory > 0);
  CHECK(first.anonymous > 0);
  CHECK(first.anonymous <= first.memory);
  constexpr size_t kThreads = kThreadSanitizer ? 2 : 1;
  CHECK(first.threads == kThreads);
  REQUIRE(first.stack.size() == kThreads);
  CHECK(first.stack[0].starts_with(Concat(root, " ")));
  CHECK_FALSE(first.name.empty());
  CHECK(first.executable == std::filesystem::read_symlink("/proc/self/exe").string());
  REQUIRE_FALSE(first.command.empty());
  CHECK(first.kinds.stack > 0);
  CHECK(first.kinds.anonymous + first.kinds.heap > 0);
  CHECK(first.kinds.file > 0);
  grandchild = facts->processes[1].pid;
  CHECK(grandchild != root);
  CHECK(facts->processes[1].parent == root);
  CHECK(child.LetGo() == "");
}

TEST_CASE("pipes that lead out of the tree are told, each by what it is to the holder") {
  // A holder whose standard output and error are two pipes, and which reads a third; the tree has
  // all of them, and one more of its own.
  const std::string failure = InChild([]() -> std::string {
    int out[2];
    int err[2];
    int hook[2];
    if (::pipe(out) != 0 || ::pipe(err) != 0 || ::pipe(hook) != 0) return "pipe";
    const std::string saved = LinkOf(STDOUT_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    int own[2] = {-1, -1};
    int told[2];
    if (::pipe(told) != 0) return "pipe";
    const std::string links[3] = {LinkOf(out[1]), LinkOf(err[1]), LinkOf(hook[1])};
    HeldChild child([&](const std::function<void()>& ready) {
      for (const int fd : {out[0], err[0], hook[0], told[0], told[1]}) ::close(fd);
      if (::pipe(own) != 0) ::_exit(1);
      ready();
    });
    ::close(told[0]);
    ::close(told[1]);
    ::close(hook[1]);
    pid_t root = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
      (void)entry;
    }
    const Result<std::vector<process::ProcessInfo>> all = process::ListProcesses();
    for (const process::ProcessInfo& one : *all) {
      if (one.parent == ::getpid() && one.state != 'Z') root = one.pid;
    }
    const Result<TreeFacts> facts = LookAtTree(root, ::getpid(), ::geteuid(), ::getegid());
    if (!facts) return facts.error().message();
    std::string wrong;
    for (const DumpedDescriptor& one : facts->descriptors) {
      const int expected = one.id == links[0] ? 1 : 2;
      if (one.fd != expected) wrong += Concat(one.id, " is ", one.fd, "; ");
    }
    for (const std::string& link : links) {
      const auto is_this = [&link](const DumpedDescriptor& one) { return one.id == link; };
      if (std::none_of(facts->descriptors.begin(), facts->descriptors.end(), is_this)) {
        wrong += link + " is missing; ";
      }
    }
    for (const DumpedDescriptor& one : facts->descriptors) {
      if (one.id.rfind("pipe:[", 0) != 0) wrong += one.id + " is no pipe; ";
    }
    return wrong;
  });
  CHECK(failure == "");
}

TEST_CASE("the paths at which a tree has unix sockets are told, and nobody else's") {
  const test::TempFolder temp;
  const auto bound = [&temp](const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (temp.path() + "/" + name).copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto* where = reinterpret_cast<const sockaddr*>(&address);
    REQUIRE(::bind(fd.get(), where, sizeof address) == 0);
    return fd;
  };
  const UniqueFd ours = bound("app one.sock");
  UniqueFd gone = bound("gone.sock");
  gone.Reset();
  const Result<TreeFacts> facts = LookAtTree(::getpid(), ::getppid(), ::getuid(), ::getgid());
  REQUIRE(facts);
  CHECK(facts->sockets == std::vector<std::string>{temp.path() + "/app one.sock"});
}

TEST_CASE("the files that a tree has open are told by their paths") {
  const test::TempFolder temp;
  const std::string path = temp.path() + "/" + std::string(200, 'a') + "/app.db";
  std::filesystem::create_directory(temp.path() + "/" + std::string(200, 'a'));
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(file);
  const Result<TreeFacts> facts = LookAtTree(::getpid(), ::getppid(), ::getuid(), ::getgid());
  REQUIRE(facts);
  CHECK(std::count(facts->files.begin(), facts->files.end(), path) == 1);
}

TEST_CASE("a tree that is gone is an error") {
  CHECK_FALSE(LookAtTree(0x7ffffff0, ::getpid(), ::geteuid(), ::getegid()).ok());
}

}  // namespace
}  // namespace modal::snapshot
