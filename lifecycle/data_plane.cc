#include "lifecycle/data_plane.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "agent/base/status_board.h"
#include "agent/base/strings.h"

namespace modal::lifecycle {
namespace {

Result<void> WriteAll(int fd, const void* bytes, size_t size) {
  const char* at = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t written = ::write(fd, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error::FromErrno("write", errno);
    at += written;
    size -= static_cast<size_t>(written);
  }
  return {};
}

// Where nothing is to be written. An image may lack /dev: then something that takes no byte.
Result<UniqueFd> OpenNull() {
  UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (null) return null;
  return SealConfig({}, {});
}

// A disk that is full takes the file, and not its first byte.
Result<void> CheckRoom(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::FromErrno("stat", errno);
  if (!S_ISREG(info.st_mode)) return {};
  if (::fallocate(fd, FALLOC_FL_KEEP_SIZE, info.st_size, 4096) == 0) return {};
  // Many file systems do not know how to; then nobody can tell.
  if (errno == ENOSPC || errno == EDQUOT) return Error::FromErrno("write", errno);
  return {};
}

}  // namespace

std::string Upstream::ToString() const {
  if (kind == Kind::kUnixSocket) return "unix:" + path;
  if (!name.empty()) return Concat(name, ":", port);
  const bool ipv6 = address.find(':') != std::string::npos;
  return ipv6 ? Concat("[", address, "]:", port) : Concat(address, ":", port);
}

void SetUpstream(const Upstream& upstream, policy::GatewayConfig& config) {
  const bool is_path = upstream.kind == Upstream::Kind::kUnixSocket;
  SetBoardText(config.upstream_path, is_path ? upstream.path : "");
  SetBoardText(config.upstream_name, is_path ? "" : upstream.name);
  const bool has_address = !is_path && upstream.name.empty();
  SetBoardText(config.upstream_address, has_address ? upstream.address : "");
  config.upstream_port = is_path ? 0 : upstream.port;
}

bool NobodyMayConnect(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) != 0 || (info.st_mode & S_IWOTH) != 0;
}

Result<UniqueFd> SealConfig(const policy::GatewayConfig& config,
                            std::span<const policy::TokenRecord> tokens,
                            const event::NameFiles& names) {
  UniqueFd fd(::memfd_create("gateway-config", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error::FromErrno("gateway: memfd_create", errno);
  policy::GatewayConfig counted = config;
  counted.token_count = static_cast<uint32_t>(tokens.size());
  counted.hosts_size = static_cast<uint32_t>(names.hosts.size());
  counted.resolver_size = static_cast<uint32_t>(names.resolver.size());
  Result<void> written = WriteAll(fd.get(), &counted, sizeof counted);
  if (written) written = WriteAll(fd.get(), tokens.data(), tokens.size_bytes());
  for (const std::string* text : {&names.hosts, &names.resolver}) {
    if (written) written = WriteAll(fd.get(), text->data(), text->size());
  }
  if (!written) return std::move(written.error()).While("gateway: configuration");
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return Error::FromErrno("gateway: seal the configuration", errno);
  }
  return fd;
}

Result<UniqueFd> OpenAccessLog(const std::string& access_log) {
  if (access_log.empty()) return OpenNull();
  if (access_log == "-") {
    UniqueFd fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!fd) return Error::FromErrno("--access-log -: standard output", errno);
    return fd;
  }
  const std::string what = Concat("--access-log ", access_log);
  // O_NONBLOCK: a pipe that nobody reads is an error, and no reason to wait.
  UniqueFd fd(::open(access_log.c_str(),
                     O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640));
  if (!fd) return Error::FromErrno(what, errno);
  if (Result<void> room = CheckRoom(fd.get()); !room) return std::move(room.error()).While(what);
  return fd;
}

}  // namespace modal::lifecycle
