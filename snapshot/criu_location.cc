#include "snapshot/criu_location.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"

namespace modal::snapshot {
namespace {

// Beside the bundle's program; its first line is "build" and what tells builds apart.
constexpr std::string_view kManifest = "MANIFEST";
constexpr std::string_view kBuild = "build ";

std::optional<std::string> FirstLineOf(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::array<char, 256> text;
  const ssize_t got = file ? ::read(file.get(), text.data(), text.size()) : -1;
  if (got <= 0) return std::nullopt;
  const std::string_view all(text.data(), static_cast<size_t>(got));
  return std::string(all.substr(0, all.find('\n')));
}

Result<CriuLocation> Describe(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return Error::FromErrno(path, errno);
  if (!S_ISREG(info.st_mode) || ::access(path.c_str(), X_OK) != 0) {
    return Error(path + ": not a program");
  }
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  const std::optional<std::string> line = FirstLineOf(Concat(folder, kManifest));
  if (line && line->starts_with(kBuild)) return CriuLocation{path, line->substr(kBuild.size())};
  return CriuLocation{path, Concat(info.st_size, "-", info.st_mtim.tv_sec)};
}

}  // namespace

Result<CriuLocation> LocateCriu(const std::string& asked, const std::string& path) {
  if (!asked.empty()) {
    Result<CriuLocation> found = Describe(asked);
    if (!found) return std::move(found.error()).While("--criu");
    return found;
  }
  if (Result<CriuLocation> bundled = Describe(kBundledCriu)) return bundled;
  const Result<std::string> found = process::FindExecutable("criu", path, "/");
  if (found) return Describe(*found);
  return Error(Concat("there is no CRIU at ", kBundledCriu,
                      " nor on the PATH; put the bundle there, or name one with --criu"));
}

}  // namespace modal::snapshot
