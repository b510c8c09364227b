// With --snapshot-dir and a CRIU that is a test program (programs/criu.c): whatever goes wrong with
// it, the container is as one without snapshots. That the real one restores is shown in containers.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "agent/base/check.h"
#include "snapshot/store.h"
#include "snapshot/work_folder.h"
#include "tests/support/agent_process.h"
#include "tests/unit/agent/temp_folder.h"

namespace modal::test {
namespace {

using Words = std::vector<std::string>;

// `does`: what CRIU does at a dump, and at a restore. A dump looks through the whole root for files
// that have changed, and others write to this machine's: hence one of its own.
AgentOptions Snapshots(const Words& more, const std::string& does = "",
                       const std::string& mode = "restore") {
  AgentOptions options = With({"--snapshot-dir", "/mnt/snapshots", "--snapshot", mode,
                               "--snapshot-key", "test", "--criu", kCriu, "--log-level", "debug"});
  options.arguments.insert(options.arguments.end(), more.begin(), more.end());
  options.own_root = true;
  if (!does.empty()) options.files.push_back({"criu-does", does, 0644});
  return options;
}

// The same, and what names the image is its contents.
AgentOptions WithoutKey(const Words& more, const std::string& does) {
  AgentOptions options = Snapshots(more, does);
  const auto flag = std::find(options.arguments.begin(), options.arguments.end(), "--snapshot-key");
  options.arguments.erase(flag, flag + 2);
  return options;
}

// The key that such a container has, and what has named its image.
std::pair<std::string, std::string> KeyAndImageOf(const AgentOptions& options) {
  AgentProcess agent(options);
  LogEvent told = agent.WaitFor("snapshot.key");
  agent.Signal(SIGKILL);
  agent.WaitForExit();
  return {told["key"], told["image"]};
}

std::string KeyOf(const Words& more) { return KeyAndImageOf(Snapshots(more)).first; }

std::string ReadAll(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// The files of a folder with one snapshot of this key.
std::vector<AgentOptions::File> FolderWith(const std::string& key, snapshot::Manifest manifest) {
  using snapshot::Store;
  const TempFolder temp;
  const std::string folder = temp.path() + "/snapshots";
  Result<std::unique_ptr<Store>> store = Store::Open(folder, Store::Use::kWrite);
  REQUIRE(store);
  Result<std::unique_ptr<snapshot::Staging>> staging = (*store)->Stage(key);
  REQUIRE((staging && *staging));
  std::ofstream((*staging)->images_dir() + "/pages-1.img") << "memory";
  manifest.times.cold_ms = 3'600'000;  // so that every restore is worth it
  REQUIRE((*store)->Publish(*std::move(staging), manifest).ok());
  std::vector<AgentOptions::File> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = std::filesystem::relative(entry.path(), temp.path()).string();
    files.push_back({name, ReadAll(entry.path()), 0600});
  }
  return files;
}

AgentOptions WithSnapshot(const Words& more, const std::string& does, uint64_t uptime_ms = 0) {
  AgentOptions options = Snapshots(more, does);
  snapshot::Manifest manifest;
  manifest.uptime_ms = uptime_ms;
  for (AgentOptions::File& file : FolderWith(KeyOf(more), manifest)) options.files.push_back(file);
  return options;
}

bool Has(const Words& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Who is killed may be a moment later than what follows from it.
void WaitUntilGone(AgentProcess& agent, const std::string& command) {
  agent.WaitUntil(command + " is gone", [&] { return agent.Processes(command).empty(); });
}

// "restore", "restore.memory failed": the steps of `status`, each of which has begun no earlier
// than the one before it, and has ended, but for the last.
Words StepsOf(AgentProcess& agent) {
  const auto status =
      nlohmann::json::parse(agent.Run({"modal-agent", "status", "--json"}).output, nullptr, false);
  REQUIRE(status.is_object());
  Words steps;
  double last_ms = 0;
  for (const auto& step : status["timeline"]) {
    steps.push_back(step["step"].get<std::string>() +
                    (step["failed"].get<bool>() ? " failed" : ""));
    CHECK(step["begin_ms"].get<double>() >= last_ms);
    last_ms = step["begin_ms"].get<double>();
    const bool is_last = steps.back() == "serving";
    CHECK(step["ms"].is_null() == is_last);
    if (!is_last) CHECK(step["ms"].get<double>() >= 0);
  }
  return steps;
}

// Cold starts -------------------------------------------------------------------------------------

TEST_CASE("without a snapshot it starts cold below a keeper, and status shows the server itself") {
  AgentProcess agent(Snapshots({"--", kListener}));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.Count("snapshot.cold") == 1);
  const std::vector<ProcessSeen> servers = agent.Processes(kListener);
  REQUIRE(servers.size() == 1);
  const std::vector<ProcessSeen> keepers = agent.Processes("modal-agent-keeper");
  REQUIRE(keepers.size() == 1);
  CHECK(servers[0].parent == keepers[0].pid);
  CHECK(keepers[0].parent == 1);
  const RunResult status = agent.Run({"modal-agent", "status", "--json"});
  CAPTURE(status.output);
  CHECK(Contains(status.output, "\"workload_pid\":" + std::to_string(servers[0].pid)));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener signal TERM") == 1);
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("where no snapshot can be taken or kept, that changes nothing but a line") {
  SUBCASE("no CRIU") {
    AgentOptions options = Snapshots({"--criu", "/mnt/bin/none", "--", kListener});
    AgentProcess agent(std::move(options));
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.Count("snapshot.off") == 1);
    CHECK(agent.Processes("modal-agent-keeper").empty());
  }
  SUBCASE("a seccomp filter of the server's own") {
    AgentProcess agent(Snapshots({"--seccomp-profile", "default", "--", kListener}));
    agent.WaitFor("lifecycle.ready");
    CHECK(Contains(agent.Find("snapshot.off")["message"], "seccomp filter"));
    CHECK(agent.Processes("modal-agent-keeper").empty());
  }
  SUBCASE("no folder") {
    AgentOptions options = Snapshots({"--", kListener});
    options.files.push_back({"snapshots", "a file", 0644});
    AgentProcess agent(std::move(options));
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.Count("snapshot.cold") == 1);
  }
}

TEST_CASE("a command that cannot be started gives 127 or 126 from below the keeper too") {
  for (const auto& [command, code] :
       {std::pair("/mnt/bin/none", 127), {"no-such-program", 127}, {"/mnt/report", 126}}) {
    AgentProcess agent(Snapshots({"--", command}));
    CHECK(agent.WaitForExit() == code);
    CHECK(agent.Count("stop.kill") == 0);
  }
}

TEST_CASE("exit codes and signals pass through the keeper, with a core limit too") {
  for (const int code : {0, 3, 120, 255}) {
    AgentProcess agent(Snapshots({"--admin", "off", "--", kEnding, "code", std::to_string(code)}));
    CHECK(agent.WaitForExit() == code);
  }
  for (const int number : {SIGKILL, SIGSEGV, SIGTERM, SIGABRT, SIGUSR1}) {
    AgentOptions options = Snapshots({"--admin", "off", "--rlimit", "core=1000000", "--", "/bin/sh",
                                      "-c", "kill -" + std::to_string(number) + " $$"});
    options.workdir = "/tmp";
    AgentProcess agent(std::move(options));
    CHECK(agent.WaitForExit() == 128 + number);
  }
}

TEST_CASE("the working folder is the agent's, and relative commands are found there") {
  AgentOptions options = Snapshots({"--admin", "off", "--", "./ending", "code", "7"});
  options.workdir = "/mnt/bin";
  AgentProcess agent(std::move(options));
  CHECK(agent.WaitForExit() == 7);
}

TEST_CASE("what the workload writes arrives whole, from below the keeper") {
  const Words command = {
      "--admin", "off", "--",
      "/bin/sh", "-c",  "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"};
  std::string expected;
  for (int i = 0; i < 3000; ++i) expected += "line " + std::to_string(i) + "\n";
  AgentProcess agent(Snapshots(command));
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.output() == expected);
}

