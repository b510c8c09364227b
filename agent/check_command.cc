#include "agent/check_command.h"

#include <linux/capability.h>

#include <algorithm>
#include <array>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/process/capabilities.h"
#include "agent/readable.h"
#include "agent/text_columns.h"

namespace modal {
namespace {

std::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kLimited:
      return "limited";
    case Verdict::kNo:
      return "no";
  }
  return "no";
}

std::string LimitText(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : std::to_string(limit);
}

Finding Kernel(const ContainerFacts& facts) {
  if (facts.memfd_error.empty()) {
    return {"kernel", Verdict::kOk, facts.kernel, "Has the sealed memory that status boards need."};
  }
  return {"kernel", Verdict::kNo, facts.kernel,
          Concat("Status boards cannot be made (", facts.memfd_error,
                 "); Linux 5.1 or newer is needed."),
          true};
}

Finding Process1(const ContainerFacts& facts) {
  if (facts.pid == 1) {
    return {"process 1", Verdict::kOk, "yes", "Every orphan in the container comes to the agent."};
  }
  if (facts.process_1 == "modal-agent") {
    return {"process 1", Verdict::kOk, "modal-agent",
            "An agent is process 1 here; this is a command beside it."};
  }
  const std::string name = facts.process_1.empty() ? "another program" : facts.process_1;
  return {
      "process 1", Verdict::kLimited, name,
      "An agent started from here adopts only orphans of what it started, and ends only those."};
}

Finding Subreaper(const ContainerFacts& facts) {
  if (facts.subreaper) {
    return {"subreaper", Verdict::kOk, "yes", "Orphans come to an agent that is not process 1."};
  }
  return {"subreaper", facts.pid == 1 ? Verdict::kLimited : Verdict::kNo, "no",
          "An agent that is not process 1 loses sight of orphans."};
}

Finding Proc(const ContainerFacts& facts) {
  if (facts.proc) {
    return {"/proc", Verdict::kOk, "mounted",
            "Processes and the owners of ports can be told apart."};
  }
  return {"/proc", Verdict::kLimited, "missing",
          "Processes cannot be told apart: a stop reaches whole groups, or everything at once."};
}

Finding PortTable(const ContainerFacts& facts) {
  if (facts.sock_diag_error.empty()) {
    return {"port watch", Verdict::kOk, "sock_diag",
            "The kernel tells at once which ports listen."};
  }
  if (facts.proc_net_tcp) {
    return {"port watch", Verdict::kLimited, "/proc/net/tcp",
            Concat("Slower with many connections, and a drain cannot tell idle ones (sock_diag: ",
                   facts.sock_diag_error, ").")};
  }
  return {"port watch", Verdict::kNo, "none",
          Concat("Nobody can tell whether the server listens (sock_diag: ", facts.sock_diag_error,
                 "; /proc/net/tcp is missing)."),
          true};
}

Finding ControlSocket(const ContainerFacts& facts) {
  if (!facts.control_path.empty()) {
    return {"run folder", Verdict::kOk, facts.control_path,
            "The subcommands reach the agent here."};
  }
  return {
      "run folder", Verdict::kNo, "none",
      Concat("status, health, drain and reload will not reach an agent: nothing can be made at ",
             facts.control_tried, ".")};
}

Finding User(const ContainerFacts& facts) {
  const bool can_change = facts.capabilities >> CAP_SETUID & facts.capabilities >> CAP_SETGID & 1;
  const std::string name = facts.uid == 0 ? "root" : Concat("uid ", facts.uid);
  if (can_change) return {"user", Verdict::kOk, name, "--user and --group can be used."};
  return {"user", Verdict::kLimited, name,
          "Hooks and server run as this user; --user and --group need SETUID and SETGID."};
}

struct CapabilityMeaning {
  int number;
  std::string_view with;
  std::string_view without;
};

