#include "snapshot/criu_launch.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "agent/base/strings.h"
#include "snapshot/worker_protocol.h"

namespace modal::snapshot {
namespace {

constexpr const char* kSaid = "/said";

}  // namespace

Result<CriuOutput> OpenCriuOutput(const std::string& work_dir) {
  CriuOutput output;
  output.input.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!output.input) return Error::FromErrno("/dev/null", errno);
  const std::string path = work_dir + kSaid;
  output.said.Reset(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!output.said) return Error::FromErrno(path, errno);
  return output;
}

std::string WhatCriuSaid(const std::string& work_dir) {
  const UniqueFd file(::open((work_dir + kSaid).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  std::array<char, 1024> text;
  const ssize_t got = file ? ::read(file.get(), text.data(), text.size()) : -1;
  return std::string(text.data(), got > 0 ? static_cast<size_t>(got) : 0);
}

void SkipLauncher(process::LaunchSpec& spec) {
  const std::string folder = spec.executable.substr(0, spec.executable.rfind('/'));
  const std::string loader = folder + "/lib/ld.so";
  const std::string program = folder + "/bin/criu";
  if (folder.find_first_of(":;$") != std::string::npos) return;
  if (::access(loader.c_str(), X_OK) != 0 || ::access(program.c_str(), R_OK) != 0) return;
  std::vector<std::string> argv{loader,      "--inhibit-cache", "--library-path", folder + "/lib",
                                "--preload", "passcred.so",     "--argv0"};
  argv.push_back(spec.argv[0]);
  argv.push_back(program);
  argv.insert(argv.end(), spec.argv.begin() + 1, spec.argv.end());
  spec.executable = loader;
  spec.argv = std::move(argv);
}

process::LaunchSpec SwrkSpec(const std::string& criu, const std::string& cache_dir, int socket) {
  process::LaunchSpec spec;
  spec.executable = criu;
  // Whatever configuration the image may hold is none of ours.
  spec.argv = {"criu", "--no-default-config", "swrk", Concat(kCriuSocketFd)};
  spec.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  if (!cache_dir.empty()) spec.environment.push_back("XDG_RUNTIME_DIR=" + cache_dir);
  spec.workdir = "/";
  spec.fds.push_back({socket, kCriuSocketFd});
  return spec;
}

void EndCriu(process::Process& criu) {
  (void)criu.SignalGroup(SIGKILL);
  (void)criu.Signal(SIGKILL);
}

}  // namespace modal::snapshot