TEST_CASE("a keeper that is killed ends the container, or its workload is started again") {
  SUBCASE("by its workload, before anybody could hear of that") {
    AgentProcess agent(
        Snapshots({"--admin", "off", "--", "/bin/sh", "-c", "kill -KILL $PPID; sleep 1000"}));
    const int code = agent.WaitForExit();
    CHECK((code == 125 || code == 137));
  }
  SUBCASE("later, without a restart") {
    AgentProcess agent(Snapshots({"--", kListener}));
    agent.WaitFor("lifecycle.ready");
    agent.SignalInside(agent.Processes("modal-agent-keeper").at(0), SIGKILL);
    CHECK(agent.WaitForExit() == 137);
    CHECK(agent.CountReports("listener signal TERM") == 1);
  }
  SUBCASE("later, with one, and then there is no keeper that could be killed") {
    AgentProcess agent(Snapshots({"--restart", "on-failure", "--", kListener}));
    agent.WaitFor("lifecycle.ready");
    agent.SignalInside(agent.Processes("modal-agent-keeper").at(0), SIGKILL);
    agent.WaitFor("lifecycle.ready", {}, 2);
    CHECK(agent.Processes(kListener).size() == 1);
    CHECK(agent.Processes("modal-agent-keeper").empty());
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
}

TEST_CASE("a server that fails is started again, without a keeper") {
  AgentProcess agent(
      Snapshots({"--restart", "on-failure", "--", kListener, "--on", "USR1=exit:3"}));
  agent.WaitFor("lifecycle.ready");
  agent.SignalProgram("listener", SIGUSR1);
  agent.WaitFor("workload.restart");
  agent.WaitFor("lifecycle.ready", {}, 2);
  CHECK(agent.Processes("modal-agent-keeper").empty());
}

TEST_CASE("a server that a hook has started is followed to its end below the keeper") {
  AgentProcess agent(Snapshots({"--on-enter", "/mnt/bin/listener --on USR1=exit:6 &"}));
  agent.WaitFor("lifecycle.ready");
  SUBCASE("it ends by itself") {
    agent.SignalProgram("listener", SIGUSR1);
    CHECK(agent.WaitForExit() == 6);
  }
  SUBCASE("it is told to end") {
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
  CHECK(agent.Count("stop.kill") == 0);
}

TEST_CASE("SIGTERM during a hook ends hook and keeper at once") {
  AgentProcess agent(Snapshots({"--on-enter", "sleep 1000", "--", kListener}));
  agent.WaitFor("hook.start");
  agent.WaitUntil("the hook runs", [&] { return !agent.Processes("sleep").empty(); });
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 143);
  CHECK(agent.Count("stop.kill") == 0);
}

// Restores ----------------------------------------------------------------------------------------

TEST_CASE("a snapshot is restored, served, and judged") {
  const Words command = {"--on-restore", "true", "--", kListener};
  AgentProcess agent(WithSnapshot(command, "refuse ok"));
  agent.WaitFor("lifecycle.ready");
  agent.WaitForReport("criu asked restore");
  CHECK(agent.Count("snapshot.restored") == 1);
  CHECK(agent.Count("workload.start") == 0);
  CHECK(agent.Get(8000, "/").status == 200);
  CHECK(agent.Find("hook.exit")["status"] == "exit code 0");
  CHECK(agent.WaitFor("snapshot.done")["standing"] == "proven");
  const RunResult status = agent.Run({"modal-agent", "status", "--json"});
  CHECK(Contains(status.output, "\"origin\":\"restore\""));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.Find("workload.exit")["pid"] == agent.Find("snapshot.restored")["pid"]);
}

