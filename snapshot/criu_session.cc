#include "snapshot/criu_session.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/base/strings.h"
#include "snapshot/criu_launch.h"
#include "snapshot/folder.h"
#include "snapshot/protobuf.h"

namespace modal::snapshot {
namespace {

constexpr const char* kDumpLog = "dump.log";
constexpr const char* kRestoreLog = "restore.log";
constexpr size_t kLongestPacket = size_t{64} * 1024;
constexpr size_t kLongestLog = size_t{4} << 20;

// Steps of CRIU's action scripts (criu(8), --action-script).
constexpr std::string_view kFrozen = "query-ext-files";
constexpr std::string_view kPostDump = "post-dump";
constexpr std::string_view kPreRestore = "pre-restore";
constexpr std::string_view kPostRestore = "post-restore";

std::optional<CriuMoment> MomentOf(std::string_view step) {
  if (step == kFrozen) return CriuMoment::kFrozen;
  if (step == kPreRestore) return CriuMoment::kImagesRead;
  if (step == kPostRestore) return CriuMoment::kInPlace;
  return std::nullopt;
}

// At most so much of a file; empty if it cannot be read.
std::string ReadSome(const std::string& path, size_t limit) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  std::string text;
  std::array<char, 16384> piece;
  while (file && text.size() < limit) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(piece.data(), static_cast<size_t>(got));
  }
  return text;
}

uint64_t FieldOf(std::string_view message, uint32_t number) {
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number == number) return field->value;
  }
  return 0;
}

// stats-dump and stats-restore: two magic numbers and a size, 32 bits each, then a stats_entry of
// CRIU's images/stats.proto, in which field 1 is about a dump and field 2 about a restore.
CriuTimes ReadTimes(const std::string& path, bool is_dump) {
  constexpr size_t kHead = 12;
  CriuTimes times;
  const std::string file = ReadSome(path, kLongestPacket);
  if (file.size() < kHead) return times;
  ProtobufReader reader(std::string_view(file).substr(kHead));
  while (const std::optional<ProtobufField> entry = reader.Next()) {
    if (is_dump && entry->number == 1) {
      constexpr uint32_t kFrozenTime = 2;  // microseconds
      constexpr uint32_t kPagesWritten = 7;
      times.frozen = std::chrono::duration_cast<Milliseconds>(
          std::chrono::microseconds(FieldOf(entry->bytes, kFrozenTime)));
      times.pages = FieldOf(entry->bytes, kPagesWritten);
    } else if (!is_dump && entry->number == 2) {
      constexpr uint32_t kPagesRestored = 5;
      times.pages = FieldOf(entry->bytes, kPagesRestored);
    }
  }
  return times;
}

// In the work folder, which is this call's alone.
Result<std::string> LinkTo(const std::string& images_dir, const std::string& work_dir) {
  std::string link = work_dir + "/images";
  if (::symlink(images_dir.c_str(), link.c_str()) != 0) return Error::FromErrno(link, errno);
  return link;
}

// Names the work folder. A descriptor of ours, which a call may name instead, CRIU finds by way of
// /proc, and only if it runs as the same user.
Result<std::string> WriteConfig(const std::string& work_dir) {
  std::string path = work_dir + "/criu.conf";
  const UniqueFd file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file) return Error::FromErrno(path, errno);
  const Result<void> written = WriteAll(file.get(), Concat("work-dir ", work_dir, "\n"));
  if (!written) return Error(written.error()).While(path);
  return path;
}

// What it says before it has a log: a complaint like those in there, or a plain line.
std::string SaidBefore(const std::string& work_dir) {
  const std::string said = WhatCriuSaid(work_dir);
  std::string complaint = FirstComplaint(said);
  if (!complaint.empty()) return complaint;
  std::string_view line = Trim(std::string_view(said).substr(0, said.find('\n')));
  while (!line.empty() && (line.back() == ':' || line.back() == ' ')) line.remove_suffix(1);
  return std::string(line);
}

// Complaints that say nothing to who has not written CRIU.
struct Meaning {
  std::string_view complaint;
  std::string_view means;
};
constexpr std::array<Meaning, 5> kMeanings = {{
    {"suspending seccomp failed",
     "the container has a seccomp filter: start it with --security-opt=seccomp=unconfined"},
    {"Unseizable non-zombie", "a process has become another user's; let all run as one (--user)"},
    {"Can't create link remap", "an open file has lost the name by which it was opened, not all"},
    {"Can't lookup mount", "a file is open on a file system that is mounted nowhere here"},
    {"fsnotify:", "a file or folder is watched with inotify, and cannot be found again later"},
}};

// Its call has ended without an answer; unless nobody has waited for that any longer.
Error Broken(const Error& error, const std::string& work_dir) {
  const std::string said = error.code() != EAGAIN ? SaidBefore(work_dir) : "";
  return said.empty() ? error : Error(Concat(error.message(), ": ", said));
}

Error Failure(std::string_view what, const CriuAnswer& answer, const std::string& work_dir,
              std::string_view log) {
  std::string why = FirstComplaint(ReadSome(Concat(work_dir, "/", log), kLongestLog));
  if (why.empty()) why = SaidBefore(work_dir);
  if (why.empty()) why = answer.message;
  if (why.empty() && answer.error != 0) why = ::strerror(answer.error);
  if (why.empty()) why = "it does not say why";
  for (const Meaning& meaning : kMeanings) {
    if (why.starts_with(meaning.complaint)) why = Concat(meaning.means, " (", why, ")");
  }
  return Error(Concat("criu ", what, ": ", why));
}

