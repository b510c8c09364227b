#include "lifecycle/keeper_protocol.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace modal::lifecycle {
namespace {

struct Channel {
  Channel() {
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    ours = UniqueFd(pair[0]);
    theirs = UniqueFd(pair[1]);
  }
  UniqueFd ours;
  UniqueFd theirs;
};

bool IsSameFile(int one, int other) {
  struct stat a {};
  struct stat b {};
  return ::fstat(one, &a) == 0 && ::fstat(other, &b) == 0 && a.st_ino == b.st_ino &&
         a.st_dev == b.st_dev;
}

}  // namespace

TEST_CASE("the words of a launch come out as they went in") {
  const LaunchWords words{{"sh", "-c", "echo 'a\nb'"}, {"A=1", "EMPTY=", "BYTES=\xff"}, "/srv"};
  const Result<UniqueFd> sealed = SealLaunch(words);
  REQUIRE(sealed);
  const Result<LaunchWords> read = ReadLaunch(sealed->get());
  REQUIRE(read);
  CHECK(read->argv == words.argv);
  CHECK(read->environment == words.environment);
  CHECK(read->workdir == words.workdir);
}

TEST_CASE("what holds no launch is an error") {
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK_FALSE(ReadLaunch(null.get()));
  CHECK_FALSE(ReadLaunch(-1));
}

TEST_CASE("a request arrives with its descriptors, close-on-exec") {
  const Channel channel;
  const UniqueFd one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd other(::open("/", O_PATH | O_CLOEXEC));
  KeeperRequest request{};
  request.kind = KeeperRequest::Kind::kLaunch;
  request.id = 7;
  request.fd_count = 1;
  request.theirs[0] = 2;
  REQUIRE(SendRequest(channel.ours.get(), request, {one.get(), other.get()}));
  const std::optional<ReceivedRequest> received = ReceiveRequest(channel.theirs.get());
  REQUIRE(received);
  CHECK(received->request.id == 7);
  CHECK(received->request.theirs[0] == 2);
  REQUIRE(received->fds.size() == 2);
  CHECK(IsSameFile(received->fds[0].get(), one.get()));
  CHECK(IsSameFile(received->fds[1].get(), other.get()));
  CHECK((::fcntl(received->fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("the end of the channel and a message of another size are no requests") {
  Channel channel;
  REQUIRE(::send(channel.ours.get(), "short", 5, 0) == 5);
  CHECK_FALSE(ReceiveRequest(channel.theirs.get()));
  CHECK(errno == EBADMSG);
  channel.ours.Reset();
  CHECK_FALSE(ReceiveRequest(channel.theirs.get()));
  CHECK(errno == 0);
}

}  // namespace modal::lifecycle
