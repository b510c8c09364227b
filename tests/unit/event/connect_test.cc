#include "agent/event/connect.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "agent/event/listener.h"

using namespace modal;
using event::Destination;

namespace {

int OptionOf(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(fd, level, name, &value, &size);
  return value;
}

void WaitUntilKnown(int fd) {
  pollfd events{fd, POLLOUT, 0};
  REQUIRE(::poll(&events, 1, 30'000) == 1);
}

struct Folder {
  Folder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
  ~Folder() {
    ::unlink((path + "/socket").c_str());
    ::rmdir(path.c_str());
  }
  std::string path = "/tmp/connect_test.XXXXXX";
};

}  // namespace

TEST_CASE("a TCP connection is started, and its outcome known when it is writable") {
  UniqueFd listener = *event::ListenOn(*SocketAddress::Parse("127.0.0.1", 0));
  const SocketAddress address = *event::BoundAddress(listener.get());
  SUBCASE("somebody listens") {
    const UniqueFd fd = *event::StartConnect(address);
    WaitUntilKnown(fd.get());
    CHECK(event::ConnectOutcome(fd.get()) == 0);
    CHECK((::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(OptionOf(fd.get(), IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(OptionOf(fd.get(), SOL_SOCKET, SO_KEEPALIVE) == 1);
  }
  SUBCASE("nobody listens") {
    listener.Reset();
    const Result<UniqueFd> fd = event::StartConnect(address);
    if (fd) {
      WaitUntilKnown(fd->get());
      CHECK(event::ConnectOutcome(fd->get()) == ECONNREFUSED);
    } else {
      CHECK(fd.error().message().find("connect: Connection refused") != std::string::npos);
    }
  }
}

TEST_CASE("a unix socket is connected to at once, or not at all") {
  Folder folder;
  const std::string path = folder.path + "/socket";
  const Destination destination = *Destination::OfUnixSocket(path);
  CHECK_FALSE(destination.is_tcp());
  const Result<UniqueFd> none = event::StartConnect(destination);
  REQUIRE_FALSE(none);
  CHECK(none.error().message() == "connect: No such file or directory");
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), destination.get(), destination.size()) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  bool at_once = false;
  const Result<UniqueFd> fd = event::StartConnect(destination, &at_once);
  REQUIRE(fd);
  CHECK(at_once);
  CHECK(event::ConnectOutcome(fd->get()) == 0);
}

TEST_CASE("the path of a unix socket has its limits") {
  CHECK_FALSE(Destination::OfUnixSocket(""));
  const size_t most = sizeof(sockaddr_un::sun_path) - 1;
  CHECK(Destination::OfUnixSocket(std::string(most, 'a')));
  CHECK_FALSE(Destination::OfUnixSocket(std::string(most + 1, 'a')));
}

TEST_CASE("destinations are compared by what they are") {
  const Destination a(*SocketAddress::Parse("127.0.0.1", 80));
  CHECK(a == Destination(*SocketAddress::Parse("127.0.0.1", 80)));
  CHECK_FALSE(a == Destination(*SocketAddress::Parse("127.0.0.1", 81)));
  CHECK_FALSE(a == Destination(*SocketAddress::Parse("::1", 80)));
  CHECK(a.is_tcp());
  CHECK(*Destination::OfUnixSocket("/a") == *Destination::OfUnixSocket("/a"));
  CHECK_FALSE(*Destination::OfUnixSocket("/a") == *Destination::OfUnixSocket("/b"));
  CHECK_FALSE(*Destination::OfUnixSocket("/a") == *Destination::OfUnixSocket("/aa"));
}
