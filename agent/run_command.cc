// RunCommand(): every mode but serving.
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"
#include "agent/check_command.h"
#include "agent/cli.h"
#include "agent/control_answers.h"
#include "agent/control_client.h"
#include "agent/process/terminal.h"
#include "agent/readable.h"
#include "agent/snapshot_command.h"
#include "agent/text_columns.h"
#include "agent/token_command.h"

namespace modal {
namespace {

constexpr int kFailed = 1;

bool Write(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// Prints and returns `exit_code`; a full disk or a closed stdout is a failure too.
int Print(std::string_view text, int exit_code = 0) {
  return Write(STDOUT_FILENO, text) ? exit_code : kFailed;
}

int Complain(const Error& error) {
  Write(STDERR_FILENO, Concat("modal-agent: ", error.message(), "\n"));
  return kFailed;
}

Result<std::string> Ask(const Invocation& invocation, std::string_view command,
                        Milliseconds limit = kControlTimeout) {
  return AskAgent(ControlPathsToTry(invocation.options.control), command, limit);
}

int RunHealth(const Invocation& invocation) {
  const Result<std::string> json =
      Ask(invocation, kControlHealth, invocation.options.health_timeout);
  if (!json) return Complain(json.error());
  const Result<HealthAnswer> health = ReadHealthAnswer(*json);
  if (!health) return Complain(health.error());
  // The exit code is the answer; it does not depend on whether anybody reads the text.
  Write(STDOUT_FILENO, (invocation.json ? *json : health->line) + "\n");
  return health->healthy ? 0 : kFailed;
}

int RunStatus(const Invocation& invocation) {
  const Result<std::string> json =
      Ask(invocation, kControlStatus, invocation.options.health_timeout);
  if (!json) return Complain(json.error());
  if (invocation.json) return Print(*json + "\n");
  if (invocation.timeline) {
    const size_t width = process::TerminalWidth(STDOUT_FILENO).value_or(kTerminalWidth);
    const Result<std::string> picture = TimelineText(*json, width);
    return picture ? Print(*picture) : Complain(picture.error());
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const Result<std::string> table =
      StatusTable(*json, std::chrono::duration_cast<Milliseconds>(now).count());
  return table ? Print(*table) : Complain(table.error());
}

// `drain` and `reload`.
int RunRequest(const Invocation& invocation, std::string_view command,
               Result<std::string> (*read)(std::string_view)) {
  const Result<std::string> json = Ask(invocation, command);
  if (!json) return Complain(json.error());
  const Result<std::string> done = read(*json);
  if (invocation.json) return Print(*json + "\n", done ? 0 : kFailed);
  return done ? Print(*done) : Complain(done.error());
}

int RunCheck(const Invocation& invocation) {
  const std::vector<Finding> findings = Judge(LookAround(
      {invocation.options.control, invocation.options.snapshots.criu, "/proc/self/exe"}));
  return Print(invocation.json ? CheckJson(findings) : CheckTable(findings),
               CanRun(findings) ? 0 : kFailed);
}

int RunToken(const Invocation& invocation) {
  const Result<NewToken> token = MakeToken(invocation.environment);
  if (!token) return Complain(token.error());
  return Print(invocation.json ? TokenJson(*token) : TokenText(*token));
}

int RunSnapshot(const Invocation& invocation) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const SnapshotOutcome outcome = RunSnapshotCommand(
      invocation.snapshot, invocation.json, std::chrono::duration_cast<Milliseconds>(now).count());
  for (const std::string& complaint : outcome.complaints) {
    // It may name what somebody else has put into the folder.
    Write(STDERR_FILENO, Concat("modal-agent: ", Printable(complaint), "\n"));
  }
  const bool printed = Write(STDOUT_FILENO, outcome.text);
  return printed && outcome.complaints.empty() ? 0 : kExitSnapshotFailed;
}

int RunConfig(const Invocation& invocation) {
  for (const std::string& warning : invocation.warnings) {
    Write(STDERR_FILENO, Concat("modal-agent: warning: ", warning, "\n"));
  }
  return Print(invocation.text);
}

}  // namespace

int RunCommand(const Invocation& invocation) {
  switch (invocation.mode) {
    case Mode::kHealth:
      return RunHealth(invocation);
    case Mode::kStatus:
      return RunStatus(invocation);
    case Mode::kDrain:
      return RunRequest(invocation, kControlDrain, ReadDrainAnswer);
    case Mode::kReload:
      return RunRequest(invocation, kControlReload, ReadReloadAnswer);
    case Mode::kCheck:
      return RunCheck(invocation);
    case Mode::kConfig:
      return RunConfig(invocation);
    case Mode::kToken:
      return RunToken(invocation);
    case Mode::kSnapshot:
      return RunSnapshot(invocation);
    case Mode::kVersion:
    case Mode::kHelp:
      return Print(invocation.text);
    case Mode::kServe:
      break;
  }
  MODAL_CHECK(false);  // main() serves
  return kFailed;
}

}  // namespace modal
