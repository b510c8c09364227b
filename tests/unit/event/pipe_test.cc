#include "agent/event/pipe.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>

#include "agent/event/loop.h"
#include "agent/event/stream.h"

using namespace modal;
using event::IoResult;
using Kind = event::IoResult::Kind;

namespace {

struct Sockets {
  Sockets() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    near = UniqueFd(ends[0]);
    far = UniqueFd(ends[1]);
  }
  void Send(const std::string& text) {
    REQUIRE(::send(far.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }
  std::string Receive() {
    std::array<char, 4096> buffer;
    const ssize_t size = ::recv(far.get(), buffer.data(), buffer.size(), 0);
    return size > 0 ? std::string(buffer.data(), static_cast<size_t>(size)) : "";
  }
  UniqueFd near, far;
};

}  // namespace

TEST_CASE("bytes go from one socket to another through a pipe") {
  Sockets from, to;
  const auto pipe = *event::Pipe::Open();
  CHECK(pipe->empty());
  CHECK(pipe->ReadFrom(from.near.get(), 100).kind == Kind::kAgain);
  from.Send("hello world");
  IoResult result = pipe->ReadFrom(from.near.get(), 5);
  CHECK(result.kind == Kind::kDone);
  CHECK(result.size == 5);
  CHECK(pipe->size() == 5);
  result = pipe->ReadFrom(from.near.get(), 100);
  CHECK(result.size == 6);
  CHECK(pipe->size() == 11);
  result = pipe->WriteTo(to.near.get());
  CHECK(result.kind == Kind::kDone);
  CHECK(pipe->empty());
  CHECK(to.Receive() == "hello world");
}

TEST_CASE("the end and errors are told, and the pipe keeps what it has") {
  Sockets from, to;
  const auto pipe = *event::Pipe::Open();
  from.Send("hello");
  CHECK(pipe->ReadFrom(from.near.get(), 100).size == 5);
  from.far.Reset();
  CHECK(pipe->ReadFrom(from.near.get(), 100).kind == Kind::kEnd);
  to.far.Reset();
  ::signal(SIGPIPE, SIG_IGN);
  const IoResult result = pipe->WriteTo(to.near.get());
  CHECK(result.kind == Kind::kError);
  CHECK(result.error == EPIPE);
  CHECK(pipe->size() == 5);
}

TEST_CASE("a socket that is full takes the rest later") {
  Sockets from, to;
  const auto pipe = *event::Pipe::Open();
  const std::string piece(4096, 'x');
  size_t in = 0;
  size_t out = 0;
  // Until neither takes anything more.
  while (pipe->WriteTo(to.near.get()).kind != Kind::kAgain || pipe->empty()) {
    from.Send(piece);
    in += pipe->ReadFrom(from.near.get(), piece.size()).size;
    REQUIRE(in < 64'000'000);
  }
  CHECK_FALSE(pipe->empty());
  while (out < in) {
    const std::string got = to.Receive();
    REQUIRE((!got.empty() || !pipe->empty()));
    out += got.size();
    if (!pipe->empty()) (void)pipe->WriteTo(to.near.get());
  }
  CHECK(out == in);
  CHECK(pipe->empty());
}

TEST_CASE("a descriptor that cannot be spliced says EINVAL") {
  const auto pipe = *event::Pipe::Open();
  const UniqueFd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const IoResult result = pipe->ReadFrom(folder.get(), 100);
  CHECK(result.kind == Kind::kError);
  CHECK(result.error == EINVAL);
}

TEST_CASE("streams of sockets read into pipes and write from them") {
  event::Loop loop;
  Sockets from, to;
  const auto in = *event::SocketStream::Open(loop, std::move(from.near));
  const auto out = *event::SocketStream::Open(loop, std::move(to.near));
  const auto pipe = *event::Pipe::Open();
  from.Send("hello");
  CHECK(in->ReadInto(*pipe, 100).size == 5);
  CHECK(out->WriteFrom(*pipe).size == 5);
  CHECK(to.Receive() == "hello");
}
