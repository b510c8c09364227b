// A server and signal recorder whose behaviour is set by options and changed by signals.
//
//   listener [OPTION…]
//     --name NAME         how it calls itself in its reports (default: listener)
//     --port N            default: $PORT, else 8000
//     --address ADDRESS   IPv4 or IPv6, default 0.0.0.0
//     --v6only            IPV6_V6ONLY
//     --wait              do not listen yet (see --on SIGNAL=listen)
//     --hang              listen, but accept nothing
//     --on SIGNAL=ACTION  on this signal do:
//        listen           open the listening socket
//        close            close it; connections stay
//        hang, resume     stop accepting, accept again
//        fail, mend       answer 500, answer 200 again
//        release          answer the requests that are held
//        exit:N           end with exit code N
//        none             nothing; it is reported all the same
//     --become-root       take user 0 for good (started as a set-user-ID program)
//     --child NAME        fork a child that only records signals, and ends on TERM, INT and HUP
//
// Default: TERM and INT end it with code 0; every other signal is only reported. It answers every
// request with 200 and "hello\n", but holds those for /hold until "release", or until somebody asks
// for /release.
// Reports: "start uid U gid G pid P", "inherited blocked … ignored …", "fds …", "listening",
// "signal NAME", "request PATH", "exit N".
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "report.h"
#include "signal_names.h"

enum { kMaxConnections = 1000 };

struct connection {
  int fd;
  bool held;
  size_t length;
  char request[2048];
};

static struct connection connections[kMaxConnections];
static int connection_count = 0;
static const char* actions[128];
static const char* address = "0.0.0.0";
static int port = 8000;
static int listening_fd = -1;
static bool v6only = false;
static bool hanging = false;
static bool failing = false;

static void end(int code) {
  report("exit %d", code);
  _exit(code);
}

static void die(const char* what) {
  report("error %s: %s", what, strerror(errno));
  fprintf(stderr, "%s: %s: %s\n", report_name, what, strerror(errno));
  _exit(98);
}

static void report_inherited(const sigset_t* blocked) {
  char line[256] = "inherited blocked";
  for (int number = 1; number <= SIGRTMAX; ++number) {
    char name[16];
    signal_name(number, name);
    if (sigismember(blocked, number) == 1 && strlen(line) < 100) strcat(strcat(line, " "), name);
  }
  strcat(line, " ignored");
  for (int number = 1; number <= SIGRTMAX; ++number) {
    struct sigaction now;
    char name[16];
    signal_name(number, name);
    if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN && strlen(line) < 200) {
      strcat(strcat(line, " "), name);
    }
  }
  report("%s", line);
}

// Before we open anything ourselves.
static void list_descriptors(char line[256]) {
  strcpy(line, "fds");
  for (int fd = 0; fd < 1024 && strlen(line) < 240; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) {
      snprintf(line + strlen(line), 256 - strlen(line), " %d", fd);
    }
  }
}

