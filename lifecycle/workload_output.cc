#include "lifecycle/workload_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>

#include "agent/base/descriptor_sink.h"
#include "agent/event/poller.h"

namespace modal::lifecycle {
namespace {

constexpr size_t kPiece = size_t{32} * 1024;
// Between two tries to write to what takes nothing at the moment.
constexpr Milliseconds kPause{5};

bool IsNull(const struct stat& info) {
  return S_ISCHR(info.st_mode) && ::major(info.st_rdev) == 1 && ::minor(info.st_rdev) == 3;
}

// A pipe with a name is found by it, and in another container there is none. One that is another
// user's (whoever has started us was root, and we are not) CRIU cannot open.
bool IsNamelessPipe(int fd, const struct stat& info) {
  if (!S_ISFIFO(info.st_mode)) return false;
  char link[16] = {};
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) return false;
  return ::readlink(path.c_str(), link, sizeof link - 1) > 0 &&
         std::string_view(link).starts_with("pipe:");
}

}  // namespace

// One pipe whose contents go on to a descriptor of ours.
class WorkloadOutput::Relay {
 public:
  Relay(Clock& clock, UniqueFd pipe, int to)
      : clock_(clock), pipe_(std::move(pipe)), sink_(to), piece_(kPiece, '\0') {}

  Result<void> Start(event::Loop& loop) {
    Result<std::unique_ptr<event::Poller>> poller =
        event::Poller::Watch(loop, pipe_.get(), [this](event::Poller::Ready) { Pump(); });
    if (!poller) return std::move(poller.error());
    poller_ = *std::move(poller);
    poller_->WaitFor(true, false);
    return {};
  }

  // True: there is more, but the other end takes nothing at the moment.
  bool Pump() {
    while (!Waits()) {
      const ssize_t got = ::read(pipe_.get(), piece_.data(), piece_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;  // empty; it never ends, since we hold a writing end ourselves
      sink_.Write(std::string_view(piece_).substr(0, static_cast<size_t>(got)));
    }
    return true;
  }
  void Wait(int milliseconds) { sink_.FlushFor(milliseconds); }

 private:
  // Nothing more is read while something is still to be written.
  bool Waits() {
    sink_.Flush();
    if (!sink_.pending()) {
      if (poller_) poller_->WaitFor(true, false);
      return false;
    }
    if (poller_) poller_->WaitFor(false, false);
    again_ = clock_.After(kPause, [this] { Pump(); });
    return true;
  }

  Clock& clock_;
  UniqueFd pipe_;
  DescriptorSink sink_;
  std::string piece_;
  std::unique_ptr<event::Poller> poller_;
  std::unique_ptr<Timer> again_;
};

WorkloadOutput::WorkloadOutput() = default;
WorkloadOutput::~WorkloadOutput() = default;

Result<std::unique_ptr<WorkloadOutput>> WorkloadOutput::Make(event::Loop& loop, Clock& clock) {
  std::unique_ptr<WorkloadOutput> output(new WorkloadOutput());
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) return Error::FromErrno("/dev/null", errno);
  output->standard_[0] = null.get();
  output->owned_.push_back(std::move(null));
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    Result<int> passed = output->PassOn(loop, clock, fd);
    if (!passed) return std::move(passed.error()).While("standard output");
    output->standard_[static_cast<size_t>(fd)] = *passed;
  }
  return output;
}

Result<int> WorkloadOutput::PassOn(event::Loop& loop, Clock& clock, int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::FromErrno("stat", errno);
  if (IsNull(info) || IsNamelessPipe(fd, info)) return fd;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::FromErrno("pipe", errno);
  UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  if (::fcntl(from.get(), F_SETFL, O_NONBLOCK) != 0) return Error::FromErrno("pipe", errno);
  auto relay = std::make_unique<Relay>(clock, std::move(from), fd);
  if (Result<void> started = relay->Start(loop); !started) return std::move(started.error());
  relays_.push_back(std::move(relay));
  owned_.push_back(std::move(to));
  return owned_.back().get();
}

void WorkloadOutput::FlushFor(int milliseconds) {
  using std::chrono::steady_clock;
  const auto end = steady_clock::now() + Milliseconds(milliseconds);
  for (const auto& relay : relays_) {
    while (relay->Pump()) {
      const auto left = std::chrono::ceil<Milliseconds>(end - steady_clock::now());
      if (left.count() <= 0) break;
      relay->Wait(static_cast<int>(left.count()));
    }
  }
}

}  // namespace modal::lifecycle
