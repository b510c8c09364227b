#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/support/agent_process.h"

namespace modal::test {
namespace {

int DeadlineMs() {
  return static_cast<int>(std::chrono::milliseconds(Settings().deadline).count());
}

// What there is to read, within the deadline; empty at the end of the stream.
std::string ReadSome(int fd) {
  pollfd event{fd, POLLIN, 0};
  if (::poll(&event, 1, DeadlineMs()) != 1) return {};
  char buffer[16384];
  const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
  return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : std::string();
}

size_t ContentLength(const std::string& head) {
  for (const char* name : {"\r\nContent-Length:", "\r\ncontent-length:"}) {
    const size_t at = head.find(name);
    if (at != std::string::npos) return std::strtoul(head.c_str() + at + 17, nullptr, 10);
  }
  return 0;
}

}  // namespace

bool Client::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool Client::Request(const std::string& path) {
  return Send("GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n");
}

HttpAnswer Client::ReadAnswer() {
  HttpAnswer answer;
  std::string bytes;
  while (true) {
    const size_t end = bytes.find("\r\n\r\n");
    if (end != std::string::npos) {
      answer.head = bytes.substr(0, end);
      answer.body = bytes.substr(end + 4);
      if (answer.body.size() >= ContentLength(answer.head)) break;
    }
    const std::string more = ReadSome(socket_.get());
    if (more.empty()) return {};
    bytes += more;
  }
  answer.status = std::atoi(answer.head.c_str() + sizeof "HTTP/1.1");
  return answer;
}

bool Client::WaitForClose() {
  while (true) {
    pollfd event{socket_.get(), POLLIN, 0};
    if (::poll(&event, 1, DeadlineMs()) != 1) return false;
    char buffer[16384];
    if (::recv(socket_.get(), buffer, sizeof buffer, 0) <= 0) return true;
  }
}

}  // namespace modal::test
