// A static server with threads: what it keeps is a token, a counter, and a table that it answers
// from.
//
//   server        serves port 8000 until SIGTERM
//   server ask    prints what the one of this container answers; its root holds nothing else that
//   could ask
#include <netinet/in.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>

namespace {

constexpr int kThreads = 4;

sockaddr_in Address(in_addr_t host) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host);
  address.sin_port = htons(8000);
  return address;
}

int Fail(const char* what) {
  std::perror(what);
  return 1;
}

// Until the other end is through, or a request is whole.
std::string Read(int connection, bool is_request) {
  std::string all;
  char buffer[4096];
  while (!is_request || all.find("\r\n\r\n") == std::string::npos) {
    const ssize_t got = recv(connection, buffer, sizeof buffer, 0);
    if (got <= 0) break;
    all.append(buffer, static_cast<size_t>(got));
  }
  return all;
}

struct State {
  uint64_t token = 0;
  std::atomic<int> count = 0;
  std::map<int, int> sevenfold;
};

void Serve(int listener, State& state) {
  while (true) {
    const int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    if (!Read(connection, true).empty()) {
      char body[128];
      char answer[256];
      const int size = std::snprintf(body, sizeof body,
                                     R"({"token": "%llx", "count": %d, "pid": %d, "answer": %d})",
                                     static_cast<unsigned long long>(state.token), ++state.count,
                                     getpid(), state.sevenfold.at(6));
      const int all = std::snprintf(answer, sizeof answer,
                                    "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n"
                                    "Connection: close\r\n\r\n%s",
                                    size, body);
      send(connection, answer, static_cast<size_t>(all), MSG_NOSIGNAL);
    }
    close(connection);
  }
}

int Ask() {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Address(INADDR_LOOPBACK);
  if (connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Fail("connect");
  }
  constexpr std::string_view kRequest = "GET / HTTP/1.0\r\n\r\n";
  send(connection, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  const std::string answer = Read(connection, false);
  std::puts(answer.substr(answer.find("\r\n\r\n") + 4).c_str());
  return 0;
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) return Ask();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);

  State state;
  if (getrandom(&state.token, sizeof state.token, 0) != sizeof state.token)
    return Fail("getrandom");
  for (int i = 0; i < 100; ++i) state.sevenfold[i] = 7 * i;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address = Address(INADDR_ANY);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Fail("bind");
  }
  if (listen(listener, 64) != 0) return Fail("listen");
  for (int i = 0; i < kThreads; ++i) std::thread(Serve, listener, std::ref(state)).detach();
  int signal = 0;
  sigwait(&signals, &signal);
  std::puts("ended in order");
  std::fflush(stdout);
  // The threads go with the process; nothing is to be torn down below them.
  _exit(0);
}