static void open_listener(void) {
  bool ipv6 = strchr(address, ':') != NULL;
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  int on = 1, only = v6only;
  listening_fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening_fd < 0) die("socket");
  setsockopt(listening_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (ipv6) setsockopt(listening_fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  if (inet_pton(ipv6 ? AF_INET6 : AF_INET, address,
                ipv6 ? (void*)&v6.sin6_addr : (void*)&v4.sin_addr) != 1) {
    die(address);
  }
  if (bind(listening_fd, ipv6 ? (struct sockaddr*)&v6 : (struct sockaddr*)&v4,
           ipv6 ? sizeof v6 : sizeof v4) != 0) {
    die("bind");
  }
  if (listen(listening_fd, 256) != 0) die("listen");
  report("listening");
}

static void close_listener(void) {
  if (listening_fd >= 0) close(listening_fd);
  listening_fd = -1;
  report("closed");
}

static void answer(struct connection* connection) {
  const char* text = failing
                         ? "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 7\r\n\r\nbroken\n"
                         : "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
  connection->held = false;
  if (send(connection->fd, text, strlen(text), MSG_NOSIGNAL) < 0) report("lost a client");
}

static void release(void) {
  for (int i = 0; i < connection_count; ++i) {
    if (connections[i].held) answer(&connections[i]);
  }
}

static void act(const char* action) {
  if (strncmp(action, "exit:", 5) == 0) end(atoi(action + 5));
  if (strcmp(action, "listen") == 0) open_listener();
  if (strcmp(action, "close") == 0) close_listener();
  if (strcmp(action, "hang") == 0) hanging = true;
  if (strcmp(action, "resume") == 0) hanging = false;
  if (strcmp(action, "fail") == 0) failing = true;
  if (strcmp(action, "mend") == 0) failing = false;
  if (strcmp(action, "release") == 0) release();
}

static void on_signal(int signals) {
  struct signalfd_siginfo info;
  if (read(signals, &info, sizeof info) != sizeof info) return;
  char name[16];
  signal_name((int)info.ssi_signo, name);
  const char* action = actions[info.ssi_signo];
  // What the signal does is done before it is told: whoever reads the report can rely on it.
  if (action != NULL && strncmp(action, "exit:", 5) != 0) act(action);
  report("signal %s", name);
  if (action != NULL && strncmp(action, "exit:", 5) == 0) act(action);
}

static void accept_one(void) {
  int fd = accept4(listening_fd, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (connection_count == kMaxConnections) {
    close(fd);
    return;
  }
  connections[connection_count++] = (struct connection){.fd = fd};
}

// True while the connection is to be kept.
static bool on_readable(struct connection* connection) {
  ssize_t got = recv(connection->fd, connection->request + connection->length,
                     sizeof connection->request - connection->length - 1, 0);
  if (got <= 0) return false;
  connection->length += (size_t)got;
  connection->request[connection->length] = '\0';
  if (strstr(connection->request, "\r\n\r\n") == NULL) {
    return connection->length < sizeof connection->request - 1;
  }
  char method[16] = "", path[256] = "";
  if (sscanf(connection->request, "%15s %255s", method, path) != 2) return false;
  bool close_after = strcasestr(connection->request, "connection: close") != NULL;
  connection->length = 0;
  report("request %s", path);
  if (strcmp(path, "/hold") == 0) {
    connection->held = true;
    return true;
  }
  if (strcmp(path, "/release") == 0) release();
  answer(connection);
  return !close_after;
}

static void drop(int index) {
  close(connections[index].fd);
  connections[index] = connections[--connection_count];
}

static void serve(int signals) {
  static struct pollfd events[kMaxConnections + 2];
  for (;;) {
    events[0] = (struct pollfd){.fd = signals, .events = POLLIN};
    events[1] = (struct pollfd){.fd = hanging ? -1 : listening_fd, .events = POLLIN};
    int watched = connection_count;
    for (int i = 0; i < watched; ++i) {
      events[i + 2] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
    }
    if (poll(events, (nfds_t)watched + 2, -1) < 0) die("poll");
    for (int i = watched - 1; i >= 0; --i) {
      if (events[i + 2].revents != 0 && !on_readable(&connections[i])) drop(i);
    }
    if (events[1].revents != 0) accept_one();
    if (events[0].revents != 0) on_signal(signals);
  }
}

static int watch_signals(void) {
  sigset_t all;
  sigfillset(&all);
  sigdelset(&all, SIGCHLD);
  sigprocmask(SIG_SETMASK, &all, NULL);
  int signals = signalfd(-1, &all, SFD_CLOEXEC);
  if (signals < 0) die("signalfd");
  return signals;
}

static void fork_child(const char* name) {
  pid_t child = fork();
  if (child != 0) return;
  report_name = name;
  actions[SIGHUP] = "exit:0";
  report("start uid %d gid %d pid %d", (int)getuid(), (int)getgid(), (int)getpid());
  serve(watch_signals());
}

static void set_action(const char* text) {
  char name[16] = "";
  const char* equals = strchr(text, '=');
  if (equals == NULL || equals - text > 15) die(text);
  memcpy(name, text, (size_t)(equals - text));
  int number = signal_number(name);
  if (number < 0) die(text);
  actions[number] = equals + 1;
}

int main(int argc, char** argv) {
  sigset_t blocked;
  char descriptors[256];
  sigprocmask(SIG_SETMASK, NULL, &blocked);
  list_descriptors(descriptors);
  // Before anything is said: whoever reads the first report may send a signal at once.
  int signals = watch_signals();

  const char* name = "listener";
  const char* child = NULL;
  bool wait = false;
  if (getenv("PORT") != NULL) port = atoi(getenv("PORT"));
  actions[SIGTERM] = actions[SIGINT] = "exit:0";
  for (int i = 1; i < argc; ++i) {
    const char* option = argv[i];
    if (strcmp(option, "--wait") == 0) {
      wait = true;
    } else if (strcmp(option, "--hang") == 0) {
      hanging = true;
    } else if (strcmp(option, "--become-root") == 0) {
      if (setresuid(0, 0, 0) != 0) die("setresuid");
    } else if (strcmp(option, "--v6only") == 0) {
      v6only = true;
    } else if (i + 1 == argc) {
      die(option);
    } else if (strcmp(option, "--name") == 0) {
      name = argv[++i];
    } else if (strcmp(option, "--port") == 0) {
      port = atoi(argv[++i]);
    } else if (strcmp(option, "--address") == 0) {
      address = argv[++i];
    } else if (strcmp(option, "--on") == 0) {
      set_action(argv[++i]);
    } else if (strcmp(option, "--child") == 0) {
      child = argv[++i];
    } else {
      die(option);
    }
  }
  report_open(name);
  report("start uid %d gid %d pid %d", (int)getuid(), (int)getgid(), (int)getpid());
  report_inherited(&blocked);
  report("%s", descriptors);
  if (child != NULL) fork_child(child);
  if (!wait) open_listener();
  serve(signals);
}