// What every call needs, a dump as well as a restore.
Result<CriuOptions> Prepare(const std::string& images_dir, const std::string& work_dir) {
  Result<std::string> images = LinkTo(images_dir, work_dir);
  if (!images) return std::move(images.error()).While("criu");
  Result<std::string> config = WriteConfig(work_dir);
  if (!config) return std::move(config.error()).While("criu");
  CriuOptions options;
  options.images_dir = *std::move(images);
  options.config_file = *std::move(config);
  options.notify_scripts = true;
  return options;
}

}  // namespace

std::string FirstComplaint(std::string_view log) {
  // "(00.012345)   1234: Error (criu/sk-inet.c:191): inet: Connected TCP socket"
  constexpr std::string_view kMark = "Error (";
  const size_t mark = log.find(kMark);
  if (mark == std::string_view::npos) return {};
  std::string_view line = log.substr(mark, log.find('\n', mark) - mark);
  const size_t end = line.find("): ");
  if (end != std::string_view::npos) line.remove_prefix(end + 3);
  return std::string(Trim(line.substr(0, 400)));
}

Result<void> CriuSession::Send(const std::string& packet) {
  ssize_t sent = 0;
  do {
    sent = ::send(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return Error::FromErrno("criu: it takes no call", errno);
  return {};
}

Result<CriuAnswer> CriuSession::Receive() {
  std::string packet(kLongestPacket, '\0');
  ssize_t got = 0;
  do {
    got = ::recv(socket_.get(), packet.data(), packet.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error::FromErrno("criu: no answer", errno);
  if (got == 0) return Error("criu: it has ended without an answer");
  return DecodeAnswer(std::string_view(packet).substr(0, static_cast<size_t>(got)));
}

Result<CriuAnswer> CriuSession::Call(CriuCall call, const CriuOptions& options, const Step& on_step,
                                     const OnCriuMoment& on_moment) {
  // Both at once: nobody waits for the answer to the first.
  for (const std::string& packet : {EncodeSignOfLife(), EncodeCall(call, options)}) {
    if (Result<void> sent = Send(packet); !sent) return std::move(sent.error());
  }
  if (Result<CriuAnswer> alive = Receive(); !alive) return alive;
  if (on_moment) on_moment(CriuMoment::kUp);
  std::optional<Error> refused;  // the step that we did not agree to
  while (true) {
    Result<CriuAnswer> answer = Receive();
    if (!answer) return refused ? *std::move(refused) : std::move(answer.error());
    if (answer->call != CriuCall::kNotify) {
      has_answered_ = true;
      if (refused) return *std::move(refused);
      return answer;
    }
    const std::optional<CriuMoment> moment = MomentOf(answer->step);
    if (moment && on_moment) on_moment(*moment);
    if (Result<void> agreed = on_step(*answer); !agreed) refused = std::move(agreed.error());
    if (Result<void> sent = Send(EncodeNotified(!refused)); !sent) {
      return refused ? *std::move(refused) : std::move(sent.error());
    }
  }
}

Result<CriuTimes> CriuSession::Dump(const DumpSpec& spec) {
  Result<CriuOptions> prepared = Prepare(spec.images_dir, spec.work_dir);
  if (!prepared) return std::move(prepared.error());
  CriuOptions& options = *prepared;
  options.pid = spec.root;
  options.leave_running = spec.leave_running;
  options.log_file = kDumpLog;
  // It asks before it stops anybody.
  bool has_begun = false;
  const auto on_step = [&spec, &has_begun](const CriuAnswer& step) -> Result<void> {
    has_begun = true;
    if (step.step == kFrozen && spec.when_frozen) return spec.when_frozen();
    if (step.step == kPostDump && spec.while_frozen) return spec.while_frozen();
    return {};
  };
  const Result<CriuAnswer> answer = Call(CriuCall::kDump, options, on_step, spec.on_moment);
  tree_is_suspect_ = has_begun && !has_answered_;
  if (!answer) return Broken(answer.error(), spec.work_dir);
  if (!answer->success) return Failure("dump", *answer, spec.work_dir, kDumpLog);
  return ReadTimes(spec.work_dir + "/stats-dump", true);
}

Result<Restored> CriuSession::Restore(const RestoreSpec& spec) {
  Result<CriuOptions> prepared = Prepare(spec.images_dir, spec.work_dir);
  if (!prepared) return std::move(prepared.error());
  CriuOptions& options = *prepared;
  options.restore_sibling = true;
  options.lazy_pages = spec.lazy;
  options.log_file = kRestoreLog;
  for (const ExternalDescriptor& descriptor : spec.descriptors) {
    options.inherit_fd.emplace_back(descriptor.id, descriptor.fd);
  }
  bool is_agreed = !spec.before_processes;
  const auto on_step = [&spec, &is_agreed](const CriuAnswer& step) -> Result<void> {
    if (step.step == kPreRestore && spec.before_processes) {
      Result<void> agreed = spec.before_processes();
      is_agreed = agreed.ok();
      return agreed;
    }
    if (!is_agreed) return Error("criu has made processes without asking");
    if (step.step == kPostRestore && spec.before_running) return spec.before_running();
    return {};
  };
  const Result<CriuAnswer> answer = Call(CriuCall::kRestore, options, on_step, spec.on_moment);
  if (!answer) return Broken(answer.error(), spec.work_dir);
  if (!answer->success || answer->pid <= 1) {
    return Failure("restore", *answer, spec.work_dir, kRestoreLog);
  }
  return Restored{answer->pid, ReadTimes(spec.work_dir + "/stats-restore", false)};
}

}  // namespace modal::snapshot