TEST_CASE("what was taken on a machine that ran for longer is not restored, and that is said") {
  // Clocks would go back for what is restored.
  constexpr uint64_t kCentury = uint64_t{100} * 365 * 86'400 * 1000;
  AgentProcess agent(WithSnapshot({"--", kListener}, "refuse ok", kCentury));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.CountReports("criu asked restore") == 0);
  CHECK(Contains(agent.Find("snapshot.cold")["message"], "its clocks would go back"));
  CHECK(Contains(agent.Run({"modal-agent", "status"}).output, "its clocks would go back"));
  CHECK(StepsOf(agent) == Words{"restore", "restore.start", "restore.identity", "restore.find",
                                "exec", "port", "serving"});
  const RunResult list =
      agent.Run({"modal-agent", "snapshot", "list", "--snapshot-dir", "/mnt/snapshots"});
  CHECK(Contains(list.output, "36500 d !"));
  CHECK(Contains(list.output, "! is more than this machine runs for"));
  const RunResult inspect = agent.Run({"modal-agent", "snapshot", "inspect", "--snapshot-dir",
                                       "/mnt/snapshots", KeyOf({"--", kListener})});
  CHECK(Contains(inspect.output, "uptime       of the machine: 36500 d 0 h or more"));
  CHECK(Contains(inspect.output, "clocks would go"));
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("the steps of a restore stand in status, in order and with times, and can be drawn") {
  const Words command = {"--on-restore", "true", "--", kListener};
  AgentProcess agent(WithSnapshot(command, "refuse ok"));
  agent.WaitFor("lifecycle.ready");
  CHECK(StepsOf(agent) == Words{"restore", "restore.start", "restore.identity", "restore.find",
                                "restore.criu", "restore.files", "restore.images", "restore.memory",
                                "restore.resume", "port", "late_hooks", "serving"});
  const RunResult drawn = agent.Run({"modal-agent", "status", "--timeline"});
  CHECK(drawn.code == 0);
  CHECK(Contains(drawn.output, "restored from "));
  CHECK(Contains(drawn.output, "\n  memory "));
  CHECK(Contains(drawn.output, "="));
  CHECK(agent.Get(8001, "/status").body.find("\"restore.memory\"") != std::string::npos);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("a restore that fails says in which step, and a cold start's steps follow") {
  const auto steps_of = [](const std::string& how) {
    AgentProcess agent(WithSnapshot(
        {"--on-enter", "true", "--startup-timeout", "2", "--", kListener}, "refuse " + how));
    agent.WaitFor("lifecycle.ready");
    Words steps = StepsOf(agent);
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
    return steps;
  };
  const Words cold = {"hooks", "exec", "port", "serving"};
  SUBCASE("CRIU dies or refuses") {
    for (const char* how : {"refuse", "die"}) {
      CAPTURE(how);
      Words expected = {"restore failed", "restore.start", "restore.identity",     "restore.find",
                        "restore.criu",   "restore.files", "restore.images failed"};
      expected.insert(expected.end(), cold.begin(), cold.end());
      CHECK(steps_of(how) == expected);
    }
  }
  SUBCASE("what was restored does not serve") {
    const Words steps = steps_of("mute");
    const auto port = std::find(steps.begin(), steps.end(), "port failed");
    REQUIRE(port != steps.end());
    CHECK(Words(port + 1, steps.end()) == cold);
  }
}

TEST_CASE("a CRIU that refuses, dies or talks nonsense is a cold start with one line") {
  for (const char* how : {"refuse refuse", "refuse die", "refuse garbage"}) {
    CAPTURE(how);
    AgentProcess agent(WithSnapshot({"--", kListener}, how));
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.CountReports("criu asked restore") == 1);
    CHECK(agent.Count("snapshot.cold") == 1);
    CHECK(agent.Count("snapshot.restored") == 0);
    CHECK(Contains(agent.Find("snapshot.cold")["message"], "criu"));
    CHECK(agent.Get(8000, "/").status == 200);
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
}

TEST_CASE("a restored tree that dies or never listens gives way to a cold start") {
  for (const char* how : {"refuse dead", "refuse mute"}) {
    CAPTURE(how);
    AgentProcess agent(WithSnapshot({"--startup-timeout", "2", "--", kListener}, how));
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.Count("snapshot.useless") == 1);
    CHECK(agent.CountReports("listener listening") == 1);
    CHECK(agent.Processes(std::string(kListener) + " --name restored").empty());
    CHECK_FALSE(agent.HasEnded());
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
}

TEST_CASE("a restored root that has ended is reaped: its pid is free for the next restore") {
  AgentProcess agent(WithSnapshot({"--restart", "on-failure", "--", kListener}, "refuse ok"));
  agent.WaitFor("lifecycle.ready");
  const std::vector<ProcessSeen> restored = agent.Processes(kListener);
  REQUIRE(restored.size() == 1);
  CHECK(restored[0].parent == 1);
  agent.SignalInside(restored[0], SIGKILL);
  agent.WaitFor("lifecycle.ready", {}, 2);
  for (const ProcessSeen& left : agent.Processes()) CHECK(left.pid != restored[0].pid);
}

TEST_CASE("what is made for another key, before ours is known, ends without having run") {
  AgentOptions options = WithoutKey({"--", kListener, "--name", "/mnt/program"}, "refuse ok");
  AgentOptions before = options;
  before.files.push_back({"program", "one", 0644});
  const auto [key, image] = KeyAndImageOf(before);
  snapshot::Manifest manifest;
  manifest.image_identity = image;
  SUBCASE("it touches no file") { manifest.touches_files = false; }
  SUBCASE("it may touch files, and is not even made") {}
  options.files.push_back({"program", "another", 0644});
  for (AgentOptions::File& file : FolderWith(key, manifest)) options.files.push_back(file);
  AgentProcess agent(std::move(options));
  agent.WaitFor("lifecycle.ready");
  // Not made either if the key is known before CRIU would make it.
  CHECK(agent.CountReports("criu made") <= (manifest.touches_files ? 0 : 1));
  CHECK(Contains(agent.Find("snapshot.cold")["message"], "no snapshot of this key"));
  CHECK(agent.Find("snapshot.key")["key"] != key);
  CHECK(agent.Get(8000, "/").status == 200);
  CHECK(agent.CountReports("restored") == 0);
  CHECK(agent.Processes(kListener).size() == 1);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

// Lets nobody open a file, as long as it lives: who tries waits, and can only be killed.
class HeldFile {
 public:
  explicit HeldFile(const std::string& path)
      : fanotify_(::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY)) {
    REQUIRE(::fanotify_mark(fanotify_.get(), FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, path.c_str()) ==
            0);
  }

 private:
  UniqueFd fanotify_;
};

TEST_CASE("SIGTERM while CRIU waits for the key, with processes made on a guess, leaves nothing") {
  // Seen inside as well. Whoever looks for the key has to read it.
  const TempFolder outside("/var/tmp");
  const std::string program = outside.Write("program", "text");
  AgentOptions options = WithoutKey({"--", kListener, "--name", program}, "refuse ok");
  SUBCASE("process 1") {}
  SUBCASE("beside process 1") { options.process_1 = false; }
  const auto [key, image] = KeyAndImageOf(options);
  snapshot::Manifest manifest;
  manifest.image_identity = image;
  manifest.touches_files = false;
  for (AgentOptions::File& file : FolderWith(key, manifest)) options.files.push_back(file);
  const HeldFile held(program);
  AgentProcess agent(options);
  agent.WaitForReport("criu made");
  // CRIU for an answer, and what it has made for a word of CRIU.
  agent.WaitUntil("both wait", [&] {
    const std::vector<ProcessSeen> both = agent.Processes("criu --no-default-config");
    return both.size() == 2 && both[0].state == 'S' && both[1].state == 'S';
  });
  CHECK(agent.Count("snapshot.key") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 143);
  CHECK(agent.Count("snapshot.key") == 0);
  CHECK(agent.Count("snapshot.restored") == 0);
  CHECK(agent.Count("workload.start") == 0);
  for (const std::string& report : agent.reports()) CHECK_FALSE(report.starts_with("restored"));
  // It was interrupted, and is as good as before.
  CHECK(agent.FileExists("snapshots/" + key + "/manifest.json"));
  CHECK_FALSE(agent.FileExists("snapshots/" + key + ".verdict"));
  if (options.process_1) return;
  agent.WaitUntilNobodyIsLeft();
  const RunResult left = agent.Run({"/bin/ls", "/dev/shm", "/tmp", "/run"});
  CHECK(left.code == 0);
  CHECK_FALSE(Contains(left.output, snapshot::WorkFolder::kPrefix));
}

TEST_CASE("SIGTERM while CRIU hangs ends the container at once") {
  AgentProcess agent(WithSnapshot({"--", kListener}, "refuse hang"));
  agent.WaitForReport("criu asked restore");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 143);
}

