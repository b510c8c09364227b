#include "agent/snapshot_parts.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>

#include "agent/agent_build.h"
#include "agent/base/strings.h"
#include "agent/criu_rights.h"
#include "agent/process/capabilities.h"
#include "agent/process/resource_limits.h"
#include "agent/text_file.h"
#include "snapshot/counted_variables.h"
#include "snapshot/criu_location.h"

namespace modal {
namespace {

// Whether one's own group is named among the others makes no difference to anybody, and depends on
// who has started us (the build of an image, or a container of it). But a restored process gets
// exactly the groups that it had, for which CRIU needs CAP_SETGID if they are not its own.
std::vector<gid_t> GroupsThatCount(std::vector<gid_t> groups, gid_t own) {
  const bool may_set = (process::CurrentCapabilities().effective >> CAP_SETGID & 1) != 0;
  if (may_set) groups.erase(std::remove(groups.begin(), groups.end(), own), groups.end());
  return groups;
}

std::vector<gid_t> OwnGroups() {
  std::vector<gid_t> groups(static_cast<size_t>(std::max(0, ::getgroups(0, nullptr))));
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<size_t>(std::max(0, count)));
  return groups;
}

std::string WorkdirOf(const lifecycle::Options& options) {
  if (!options.workdir.empty()) return options.workdir;
  std::error_code ignored;
  return std::filesystem::current_path(ignored).string();
}

// Hooks and workload are to run as another user than we do.
bool ChangesUser(const lifecycle::Options& options) {
  return options.credentials && options.credentials->uid != ::geteuid();
}

// Folders that belong to this container and not to what runs in it.
std::vector<std::string> LeftOut(const lifecycle::Options& options) {
  return {options.snapshots.folder, "/run/modal-agent", "/tmp/modal-agent-" + Concat(::geteuid())};
}

// Command lines, and the files of the hooks' folder.
std::vector<std::string> StartupHooks(const lifecycle::Options& options) {
  std::vector<std::string> hooks = options.on_enter;
  std::error_code ignored;
  const std::filesystem::path folder = std::filesystem::path(options.hooks_dir) / "enter";
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    hooks.push_back(entry.path().string());
  }
  std::sort(hooks.begin() + static_cast<ptrdiff_t>(options.on_enter.size()), hooks.end());
  return hooks;
}

}  // namespace

Result<lifecycle::Snapshotter::Options> MakeSnapshotOptions(const lifecycle::Options& options,
                                                            const std::string& path,
                                                            const std::string& executable) {
  if (options.seccomp) {
    return Error("a server with a seccomp filter (--seccomp-profile) cannot be dumped");
  }
  Result<snapshot::CriuLocation> criu = snapshot::LocateCriu(options.snapshots.criu, path);
  if (!criu) return std::move(criu.error());
  const std::string lacks = WhatCriuLacks(LookAtCriuRights(criu->path, ChangesUser(options)));
  if (!lacks.empty()) return Error(lacks);
  Result<std::string> cpuinfo = ReadTextFile("/proc/cpuinfo");
  if (!cpuinfo) return std::move(cpuinfo.error());
  Result<std::string> cpu = snapshot::CpuFeatures(*cpuinfo);
  if (!cpu) return std::move(cpu.error());
  utsname system{};
  ::uname(&system);

  lifecycle::Snapshotter::Options made;
  made.criu = criu->path;
  made.executable = executable;
  made.credentials = options.credentials;
  made.dumps = options.snapshots.mode != lifecycle::SnapshotMode::kRestore;
  made.creates = options.snapshots.mode == lifecycle::SnapshotMode::kCreate;
  snapshot::Job& job = made.job;
  job.folder = options.snapshots.folder;
  job.explicit_key = options.snapshots.key;
  job.pages = options.snapshots.pages;
  job.left_out = LeftOut(options);
  job.since_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                     std::chrono::system_clock::now().time_since_epoch())
                     .count();

  snapshot::KeyInputs& inputs = job.inputs;
  inputs.command = options.command;
  inputs.hooks = options.on_enter;
  inputs.workdir = WorkdirOf(options);
  inputs.uid = options.credentials ? options.credentials->uid : ::geteuid();
  inputs.gid = options.credentials ? options.credentials->gid : ::getegid();
  inputs.groups =
      options.credentials ? options.credentials->groups : GroupsThatCount(OwnGroups(), inputs.gid);
  // What it would have without us saying so, said.
  const uint64_t held = process::CurrentCapabilities().permitted;
  inputs.capabilities = options.capabilities.value_or(inputs.uid == 0 ? held : 0) & held;
  inputs.no_new_privileges = options.no_new_privileges;
  for (const process::ResourceLimit& limit : options.limits) {
    inputs.limits.push_back(Concat(process::ResourceName(limit.resource), "=",
                                   process::ResourceLimitToString(limit.limit)));
  }
  inputs.port = options.port;
  inputs.environment = options.environment;
  inputs.ignored = options.snapshots.env_ignore;
  inputs.kernel = system.release;
  inputs.cpu = *std::move(cpu);
  inputs.criu_build = criu->build;
  inputs.agent_version = AgentBuild();

  if (!options.command.empty()) {
    Result<std::string> program =
        process::FindExecutable(options.command[0], path, options.workdir);
    if (program) job.fingerprint.executable = *std::move(program);
    job.fingerprint.arguments.assign(options.command.begin() + 1, options.command.end());
  }
  job.fingerprint.workdir = inputs.workdir;
  job.fingerprint.hooks = StartupHooks(options);
  job.fingerprint.environment =
      snapshot::CountedVariables(options.environment, options.snapshots.env_ignore);
  job.fingerprint.left_out = LeftOut(options);
  job.fingerprint.left_out.push_back(criu->path.substr(0, criu->path.rfind('/')));
  return made;
}

}  // namespace modal
