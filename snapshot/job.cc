#include "snapshot/job.h"

#include "agent/base/word_list.h"

namespace modal::snapshot {
namespace {

std::vector<std::string> ToText(const std::vector<gid_t>& groups) {
  std::vector<std::string> text;
  for (const gid_t group : groups) text.push_back(std::to_string(group));
  return text;
}

std::vector<gid_t> ToGroups(const std::vector<std::string>& text) {
  std::vector<gid_t> groups;
  for (const std::string& group : text) {
    groups.push_back(static_cast<gid_t>(std::strtoul(group.c_str(), nullptr, 10)));
  }
  return groups;
}

void Write(const KeyInputs& inputs, WordWriter& to) {
  to.Add(inputs.command).Add(inputs.hooks).Add(inputs.workdir);
  to.Add(inputs.uid).Add(inputs.gid).Add(ToText(inputs.groups));
  to.Add(static_cast<int64_t>(inputs.capabilities)).Add(inputs.no_new_privileges ? 1 : 0);
  to.Add(inputs.limits).Add(inputs.port).Add(inputs.environment).Add(inputs.ignored);
  to.Add(inputs.kernel).Add(inputs.cpu).Add(inputs.criu_build).Add(inputs.agent_version);
}

KeyInputs ReadInputs(WordReader& from) {
  KeyInputs inputs;
  inputs.command = from.List();
  inputs.hooks = from.List();
  inputs.workdir = from.Word();
  inputs.uid = static_cast<uid_t>(from.Number());
  inputs.gid = static_cast<gid_t>(from.Number());
  inputs.groups = ToGroups(from.List());
  inputs.capabilities = static_cast<uint64_t>(from.Number());
  inputs.no_new_privileges = from.Number() != 0;
  inputs.limits = from.List();
  inputs.port = static_cast<uint16_t>(from.Number());
  inputs.environment = from.List();
  inputs.ignored = from.List();
  inputs.kernel = from.Word();
  inputs.cpu = from.Word();
  inputs.criu_build = from.Word();
  inputs.agent_version = from.Word();
  return inputs;
}

void Write(const FingerprintSpec& spec, WordWriter& to) {
  to.Add(spec.executable).Add(spec.arguments).Add(spec.workdir).Add(spec.hooks).Add(spec.root);
  to.Add(spec.environment).Add(spec.left_out);
  to.Add(static_cast<int64_t>(spec.max_files)).Add(static_cast<int64_t>(spec.max_hashed));
}

FingerprintSpec ReadFingerprint(WordReader& from) {
  FingerprintSpec spec;
  spec.executable = from.Word();
  spec.arguments = from.List();
  spec.workdir = from.Word();
  spec.hooks = from.List();
  spec.root = from.Word();
  spec.environment = from.List();
  spec.left_out = from.List();
  spec.max_files = static_cast<uint64_t>(from.Number());
  spec.max_hashed = static_cast<uint64_t>(from.Number());
  return spec;
}

}  // namespace

Result<UniqueFd> SealJob(const Job& job) {
  WordWriter to;
  to.Add(static_cast<int64_t>(job.kind)).Add(job.folder).Add(job.work_dir);
  Write(job.inputs, to);
  to.Add(job.explicit_key);
  Write(job.fingerprint, to);
  to.Add(job.raise_pids ? 1 : 0).Add(job.guesses ? 1 : 0).Add(job.creates ? 1 : 0);
  to.Add(static_cast<int64_t>(job.pages));
  to.Add(job.key).Add(job.image_identity);
  to.Add(job.root).Add(job.workload).Add(job.listening).Add(job.cold_ms).Add(job.hooks_ms);
  to.Add(job.with_keeper ? 1 : 0).Add(job.since_ns).Add(job.left_out);
  return to.Seal("snapshot-job");
}

Result<Job> ReadJob(int fd) {
  Result<WordReader> from = WordReader::Open(fd);
  if (!from) return std::move(from.error());
  Job job;
  job.kind = static_cast<JobKind>(from->Number());
  job.folder = from->Word();
  job.work_dir = from->Word();
  job.inputs = ReadInputs(*from);
  job.explicit_key = from->Word();
  job.fingerprint = ReadFingerprint(*from);
  job.raise_pids = from->Number() != 0;
  job.guesses = from->Number() != 0;
  job.creates = from->Number() != 0;
  job.pages = static_cast<Pages>(from->Number());
  job.key = from->Word();
  job.image_identity = from->Word();
  job.root = static_cast<pid_t>(from->Number());
  job.workload = static_cast<pid_t>(from->Number());
  job.listening = from->Word();
  job.cold_ms = from->Number();
  job.hooks_ms = from->Number();
  job.with_keeper = from->Number() != 0;
  job.since_ns = from->Number();
  job.left_out = from->List();
  if (!from->ok() || !from->at_end()) return Error("job: damaged");
  return job;
}

}  // namespace modal::snapshot