TEST_CASE("a worker or CRIU that is killed during the restore is a cold start") {
  for (const char* who : {"modal-agent-snapshot", "criu --no-default-config"}) {
    CAPTURE(who);
    AgentProcess agent(WithSnapshot({"--", kListener}, "refuse hang"));
    agent.WaitForReport("criu asked restore");
    const std::vector<ProcessSeen> seen = agent.Processes(who);
    REQUIRE(seen.size() == 1);
    agent.SignalInside(seen[0], SIGKILL);
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.Count("snapshot.cold") == 1);
    WaitUntilGone(agent, "modal-agent-snapshot");
    WaitUntilGone(agent, "criu");
  }
}

// Dumps -------------------------------------------------------------------------------------------

// What the descriptors of a process lead to: "pipe:[77]", "/dev/null".
Words DescriptorsOf(const ProcessSeen& process) {
  const std::string folder = "/proc/" + std::to_string(process.host_pid) + "/fd";
  Words targets;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    targets.push_back(std::filesystem::read_symlink(entry).string());
  }
  return targets;
}

bool SharesMemory(const ProcessSeen& process) {
  std::ifstream maps("/proc/" + std::to_string(process.host_pid) + "/maps");
  std::string range, rights, rest;
  while (maps >> range >> rights && std::getline(maps, rest)) {
    if (rights.ends_with('s')) return true;
  }
  return false;
}

