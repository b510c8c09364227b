#include "agent/check_command.h"

#include <doctest/doctest.h>
#include <linux/capability.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "agent/base/strings.h"
#include "agent/text_columns.h"
#include "tests/unit/agent/temp_folder.h"

namespace modal {
namespace {

// A container in which everything is permitted.
ContainerFacts Generous() {
  ContainerFacts facts;
  facts.kernel = "6.1.0";
  facts.pid = 1;
  facts.process_1 = "modal-agent";
  facts.proc = true;
  facts.subreaper = true;
  facts.control_path = "/run/modal-agent/control.sock";
  facts.shell = true;
  facts.capabilities = ~uint64_t{0};
  facts.bounding = ~uint64_t{0};
  facts.seccomp_mode = 0;
  facts.proc_net_tcp = true;
  facts.open_files = {20'000, 20'000};
  facts.processes = {RLIM_INFINITY, RLIM_INFINITY};
  facts.criu = "/usr/sbin/criu";
  facts.criu_version = "4.1.1";
  facts.criu_trial = CriuTrial{Milliseconds{12}, Milliseconds{34}};
  return facts;
}

Finding Find(const ContainerFacts& facts, std::string_view name) {
  for (const Finding& one : Judge(facts)) {
    if (one.name == name) return one;
  }
  return {"missing", Verdict::kNo, "", ""};
}

TEST_CASE("where everything is permitted, every finding is ok and the agent can run") {
  const std::vector<Finding> findings = Judge(Generous());
  std::set<std::string_view> names;
  for (const Finding& one : findings) {
    CAPTURE(one.name);
    CHECK(names.insert(one.name).second);
    CHECK(one.verdict == Verdict::kOk);
    CHECK(one.meaning.ends_with('.'));
    CHECK_FALSE(one.value.empty());
  }
  CHECK(CanRun(findings));
}

TEST_CASE("without the kernel's sealed memory or any sight of ports no agent can run") {
  ContainerFacts old = Generous();
  old.memfd_error = "memfd: Function not implemented";
  CHECK_FALSE(CanRun(Judge(old)));
  ContainerFacts blind = Generous();
  blind.sock_diag_error = "Protocol not supported";
  CHECK(Find(blind, "port watch").verdict == Verdict::kLimited);
  CHECK(CanRun(Judge(blind)));
  blind.proc_net_tcp = false;
  CHECK(Find(blind, "port watch").verdict == Verdict::kNo);
  CHECK_FALSE(CanRun(Judge(blind)));
}

TEST_CASE("everything else that is missing limits the agent and does not keep it from running") {
  ContainerFacts poor = Generous();
  poor.pid = 17;
  poor.process_1 = "sh";
  poor.proc = poor.subreaper = poor.shell = false;
  poor.control_path.clear();
  poor.control_tried = "/run/modal-agent/control.sock";
  poor.uid = 1000;
  poor.capabilities = 0;
  poor.bounding = 1 << CAP_KILL;
  poor.no_new_privileges = true;
  poor.seccomp_mode = 2;
  poor.filter_error = "Operation not permitted";
  poor.open_files = {256, 256};
  poor.pids_limit = 20;
  poor.pids_used = 10;
  poor.criu.clear();
  poor.criu_trial.reset();
  const std::vector<Finding> findings = Judge(poor);
  CHECK(CanRun(findings));
  const auto worse = [](const Finding& one) { return one.verdict != Verdict::kOk; };
  CHECK(std::count_if(findings.begin(), findings.end(), worse) == 19);
  CHECK(Find(poor, "process 1").value == "sh");
  CHECK(Find(poor, "KILL").value == "for root only");
  CHECK(Find(poor, "SYS_ADMIN").value == "missing");
  CHECK(Find(poor, "processes").value == "10 of 20");
}

TEST_CASE("beside an agent that is process 1 a command is fine where it is") {
  ContainerFacts facts = Generous();
  facts.pid = 30;
  CHECK(Find(facts, "process 1").verdict == Verdict::kOk);
}

TEST_CASE("a criu that does not work is not counted as one") {
  ContainerFacts facts = Generous();
  facts.criu_error = "no answer within 5 s";
  CHECK(Find(facts, "criu").verdict == Verdict::kNo);
  CHECK(CriuVersionIn("Version: 4.1.1\nGitID: v4.1.1\n") == "4.1.1");
  CHECK(CriuVersionIn("criu: not found\n").empty());
}

TEST_CASE("a trial of CRIU is told with its times, or with what it failed by and what may help") {
  CHECK(Find(Generous(), "snapshots").meaning ==
        "A process was dumped here within 12 ms, and restored within 34 ms.");
  ContainerFacts facts = Generous();
  facts.criu_trial.reset();
  CHECK(Find(facts, "snapshots").name == "missing");  // nobody has tried

  facts.criu_trial_error = "criu dump: no\x1b[2J";
  Finding failed = Find(facts, "snapshots");
  CHECK(failed.verdict == Verdict::kNo);
  CHECK(failed.meaning == "They cannot be taken here: criu dump: no\\x1b[2J.");
  CHECK(CanRun(Judge(facts)));

  facts.seccomp_mode = 2;
  CHECK(Find(facts, "snapshots").meaning.ends_with("--security-opt=seccomp=unconfined."));
  facts.criu_lacks = "CRIU lacks CAP_SETPCAP: give it to the container";
  CHECK(Find(facts, "snapshots").meaning.ends_with(" " + facts.criu_lacks + "."));
}

TEST_CASE("a CRIU that is not there is told with the way to get one") {
  ContainerFacts facts = Generous();
  facts.criu.clear();
  facts.criu_trial.reset();
  facts.criu_error = "there is no CRIU";
  CHECK(Find(facts, "criu").value == "none");
  CHECK(Find(facts, "criu").meaning == "It would take snapshots: there is no CRIU.");
}

TEST_CASE("the table fits a terminal and has a line for every finding") {
  const std::vector<Finding> findings = Judge(Generous());
  const std::string table = CheckTable(findings);
  for (const Finding& one : findings) {
    CHECK(("\n" + table).find(Concat("\n", one.name, " ")) != std::string::npos);
  }
  for (const std::string& line : Split(table, '\n')) CHECK(line.size() <= kTerminalWidth);
  CHECK(table.ends_with("The agent can run here.\n"));
}

TEST_CASE("the same is there as JSON") {
  const std::string json = CheckJson(Judge(Generous()));
  CHECK(
      json.starts_with("{\"can_run\":true,\"findings\":[{\"name\":\"kernel\",\"verdict\":\"ok\""));
}

TEST_CASE("a look around finds what is true of this process") {
  test::TempFolder folder;
  const std::string control = folder.path() + "/sub/control.sock";
  // LookAround() leaves its marks, so it is done by a process that ends.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const ContainerFacts facts = LookAround({control, "", ""});
    const bool right = facts.pid == ::getpid() && facts.uid == ::geteuid() &&
                       facts.control_path == control && facts.memfd_error.empty() &&
                       !facts.kernel.empty() && facts.subreaper;
    const bool nowhere = LookAround({"/no/such/folder/c.sock", "", ""}).control_path.empty();
    ::_exit(right && nowhere ? 0 : 1);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace
}  // namespace modal
