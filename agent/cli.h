// The command line: what was asked for, with every setting resolved (flag over environment over
// file over default) and checked, and the subcommands that are not the supervisor itself.
//
//   modal-agent [OPTIONS] [--] [COMMAND...]     kServe
//   modal-agent run [OPTIONS] [--] COMMAND...   kServe, on a laptop
//   modal-agent health | status | drain | reload | check | config | version [OPTIONS]
//   modal-agent token new [OPTIONS]
//   modal-agent snapshot list | inspect | verify | delete | prune | pack | unpack [OPTIONS]
//   [KEY...] modal-agent snapshot create [OPTIONS] [--] [COMMAND...]     kServe, with --snapshot
//   create
//
// Options end at `--` or at the first word that is none; everything after is COMMAND, untouched. A
// subcommand is one only as the first word.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/snapshot_request.h"
#include "lifecycle/options.h"

namespace modal {

enum class Mode {
  kServe,  // supervise COMMAND, or what a hook starts, or what listens already
  kHealth,
  kStatus,
  kDrain,
  kReload,
  kCheck,
  kConfig,
  kToken,
  kSnapshot,
  kVersion,
  kHelp,
};

struct Invocation {
  Mode mode = Mode::kServe;
  // Complete for kServe; for others `control`, `health_timeout` and, for kCheck, `snapshots.criu`.
  lifecycle::Options options;
  LogFormat log_format = LogFormat::kText;
  LogLevel log_level = LogLevel::kInfo;
  bool json = false;                  // --json of a subcommand
  bool timeline = false;              // kStatus: --timeline
  std::string environment;            // kToken: where it is to be good; empty: everywhere
  SnapshotRequest snapshot;           // kSnapshot
  std::string text;                   // kHelp, kConfig, kVersion: what to print
  std::vector<std::string> warnings;  // one sentence each, for the log or for stderr
};

// `argv` with the program's name first, as main() gets it; `environment` as environ(7). An Error is
// one line for people, names the flag, variable or file:line it is about, and has exit code 125.
Result<Invocation> ParseCommandLine(std::span<char* const> argv, char** environment,
                                    bool is_process_1);

// The same, with everything that the command line does not say in `around` (is_local_run is ours).
struct Surroundings;  // config.h
Result<Invocation> ParseCommandLine(std::span<char* const> argv, const Surroundings& around);

// Does what every mode but kServe does, prints to stdout (errors and warnings to stderr) and
// returns the exit code: 0, or 1 for "unhealthy", "no agent answers" and "the agent cannot run
// here", or 122 for a snapshot command that failed.
int RunCommand(const Invocation& invocation);

}  // namespace modal
