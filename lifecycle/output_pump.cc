#include "lifecycle/output_pump.h"

#include <unistd.h>

#include <cerrno>

namespace modal::lifecycle {
namespace {

// A pipe holds 64 KiB unless somebody made it larger: this many reads empty it.
constexpr int kReadsPerTurn = 4;
constexpr size_t kReadSize = 16384;

}  // namespace

Result<std::unique_ptr<OutputPump>> OutputPump::Start(event::Loop& loop, Log& log, std::string hook,
                                                      UniqueFd pipe, std::function<void()> on_end) {
  std::unique_ptr<OutputPump> pump(
      new OutputPump(log, std::move(hook), std::move(pipe), std::move(on_end)));
  OutputPump* self = pump.get();
  Result<std::unique_ptr<event::Poller>> poller = event::Poller::Watch(
      loop, self->pipe_.get(), [self](event::Poller::Ready) { self->OnReadable(); });
  if (!poller) return std::move(poller.error());
  pump->poller_ = *std::move(poller);
  pump->poller_->WaitFor(true, false);
  return pump;
}

OutputPump::OutputPump(Log& log, std::string hook, UniqueFd pipe, std::function<void()> on_end)
    : log_(log),
      hook_(std::move(hook)),
      pipe_(std::move(pipe)),
      on_end_(std::move(on_end)),
      lines_(kLongestLine, [this](std::string_view line) {
        log_.Info("hook.output", {{"hook", hook_}, {"line", line}});
      }) {}

bool OutputPump::ReadOnce() {
  char buffer[kReadSize];
  const ssize_t size = ::read(pipe_.get(), buffer, sizeof buffer);
  if (size > 0) {
    lines_.Feed({buffer, static_cast<size_t>(size)});
    return true;
  }
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  lines_.Finish();
  ended_ = true;
  return false;
}

void OutputPump::ReadAvailable() {
  for (int i = 0; i < kReadsPerTurn && !ended_ && ReadOnce(); ++i) {
  }
}

void OutputPump::OnReadable() {
  if (!ended_) ReadAvailable();
  if (!ended_) return;
  poller_->WaitFor(false, false);
  const std::function<void()> on_end = std::move(on_end_);
  on_end();  // may destroy this pump
}

}  // namespace modal::lifecycle