constexpr std::array kCapabilities{
    CapabilityMeaning{CAP_KILL, "A server that runs as another user can be stopped.",
                      "A server that runs as another user could not be stopped."},
    CapabilityMeaning{CAP_SETPCAP, "--cap-keep can empty the bounding set, and CRIU can restore.",
                      "--cap-keep sets no_new_privs, since the bounding set stays as it is."},
    CapabilityMeaning{CAP_NET_BIND_SERVICE, "Ports below 1024 can be opened.",
                      "Ports below 1024 can be opened only if the kernel was told so."},
    CapabilityMeaning{CAP_SYS_PTRACE, "It shows which process of another user holds a port.",
                      "Which process of another user holds a port cannot be told."},
    CapabilityMeaning{CAP_SYS_RESOURCE, "--rlimit can raise hard limits.",
                      "--rlimit can lower hard limits, not raise them."},
    CapabilityMeaning{CAP_SYS_ADMIN, "CRIU can dump a server that has a seccomp filter.",
                      "CRIU cannot dump a server that has a seccomp filter."},
    CapabilityMeaning{CAP_CHECKPOINT_RESTORE, "CRIU may dump and restore.",
                      "CRIU cannot dump or restore (docker run --cap-add CHECKPOINT_RESTORE)."},
};

void AddCapabilities(const ContainerFacts& facts, std::vector<Finding>& findings) {
  static constexpr std::array<std::string_view, kCapabilities.size()> kNames{
      "KILL",         "SETPCAP",   "NET_BIND_SERVICE",  "SYS_PTRACE",
      "SYS_RESOURCE", "SYS_ADMIN", "CHECKPOINT_RESTORE"};
  for (size_t i = 0; i < kCapabilities.size(); ++i) {
    const CapabilityMeaning& one = kCapabilities[i];
    const bool held = facts.capabilities >> one.number & 1;
    const bool possible = facts.bounding >> one.number & 1;
    findings.push_back({kNames[i], held ? Verdict::kOk : Verdict::kNo,
                        held       ? "held"
                        : possible ? "for root only"
                                   : "missing",
                        std::string(held ? one.with : one.without)});
  }
}

Finding NoNewPrivileges(const ContainerFacts& facts) {
  if (!facts.no_new_privileges) {
    return {"no_new_privs", Verdict::kOk, "off", "--no-new-privs sets it for hooks and server."};
  }
  return {"no_new_privs", Verdict::kLimited, "on",
          "The container sets it: set-user-ID programs gain nothing, whatever the options say."};
}

Finding Seccomp(const ContainerFacts& facts) {
  if (facts.seccomp_mode == 0) {
    return {"seccomp", Verdict::kOk, "no filter", "The container refuses no system calls."};
  }
  return {"seccomp", Verdict::kLimited, facts.seccomp_mode < 0 ? "unknown" : "filtered",
          "The container's own filter stays in force; CRIU may be refused what it needs."};
}

Finding OwnFilter(const ContainerFacts& facts) {
  if (facts.filter_error.empty()) {
    return {"own filters", Verdict::kOk, "yes",
            "--seccomp-profile works, and the admin endpoints are confined."};
  }
  return {"own filters", Verdict::kNo, facts.filter_error,
          "--seccomp-profile cannot work, and the admin endpoints cannot be confined."};
}

Finding OpenFiles(const ContainerFacts& facts) {
  constexpr rlim_t kFew = 1024;
  const std::string value =
      Concat(LimitText(facts.open_files.rlim_cur), " of ", LimitText(facts.open_files.rlim_max));
  if (facts.open_files.rlim_cur >= kFew) {
    return {"open files", Verdict::kOk, value,
            "The server inherits this; --rlimit nofile changes it."};
  }
  return {"open files", Verdict::kLimited, value,
          "Few for a server under load; --rlimit nofile=SOFT:HARD changes it."};
}

Finding Processes(const ContainerFacts& facts) {
  constexpr uint64_t kFew = 64;
  if (!facts.pids_limit) {
    return {"processes", Verdict::kOk,
            Concat("unlimited here, ", LimitText(facts.processes.rlim_cur), " per user"),
            "The container has no limit of its own."};
  }
  const uint64_t used = facts.pids_used.value_or(0);
  const bool few = *facts.pids_limit < used + kFew;
  return {"processes", few ? Verdict::kLimited : Verdict::kOk,
          Concat(used, " of ", *facts.pids_limit),
          few ? "Hooks or a server with many threads may fail to start at the container's limit."
              : "Threads count too."};
}

