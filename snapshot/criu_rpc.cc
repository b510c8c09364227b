#include "snapshot/criu_rpc.h"

#include "agent/base/strings.h"
#include "snapshot/protobuf.h"

namespace modal::snapshot {
namespace {

// criu_cg_mode: leave them as they are.
constexpr int64_t kIgnoreCgroups = 0;

// Fields of the messages of rpc.proto.
namespace request {
constexpr uint32_t kType = 1;
constexpr uint32_t kOptions = 2;
constexpr uint32_t kNotifySuccess = 3;
constexpr uint32_t kKeepOpen = 4;
}  // namespace request

namespace options {
constexpr uint32_t kImagesDirFd = 1;
constexpr uint32_t kPid = 2;
constexpr uint32_t kLeaveRunning = 3;
constexpr uint32_t kShellJob = 7;
constexpr uint32_t kFileLocks = 8;
constexpr uint32_t kLogLevel = 9;
constexpr uint32_t kLogFile = 10;
constexpr uint32_t kNotifyScripts = 12;
constexpr uint32_t kLinkRemap = 18;
constexpr uint32_t kRestoreSibling = 26;
constexpr uint32_t kInheritFd = 27;
constexpr uint32_t kCgroupsMode = 34;
constexpr uint32_t kGhostLimit = 35;
constexpr uint32_t kExternal = 37;
constexpr uint32_t kTimeout = 45;
constexpr uint32_t kLazyPages = 48;
constexpr uint32_t kConfigFile = 51;
constexpr uint32_t kTcpClose = 52;
constexpr uint32_t kUnprivileged = 67;
constexpr uint32_t kImagesDir = 68;
}  // namespace options

namespace response {
constexpr uint32_t kType = 1;
constexpr uint32_t kSuccess = 2;
constexpr uint32_t kRestore = 4;
constexpr uint32_t kNotify = 5;
constexpr uint32_t kErrno = 7;
constexpr uint32_t kErrorMessage = 9;
constexpr uint32_t kVersion = 10;
}  // namespace response

ProtobufWriter Encode(const CriuOptions& from) {
  ProtobufWriter to;
  to.Int(options::kImagesDirFd, -1);  // required; -1: see kImagesDir
  if (from.pid > 0) to.Int(options::kPid, from.pid);
  to.Bool(options::kLeaveRunning, from.leave_running);
  to.Bool(options::kShellJob, from.shell_job);
  to.Bool(options::kFileLocks, from.file_locks);
  to.Int(options::kLogLevel, from.log_level);
  if (!from.log_file.empty()) to.Bytes(options::kLogFile, from.log_file);
  to.Bool(options::kNotifyScripts, from.notify_scripts);
  to.Bool(options::kLinkRemap, from.link_remap);
  if (from.restore_sibling) to.Bool(options::kRestoreSibling, true);
  for (const auto& [id, fd] : from.inherit_fd) {
    to.Message(options::kInheritFd, ProtobufWriter().Bytes(1, id).Int(2, fd));
  }
  to.Int(options::kCgroupsMode, kIgnoreCgroups);
  to.Varint(options::kGhostLimit, from.ghost_limit);
  for (const std::string& external : from.external) to.Bytes(options::kExternal, external);
  if (from.timeout > 0) to.Varint(options::kTimeout, from.timeout);
  if (from.lazy_pages) to.Bool(options::kLazyPages, true);
  to.Bool(options::kTcpClose, from.tcp_close);
  if (from.unprivileged) to.Bool(options::kUnprivileged, true);
  if (!from.config_file.empty()) to.Bytes(options::kConfigFile, from.config_file);
  to.Bytes(options::kImagesDir, from.images_dir);
  return to;
}

int ToInt(uint64_t value) { return static_cast<int>(static_cast<int64_t>(value)); }

bool DecodeRestore(std::string_view message, CriuAnswer& answer) {
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number == 1) answer.pid = ToInt(field->value);
  }
  return reader.ok();
}

bool DecodeNotify(std::string_view message, CriuAnswer& answer) {
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number == 1) answer.step = field->bytes;
    if (field->number == 2) answer.pid = ToInt(field->value);
  }
  return reader.ok();
}

bool DecodeVersion(std::string_view message, CriuAnswer& answer) {
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number == 1) answer.major = ToInt(field->value);
    if (field->number == 2) answer.minor = ToInt(field->value);
    if (field->number == 4) answer.sublevel = ToInt(field->value);
  }
  return reader.ok();
}

bool DecodeField(const ProtobufField& field, CriuAnswer& answer) {
  switch (field.number) {
    case response::kType:
      answer.call = static_cast<CriuCall>(field.value);
      return true;
    case response::kSuccess:
      answer.success = field.value != 0;
      return true;
    case response::kRestore:
      return DecodeRestore(field.bytes, answer);
    case response::kNotify:
      return DecodeNotify(field.bytes, answer);
    case response::kErrno:
      answer.error = ToInt(field.value);
      return true;
    case response::kErrorMessage:
      answer.message = field.bytes;
      return true;
    case response::kVersion:
      return DecodeVersion(field.bytes, answer);
    default:
      return true;
  }
}

}  // namespace

std::string EncodeCall(CriuCall call, const CriuOptions& options) {
  ProtobufWriter to;
  to.Varint(request::kType, static_cast<uint64_t>(call));
  to.Message(request::kOptions, Encode(options));
  return to.text();
}

std::string EncodeCall(CriuCall call) {
  return ProtobufWriter().Varint(request::kType, static_cast<uint64_t>(call)).text();
}

std::string EncodeSignOfLife() {
  return ProtobufWriter()
      .Varint(request::kType, static_cast<uint64_t>(CriuCall::kVersion))
      .Bool(request::kKeepOpen, true)
      .text();
}

std::string EncodeNotified(bool success) {
  return ProtobufWriter()
      .Varint(request::kType, static_cast<uint64_t>(CriuCall::kNotify))
      .Bool(request::kNotifySuccess, success)
      .text();
}

Result<CriuAnswer> DecodeAnswer(std::string_view packet) {
  CriuAnswer answer;
  ProtobufReader reader(packet);
  bool has_type = false;
  while (const std::optional<ProtobufField> field = reader.Next()) {
    has_type |= field->number == response::kType;
    if (!DecodeField(*field, answer)) return Error("criu: damaged answer");
  }
  if (!reader.ok() || !has_type) return Error("criu: damaged answer");
  return answer;
}

}  // namespace modal::snapshot
