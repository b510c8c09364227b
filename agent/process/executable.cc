#include "agent/process/executable.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"
#include "agent/process/launcher.h"

namespace modal::process {
namespace {

constexpr size_t kHeadSize = 256;        // as much of a first line as the kernel reads
constexpr int kInterpreterDepth = 4;     // a script may be run by a script, four times over
constexpr size_t kLoaderNameMax = 4096;  // PATH_MAX

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "add this architecture's ELF machine number"
#endif

Error NotFound(std::string message) {
  return Error(std::move(message)).WithExitCode(kExitNotFound);
}

Error NotExecutable(std::string message) {
  return Error(std::move(message)).WithExitCode(kExitNotExecutable);
}

// `path` as seen from `workdir`.
std::string Locate(const std::string& path, const std::string& workdir) {
  if (path.starts_with('/') || workdir.empty()) return path;
  return workdir + "/" + path;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string MachineName(uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86-64";
    case EM_386:
      return "x86 (32 bits)";
    case EM_AARCH64:
      return "arm64";
    case EM_ARM:
      return "arm (32 bits)";
    case EM_RISCV:
      return "riscv";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390";
    default:
      return Concat("machine ", machine);
  }
}

std::string ReadAt(int fd, off_t offset, size_t size) {
  std::string bytes(size, '\0');
  ssize_t got = 0;
  do {
    got = ::pread(fd, bytes.data(), size, offset);
  } while (got < 0 && errno == EINTR);
  bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return bytes;
}

// ---- what kind of file it is ----

// The interpreter of a script: the first word after "#!".
std::optional<std::string> ScriptInterpreter(const std::string& head) {
  if (!head.starts_with("#!")) return std::nullopt;
  const std::string line = head.substr(2, head.find('\n') - 2);
  const size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return line.substr(begin, line.find_first_of(" \t", begin) - begin);
}

template <class Header>
std::optional<Header> HeaderAt(int fd, off_t offset) {
  const std::string bytes = ReadAt(fd, offset, sizeof(Header));
  if (bytes.size() < sizeof(Header)) return std::nullopt;
  Header header;
  ::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

// The loader that a dynamic program asks for: the text of its PT_INTERP segment.
template <class FileHeader, class ProgramHeader>
std::optional<std::string> LoaderOf(int fd) {
  const auto file = HeaderAt<FileHeader>(fd, 0);
  if (!file || file->e_phentsize != sizeof(ProgramHeader)) return std::nullopt;
  for (unsigned i = 0; i < file->e_phnum; ++i) {
    const auto segment = HeaderAt<ProgramHeader>(
        fd, static_cast<off_t>(file->e_phoff) + static_cast<off_t>(i * sizeof(ProgramHeader)));
    if (!segment) return std::nullopt;
    if (segment->p_type != PT_INTERP || segment->p_filesz > kLoaderNameMax) continue;
    const std::string name = ReadAt(fd, static_cast<off_t>(segment->p_offset), segment->p_filesz);
    return name.substr(0, name.find('\0'));
  }
  return std::nullopt;
}

std::optional<std::string> ElfLoader(int fd, const std::string& head) {
  if (!head.starts_with(ELFMAG) || head.size() <= EI_CLASS) return std::nullopt;
  if (head[EI_CLASS] == ELFCLASS64) return LoaderOf<Elf64_Ehdr, Elf64_Phdr>(fd);
  return LoaderOf<Elf32_Ehdr, Elf32_Phdr>(fd);
}

// ---- why each errno ----

Error ExplainMissingInterpreter(const std::string& path, const std::string& workdir,
                                const std::string& interpreter, int depth);

// ENOENT for a file that is there: what it needs is not.
Error ExplainMissing(const std::string& path, const std::string& workdir, int depth) {
  const std::string where = Locate(path, workdir);
  const std::string seen_from =
      path.starts_with('/') || workdir.empty() ? "" : Concat(" (in ", workdir, ")");
  struct stat link {};
  if (::lstat(where.c_str(), &link) != 0) {
    return NotFound(Concat(path, ": no such file or directory", seen_from));
  }
  const UniqueFd fd(::open(where.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == ENOENT && S_ISLNK(link.st_mode)) {
    std::string target(kLoaderNameMax, '\0');
    const ssize_t size = ::readlink(where.c_str(), target.data(), target.size());
    target.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return NotFound(Concat(path, ": is a symbolic link to ", target, ", which does not exist"));
  }
  if (!fd) return NotFound(Concat(path, ": what it needs to run does not exist"));
  const std::string head = ReadAt(fd.get(), 0, kHeadSize);
  if (const auto interpreter = ScriptInterpreter(head)) {
    return ExplainMissingInterpreter(path, workdir, *interpreter, depth);
  }
  if (const auto loader = ElfLoader(fd.get(), head)) {
    return NotFound(Concat(path, ": its loader ", *loader,
                           " does not exist here: the program was linked for another C library; "
                           "link it statically, or take an image that has this loader"));
  }
  return NotFound(Concat(path, ": no such file or directory", seen_from));
}

Error ExplainMissingInterpreter(const std::string& path, const std::string& workdir,
                                const std::string& interpreter, int depth) {
  if (interpreter.ends_with('\r')) {
    return NotFound(Concat(path, ": its first line ends with a carriage return, so that '",
                           interpreter.substr(0, interpreter.size() - 1),
                           "\\r' is looked for: save the file with Unix line ends"));
  }
  struct stat file {};
  const bool exists = ::stat(Locate(interpreter, workdir).c_str(), &file) == 0;
  if (exists && depth < kInterpreterDepth) {
    return ExplainMissing(interpreter, workdir, depth + 1).While(path);
  }
  return NotFound(Concat(path, ": its interpreter ", interpreter,
                         " (named in its first line) does not exist here"));
}

// EACCES.
Error ExplainDenied(const std::string& path, const std::string& workdir, const std::string& user,
                    int depth) {
  const std::string where = Locate(path, workdir);
  struct stat file {};
  if (::stat(where.c_str(), &file) != 0) {
    return NotExecutable(
        Concat(path, ": permission denied: ", user, " may not look into ", FolderOf(where)));
  }
  if (S_ISDIR(file.st_mode)) return NotExecutable(Concat(path, ": is a directory"));
  if (!S_ISREG(file.st_mode)) return NotExecutable(Concat(path, ": is not a regular file"));
  if ((file.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0) {
    return NotExecutable(Concat(path, ": is not executable; set its x bit (chmod +x ", path, ")"));
  }
  struct statvfs mount {};
  if (::statvfs(where.c_str(), &mount) == 0 && (mount.f_flag & ST_NOEXEC) != 0) {
    return NotExecutable(Concat(path, ": lies on a file system that is mounted noexec"));
  }
  const UniqueFd fd(::open(where.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd && depth < kInterpreterDepth) {
    const auto interpreter = ScriptInterpreter(ReadAt(fd.get(), 0, kHeadSize));
    struct stat interpreter_file {};
    if (interpreter && ::stat(Locate(*interpreter, workdir).c_str(), &interpreter_file) == 0 &&
        ::access(Locate(*interpreter, workdir).c_str(), X_OK) != 0) {
      return ExplainDenied(*interpreter, workdir, user, depth + 1).While(path);
    }
  }
  return NotExecutable(Concat(path, ": permission denied: ", user,
                              " may not execute it, or may not look into a folder on the way"));
}

// ENOEXEC.
Error ExplainFormat(const std::string& path, const std::string& workdir) {
  const UniqueFd fd(::open(Locate(path, workdir).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const std::string head = fd ? ReadAt(fd.get(), 0, kHeadSize) : "";
  if (fd && head.empty()) return NotExecutable(path + ": is empty");
  if (head.starts_with(ELFMAG)) {
    uint16_t machine = 0;
    if (head.size() >= sizeof(Elf32_Ehdr)) {
      ::memcpy(&machine, head.data() + offsetof(Elf32_Ehdr, e_machine), sizeof(machine));
    }
    if (machine != 0 && machine != kMachine) {
      return NotExecutable(Concat(path, ": was built for ", MachineName(machine),
                                  ", and this machine is ", MachineName(kMachine)));
    }
    return NotExecutable(path + ": is damaged, or not a program (an ELF file that does not load)");
  }
  return NotExecutable(
      Concat(path,
             ": the kernel does not know its format: a script needs a first line such as "
             "#!/bin/sh, or is started as `sh ",
             path, "`"));
}

}  // namespace

Result<std::vector<std::string>> ExecutableCandidates(const std::string& name,
                                                      const std::string& path,
                                                      const std::string& workdir) {
  if (name.empty()) return NotFound("the command is an empty word");
  std::vector<std::string> places;
  if (name.find('/') != std::string::npos) {
    places.push_back(name);
  } else {
    // An empty piece of PATH is the working folder.
    for (const std::string& folder : Split(path, ':')) {
      places.push_back(folder.empty() ? "./" + name : Concat(folder, "/", name));
    }
  }
  std::vector<std::string> candidates;
  std::optional<Error> denied;
  for (const std::string& place : places) {
    const std::string where = Locate(place, workdir);
    struct stat file {};
    if (::stat(where.c_str(), &file) != 0) {
      if (errno == EACCES && !denied) denied = ExplainDenied(place, workdir, "the agent", 0);
      continue;
    }
    if (!S_ISREG(file.st_mode) || (file.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0) {
      if (!denied) denied = ExplainDenied(place, workdir, "the agent", 0);
      continue;
    }
    candidates.push_back(place);
  }
  if (!candidates.empty()) return candidates;
  if (denied) return *std::move(denied);
  if (name.find('/') != std::string::npos) return ExplainMissing(name, workdir, 0);
  struct stat file {};
  const bool is_here =
      ::stat(Locate("./" + name, workdir).c_str(), &file) == 0 && S_ISREG(file.st_mode);
  return NotFound(Concat(name, ": no such program in PATH (", path, ")",
                         is_here ? Concat("; did you mean ./", name, "?") : ""));
}

Result<std::string> FindExecutable(const std::string& name, const std::string& path,
                                   const std::string& workdir) {
  const Result<std::vector<std::string>> candidates = ExecutableCandidates(name, path, workdir);
  if (!candidates) return candidates.error();
  for (const std::string& candidate : *candidates) {
    if (::access(Locate(candidate, workdir).c_str(), X_OK) == 0) return candidate;
  }
  return ExplainDenied(candidates->front(), workdir, "the agent", 0);
}

Error ExplainExecFailure(const std::string& path, const std::string& workdir, int code,
                         const std::string& user) {
  switch (code) {
    case ENOENT:
    case ENOTDIR:
      return ExplainMissing(path, workdir, 0);
    case EACCES:
      return ExplainDenied(path, workdir, user, 0);
    case ENOEXEC:
      return ExplainFormat(path, workdir);
    case E2BIG:
      return NotExecutable(path +
                           ": arguments and environment together are too long for the "
                           "kernel; pass less of them");
    case ETXTBSY:
      return NotExecutable(path + ": somebody has it open for writing");
    case EAGAIN:
      return NotExecutable(
          Concat(path, ": ", user, " has reached its limit of processes (RLIMIT_NPROC)"));
    default:
      return Error::FromErrno(path, code).WithExitCode(kExitNotExecutable);
  }
}

}  // namespace modal::process