Finding Shell(const ContainerFacts& facts) {
  if (facts.shell) return {"/bin/sh", Verdict::kOk, "there", "Hooks may use shell syntax."};
  return {"/bin/sh", Verdict::kLimited, "missing",
          "Hooks are plain commands, without shell syntax."};
}

Finding Terminal(const ContainerFacts& facts) {
  return {"terminal", Verdict::kOk, facts.terminal ? "yes" : "no",
          facts.terminal ? "The server gets it, with job control."
                         : "The server gets a session of its own."};
}

Finding Criu(const ContainerFacts& facts) {
  if (facts.criu.empty()) {
    return {"criu", Verdict::kNo, "none",
            Concat("It would take snapshots: ", facts.criu_error, ".")};
  }
  if (!facts.criu_error.empty()) {
    return {"criu", Verdict::kNo, facts.criu, Concat("It does not work: ", facts.criu_error, ".")};
  }
  return {"criu", Verdict::kOk, Concat(facts.criu_version, ", ", facts.criu),
          "It takes and restores memory snapshots (--snapshot-dir)."};
}

// What is to be done about a CRIU that cannot work here, as far as capabilities and filters are to
// blame; empty if they are not.
std::string Remedy(const ContainerFacts& facts) {
  if (!facts.criu_lacks.empty()) return Concat(" ", facts.criu_lacks, ".");
  if (facts.seccomp_mode == 0) return "";
  return " The container's filter may be why: --security-opt=seccomp=unconfined.";
}

// Nothing if nobody has tried.
void AddTrial(const ContainerFacts& facts, std::vector<Finding>& findings) {
  if (facts.criu_trial) {
    findings.push_back(
        {"snapshots", Verdict::kOk, "a trial passed",
         Concat("A process was dumped here within ", facts.criu_trial->dump.count(),
                " ms, and restored within ", facts.criu_trial->restore.count(), " ms.")});
  } else if (!facts.criu_trial_error.empty()) {
    findings.push_back({"snapshots", Verdict::kNo, "a trial failed",
                        Concat("They cannot be taken here: ", Printable(facts.criu_trial_error),
                               ".", Remedy(facts))});
  }
}

}  // namespace

std::vector<Finding> Judge(const ContainerFacts& facts) {
  std::vector<Finding> findings{Kernel(facts),    Process1(facts),  Subreaper(facts),
                                Proc(facts),      PortTable(facts), ControlSocket(facts),
                                Shell(facts),     Terminal(facts),  OpenFiles(facts),
                                Processes(facts), User(facts),      NoNewPrivileges(facts),
                                Seccomp(facts),   OwnFilter(facts)};
  AddCapabilities(facts, findings);
  findings.push_back(Criu(facts));
  AddTrial(facts, findings);
  return findings;
}

bool CanRun(const std::vector<Finding>& findings) {
  return std::none_of(findings.begin(), findings.end(), [](const Finding& one) {
    return one.essential && one.verdict == Verdict::kNo;
  });
}

std::string CheckTable(const std::vector<Finding>& findings) {
  constexpr size_t kVerdictColumn = 20;
  constexpr size_t kMeaningColumn = 29;
  std::string table;
  for (const Finding& one : findings) {
    const std::string_view verdict = VerdictName(one.verdict);
    table += one.name;
    table.append(kVerdictColumn - std::min(one.name.size(), kVerdictColumn - 1), ' ');
    table += verdict;
    AppendInColumn(table, kVerdictColumn + verdict.size(), kMeaningColumn,
                   Concat(one.value, ". ", one.meaning));
  }
  table += CanRun(findings) ? "\nThe agent can run here.\n" : "\nThe agent cannot run here.\n";
  return table;
}

std::string CheckJson(const std::vector<Finding>& findings) {
  JsonWriter json;
  json.BeginObject().Key("can_run").Bool(CanRun(findings)).Key("findings").BeginArray();
  for (const Finding& one : findings) {
    json.BeginObject().Key("name").String(one.name);
    json.Key("verdict").String(VerdictName(one.verdict));
    json.Key("value").String(one.value);
    json.Key("meaning").String(one.meaning);
    json.EndObject();
  }
  json.EndArray().EndObject();
  return json.Take() + "\n";
}

}  // namespace modal