TEST_CASE("what is dumped holds nothing of the agent's: no socket, no listener, no shared memory") {
  AgentProcess agent(Snapshots({"--listen", "9000", "--", kListener}, "stall refuse", "auto"));
  agent.WaitForReport("criu stalls");
  const std::vector<ProcessSeen> keepers = agent.Processes("modal-agent-keeper");
  const std::vector<ProcessSeen> servers = agent.Processes(kListener);
  REQUIRE((keepers.size() == 1 && servers.size() == 1));
  for (const std::string& target : DescriptorsOf(keepers[0])) {
    CAPTURE(target);
    CHECK((target == "/dev/null" || target.starts_with("pipe:")));
  }
  const Words of_server = DescriptorsOf(servers[0]);
  CHECK(std::count_if(of_server.begin(), of_server.end(), [](const std::string& target) {
          return target.starts_with("socket:");
        }) == 1);  // its own
  CHECK_FALSE(SharesMemory(keepers[0]));
  CHECK_FALSE(SharesMemory(servers[0]));
}

TEST_CASE("whatever becomes of a dump, the server serves") {
  for (const char* how : {"refuse refuse", "die refuse", "garbage refuse", "ok refuse"}) {
    CAPTURE(how);
    AgentProcess agent(Snapshots({"--", kListener}, how, "auto"));
    agent.WaitForPhase("Checkpointing");
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.Count("snapshot.dumped") + agent.Count("snapshot.failed") == 1);
    const Words steps = StepsOf(agent);
    const bool is_made = agent.Count("snapshot.dumped") == 1;
    CHECK(Has(steps, is_made ? "dump" : "dump failed"));
    CHECK((Has(steps, "dump.quiesce") || Has(steps, "dump.quiesce failed")));
    CHECK(Has(steps, "dump.frozen") == is_made);
    CHECK(agent.Get(8000, "/").status == 200);
    CHECK(agent.CountReports("listener listening") == 1);
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
}

