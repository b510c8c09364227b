// The smallest honest HTTP server: one connection at a time, one answer for every request, ended
// in order by SIGTERM. Linked statically it needs nothing from the image it runs in.
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 19\r\nConnection: close\r\n\r\n"
    "hello, static root\n";

int ListenOn(uint16_t port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  address.sin_port = htons(port);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 64) != 0) {
    std::perror("server: listen");
    std::exit(1);
  }
  return listener;
}

// Reads up to the blank line that ends a request's header, within reason.
bool ReadRequest(int connection) {
  std::string request;
  char buffer[4096];
  while (request.find("\r\n\r\n") == std::string::npos) {
    const ssize_t got = recv(connection, buffer, sizeof buffer, 0);
    if (got <= 0 || request.size() > 64 * 1024) return false;
    request.append(buffer, static_cast<size_t>(got));
  }
  return true;
}

void Serve(int connection) {
  // A client that says nothing must not hold the only place for ever.
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (ReadRequest(connection)) send(connection, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
  close(connection);
}

}  // namespace

int main() {
  // As a descriptor the signal is an event like any other: no handler, no race with poll().
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const int terminate = signalfd(-1, &signals, SFD_CLOEXEC);

  const char* port = std::getenv("PORT");
  const int listener = ListenOn(static_cast<uint16_t>(std::atoi(port != nullptr ? port : "8000")));
  while (true) {
    pollfd events[] = {{terminate, POLLIN, 0}, {listener, POLLIN, 0}};
    if (poll(events, 2, -1) < 0) continue;
    if (events[0].revents != 0) break;
    const int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection >= 0) Serve(connection);
  }
  std::puts("server ended in order");
  return 0;
}
