// The personality: a worker with the descriptors of a process.

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "agent/base/exit_status.h"
#include "snapshot/criu_session.h"
#include "snapshot/worker.h"

namespace modal::snapshot {
namespace {

void Say(std::string_view message) {
  ::dprintf(STDERR_FILENO, "%s: %.*s\n", kWorkerArgv0, static_cast<int>(message.size()),
            message.data());
}

class SocketChannel : public WorkerChannel {
 public:
  explicit SocketChannel(UniqueFd socket) : socket_(std::move(socket)) {}

  // A supervisor that is gone is noticed by the next Await().
  void Report(const WorkerReport& report) override {
    (void)::send(socket_.get(), &report, sizeof report, MSG_NOSIGNAL);
  }
  Result<WorkerRequest> Await() override {
    WorkerRequest request{};
    ssize_t got = 0;
    do {
      got = ::recv(socket_.get(), &request, sizeof request, 0);
    } while (got < 0 && errno == EINTR);
    if (got == static_cast<ssize_t>(sizeof request)) return request;
    return Error("the supervisor is gone");
  }

 private:
  UniqueFd socket_;
};

Result<UniqueFd> TakeOver(int number) {
  if (::fcntl(number, F_SETFD, FD_CLOEXEC) == 0) return UniqueFd(number);
  return Error("modal-agent starts this itself, with descriptors of its own");
}

Result<void> Work() {
  Result<UniqueFd> channel = TakeOver(kWorkerChannelFd);
  if (!channel) return std::move(channel.error());
  Result<UniqueFd> job_fd = TakeOver(kWorkerJobFd);
  if (!job_fd) return std::move(job_fd.error());
  Result<UniqueFd> criu_fd = TakeOver(kWorkerCriuFd);
  if (!criu_fd) return std::move(criu_fd.error());
  const Result<Job> job = ReadJob(job_fd->get());
  if (!job) return job.error();
  CriuSession criu(*std::move(criu_fd));
  SocketChannel socket(*std::move(channel));
  Worker(criu, socket, "/").Do(*job);
  return {};
}

}  // namespace

int RunWorker(std::span<char* const> argv) {
  const Result<void> done = argv.size() == 1 ? Work() : Error("it takes no arguments");
  if (!done) Say(done.error().message());
  return done ? 0 : kExitAgentError;
}

}  // namespace modal::snapshot