TEST_CASE("a dump that breaks off in the tree starts it anew, and no other is taken") {
  for (const char* how : {"break refuse", "wreck refuse", "orphan refuse"}) {
    CAPTURE(how);
    AgentProcess agent(Snapshots({"--on-enter", "true", "--", kListener}, how, "auto"));
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.Count("snapshot.failed") == 1);
    CHECK(agent.CountReports("criu asked dump") == 1);
    CHECK(agent.CountReports("listener listening") == 2);
    CHECK(agent.Count("hook.exit") == 1);
    CHECK(agent.Processes(kListener).size() == 1);
    WaitUntilGone(agent, "criu");
    CHECK(agent.Get(8000, "/").status == 200);
    agent.Signal(SIGTERM);
    CHECK(agent.WaitForExit() == 0);
  }
}

TEST_CASE("a worker or CRIU that is killed while the tree stands still starts it anew") {
  for (const char* who : {"modal-agent-snapshot", "criu --no-default-config"}) {
    CAPTURE(who);
    AgentProcess agent(Snapshots({"--", kListener}, "stall refuse", "auto"));
    agent.WaitForReport("criu stalls");
    const std::vector<ProcessSeen> seen = agent.Processes(who);
    REQUIRE(seen.size() == 1);
    agent.SignalInside(seen[0], SIGKILL);
    agent.WaitFor("lifecycle.ready");
    CHECK(agent.CountReports("listener listening") == 2);
    WaitUntilGone(agent, "modal-agent-snapshot");
    WaitUntilGone(agent, "criu");
    CHECK(agent.Get(8000, "/").status == 200);
  }
}

