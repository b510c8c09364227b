#include "snapshot/job.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/base/check.h"

namespace modal::snapshot {
namespace {

using Words = std::vector<std::string>;

UniqueFd Memfd(const std::string& text) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
  MODAL_CHECK(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  return fd;
}

std::string TextOf(int fd) {
  std::string text(1 << 16, '\0');
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

Job WholeJob() {
  Job job;
  job.kind = JobKind::kCreate;
  job.folder = "/snapshots";
  job.work_dir = "/dev/shm/work";
  job.inputs.command = {"./server", "", "--name=a b"};
  job.inputs.hooks = {"migrate"};
  job.inputs.workdir = "/srv";
  job.inputs.uid = 1000;
  job.inputs.gid = 4'294'967'294;
  job.inputs.groups = {10, 4'294'967'294};
  job.inputs.capabilities = uint64_t{1} << 63 | 5;
  job.inputs.no_new_privileges = true;
  job.inputs.limits = {"nofile=1024:4096"};
  job.inputs.port = 65535;
  job.inputs.environment = {"A=b", "LINES=a\nb"};
  job.inputs.ignored = {"X"};
  job.inputs.kernel = "6.1.0";
  job.inputs.cpu = "GenuineIntel";
  job.inputs.criu_build = "0123456789abcdef";
  job.inputs.agent_version = "1.2.3";
  job.explicit_key = "v1";
  job.fingerprint.executable = "/srv/server";
  job.fingerprint.arguments = {"app.py"};
  job.fingerprint.workdir = "/srv";
  job.fingerprint.hooks = {"migrate"};
  job.fingerprint.root = "/other";
  job.fingerprint.environment = {"PYTHONPATH=/lib"};
  job.fingerprint.left_out = {"/snapshots"};
  job.fingerprint.max_files = 7;
  job.fingerprint.max_hashed = uint64_t{1} << 40;
  job.raise_pids = true;
  job.creates = true;
  job.key = std::string(32, 'a');
  job.image_identity = "key:v1";
  job.root = 1000;
  job.workload = 1001;
  job.listening = "0.0.0.0:8000";
  job.cold_ms = 800;
  job.hooks_ms = -1;
  job.with_keeper = true;
  job.since_ns = 1'700'000'000'000'000'000;
  job.left_out = {"/run/modal-agent"};
  return job;
}

TEST_CASE("a job arrives as it was written") {
  const Job sent = WholeJob();
  const Result<UniqueFd> sealed = SealJob(sent);
  REQUIRE(sealed);
  const Result<Job> job = ReadJob(sealed->get());
  REQUIRE(job);
  CHECK(job->kind == JobKind::kCreate);
  CHECK(job->folder == sent.folder);
  CHECK(job->work_dir == sent.work_dir);
  CHECK(job->inputs.command == sent.inputs.command);
  CHECK(job->inputs.hooks == sent.inputs.hooks);
  CHECK(job->inputs.gid == sent.inputs.gid);
  CHECK(job->inputs.groups == sent.inputs.groups);
  CHECK(job->inputs.capabilities == sent.inputs.capabilities);
  CHECK(job->inputs.no_new_privileges);
  CHECK(job->inputs.port == 65535);
  // All that the key is made of, at one glance.
  CHECK(MakeKey(job->inputs).text == MakeKey(sent.inputs).text);
  CHECK(job->inputs.environment == sent.inputs.environment);
  CHECK(job->explicit_key == "v1");
  CHECK(job->fingerprint.executable == sent.fingerprint.executable);
  CHECK(job->fingerprint.arguments == sent.fingerprint.arguments);
  CHECK(job->fingerprint.workdir == sent.fingerprint.workdir);
  CHECK(job->fingerprint.hooks == sent.fingerprint.hooks);
  CHECK(job->fingerprint.root == sent.fingerprint.root);
  CHECK(job->fingerprint.environment == sent.fingerprint.environment);
  CHECK(job->fingerprint.left_out == sent.fingerprint.left_out);
  CHECK(job->fingerprint.max_files == 7);
  CHECK(job->fingerprint.max_hashed == uint64_t{1} << 40);
  CHECK(job->raise_pids);
  CHECK(job->creates);
  CHECK(job->key == sent.key);
  CHECK(job->image_identity == "key:v1");
  CHECK(job->root == 1000);
  CHECK(job->workload == 1001);
  CHECK(job->listening == sent.listening);
  CHECK(job->cold_ms == 800);
  CHECK(job->hooks_ms == -1);
  CHECK(job->with_keeper);
  CHECK(job->since_ns == sent.since_ns);
  CHECK(job->left_out == sent.left_out);
}

TEST_CASE("a job of which a piece is missing, or to which one was added, is refused") {
  const Result<UniqueFd> sealed = SealJob(WholeJob());
  REQUIRE(sealed);
  const std::string text = TextOf(sealed->get());
  REQUIRE(ReadJob(Memfd(text).get()).ok());
  for (size_t size = 0; size < text.size(); ++size) {
    CAPTURE(size);
    REQUIRE_FALSE(ReadJob(Memfd(text.substr(0, size)).get()).ok());
  }
  CHECK_FALSE(ReadJob(Memfd(text + std::string("x\0", 2)).get()).ok());
  CHECK_FALSE(ReadJob(-1).ok());
}

}  // namespace
}  // namespace modal::snapshot