TEST_CASE("a hook's server that a broken dump has held is started by its hook again") {
  AgentProcess agent(
      Snapshots({"--on-enter", "/mnt/bin/listener --on USR1=exit:6 &"}, "break refuse", "auto"));
  agent.WaitFor("lifecycle.ready");
  CHECK(agent.CountReports("listener listening") == 2);
  CHECK(agent.Count("hook.exit") == 2);
  agent.SignalProgram("listener", SIGUSR1);
  CHECK(agent.WaitForExit() == 6);
}

TEST_CASE("SIGTERM during a dump that hangs stops the server in order") {
  AgentProcess agent(Snapshots({"--", kListener}, "hang refuse", "auto"));
  agent.WaitForPhase("Checkpointing");
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
  CHECK(agent.CountReports("listener signal TERM") == 1);
}

// In front of the server -------------------------------------------------------------------------

const Words kFront = {"--listen", "9000", "--hold-requests", "60s", "--"};

Words InFront(const Words& command) {
  Words words = kFront;
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

// What hangs is killed, which is a cold start, or a dump that came to nothing.
void IsAnsweredAfter(bool is_restore) {
  AgentProcess agent(is_restore ? WithSnapshot(InFront({kListener}), "refuse hang")
                                : Snapshots(InFront({kListener}), "hang refuse", "auto"));
  agent.WaitForReport(is_restore ? "criu asked restore" : "criu asked dump");
  Client waiting = agent.Connect(9000);
  REQUIRE(waiting.Request("/"));
  const std::vector<ProcessSeen> criu = agent.Processes("criu --no-default-config");
  REQUIRE(criu.size() == 1);
  agent.SignalInside(criu[0], SIGKILL);
  CHECK(waiting.ReadAnswer().status == 200);
  agent.WaitFor("lifecycle.ready");
}

TEST_CASE("requests that come while a restore goes on are answered after it") {
  IsAnsweredAfter(true);
}

TEST_CASE("requests that come while a dump goes on are answered after it") {
  IsAnsweredAfter(false);
}

// --snapshot create -------------------------------------------------------------------------------

TEST_CASE("to create a snapshot ends with 0 or 122, and says why") {
  SUBCASE("made and tried") {
    AgentProcess agent(Snapshots({"--", kListener}, "ok ok", "create"));
    const int code = agent.WaitForExit();
    CHECK(agent.Count("snapshot.restored") == 1);
    // Either: it starts within no time, and is restored as fast.
    const bool is_worth_it = agent.Count("snapshot.done", {{"standing", "proven"}}) == 1;
    CHECK(agent.Count("snapshot.done", {{"standing", "not-worth-it"}}) == (is_worth_it ? 0 : 1));
    CHECK(code == (is_worth_it ? 0 : 122));
    CHECK(Contains(agent.Find("agent.exit")["reason"],
                   is_worth_it ? "is made and tried" : "not worth it"));
  }
  SUBCASE("a dump that is refused") {
    AgentProcess agent(Snapshots({"--", kListener}, "refuse refuse", "create"));
    CHECK(agent.WaitForExit() == 122);
    CHECK(Contains(agent.Find("agent.exit")["reason"], "criu dump"));
  }
  SUBCASE("one that is there and has not proved itself yet") {
    AgentOptions options = WithSnapshot({"--", kListener}, "refuse ok");
    options.arguments = Snapshots({"--", kListener}, "", "create").arguments;
    AgentProcess agent(std::move(options));
    CHECK(agent.WaitForExit() == 0);
    CHECK(agent.Count("workload.start") == 0);
    CHECK(agent.WaitFor("snapshot.done")["standing"] == "proven");
  }
  SUBCASE("without CRIU") {
    AgentProcess agent(Snapshots({"--criu", "/mnt/bin/none", "--", kListener}, "", "create"));
    CHECK(agent.WaitForExit() == 122);
    CHECK(agent.Count("workload.start") == 0);
  }
}

}  // namespace
}  // namespace modal::test
