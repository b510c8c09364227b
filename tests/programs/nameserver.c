// A name server at 127.0.0.1:53, over UDP and TCP, that starts another program when it is ready.
//
//   nameserver RECORD... -- COMMAND...
//
//   NAME=ADDRESS,...      its addresses, IPv4 and IPv6, good for a second
//   NAME=tcp:ADDRESS,...  the same, but only over TCP: over UDP the answer is cut
//   NAME=servfail         the server cannot tell
//   NAME=silent           no answer
//
// Any other name does not exist. It reports "question NAME" for each that comes for IPv4, and ends
// with its command. USR1: falls silent. USR2: answers again.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "report.h"

enum { kHeader = 12, kA = 1, kAaaa = 28, kServFail = 2, kNxDomain = 3, kTruncated = 0x0200 };

static volatile sig_atomic_t silent = 0;
static char** records;
static int record_count;

static void on_signal(int number) { silent = number == SIGUSR1; }

static const char* find(const char* name) {
  size_t length = strlen(name);
  for (int i = 0; i < record_count; ++i) {
    if (strncasecmp(records[i], name, length) == 0 && records[i][length] == '=') {
      return records[i] + length + 1;
    }
  }
  return NULL;
}

static size_t put16(unsigned char* at, unsigned value) {
  at[0] = (unsigned char)(value >> 8);
  at[1] = (unsigned char)value;
  return 2;
}

static size_t put_address(unsigned char* at, int type, const char* text) {
  unsigned char address[16];
  if (inet_pton(type == kA ? AF_INET : AF_INET6, text, address) != 1) return 0;
  unsigned size = type == kA ? 4 : 16;
  size_t length = put16(at, 0xc00c);  // the name of the question
  length += put16(at + length, (unsigned)type);
  length += put16(at + length, 1);
  length += put16(at + length, 0);
  length += put16(at + length, 1);  // a second
  length += put16(at + length, size);
  memcpy(at + length, address, size);
  return length + size;
}

// The answer's length; 0: none.
static size_t answer(const unsigned char* query, size_t length, bool tcp, unsigned char* out) {
  char name[256] = "";
  size_t at = kHeader;
  while (at < length && query[at] != 0 && at + query[at] < length) {
    if (name[0] != 0) strcat(name, ".");
    strncat(name, (const char*)query + at + 1, query[at]);
    at += query[at] + 1u;
  }
  size_t end = at + 5;  // type and class
  if (length < end || end > 300) return 0;
  int type = query[at + 1] << 8 | query[at + 2];
  if (type == kA) report("question %s", name);
  const char* found = find(name);
  if (silent || (found != NULL && strcmp(found, "silent") == 0)) return 0;

  unsigned flags = 0x8180, count = 0;
  size_t out_length = end;
  memcpy(out, query, end);
  if (found == NULL) {
    flags |= kNxDomain;
  } else if (strcmp(found, "servfail") == 0) {
    flags |= kServFail;
  } else if (strncmp(found, "tcp:", 4) == 0 && !tcp) {
    flags |= kTruncated;
  } else {
    char list[256];
    snprintf(list, sizeof list, "%s", strncmp(found, "tcp:", 4) == 0 ? found + 4 : found);
    for (char* one = strtok(list, ","); one != NULL; one = strtok(NULL, ",")) {
      size_t size = put_address(out + out_length, type, one);
      out_length += size;
      count += size > 0;
    }
  }
  put16(out + 2, flags);
  put16(out + 4, 1);
  put16(out + 6, count);
  put16(out + 8, 0);
  put16(out + 10, 0);
  return out_length;
}

static int bound(int type) {
  int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, (struct sockaddr*)&address, sizeof address) != 0) exit(97);
  return fd;
}

static void serve_datagram(int fd) {
  unsigned char query[512], out[2048];
  struct sockaddr_in from;
  socklen_t size = sizeof from;
  ssize_t got = recvfrom(fd, query, sizeof query, 0, (struct sockaddr*)&from, &size);
  if (got < kHeader) return;
  size_t length = answer(query, (size_t)got, false, out);
  if (length > 0) sendto(fd, out, length, 0, (struct sockaddr*)&from, size);
}

// A question, its answer, the next one, as long as they come.
static void serve_connection(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0) return;
  unsigned char query[514], out[2050];
  while (recv(fd, query, 2, MSG_WAITALL) == 2) {
    size_t size = (size_t)query[0] << 8 | query[1];
    if (size > 512 || recv(fd, query, size, MSG_WAITALL) != (ssize_t)size) break;
    size_t length = answer(query, size, true, out + 2);
    put16(out, (unsigned)length);
    if (length > 0 && send(fd, out, length + 2, MSG_NOSIGNAL) < 0) break;
  }
  close(fd);
}

int main(int argc, char** argv) {
  records = argv + 1;
  while (record_count + 1 < argc && strcmp(records[record_count], "--") != 0) ++record_count;
  if (record_count + 2 >= argc) return 98;
  report_open("nameserver");
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  int udp = bound(SOCK_DGRAM);
  int tcp = bound(SOCK_STREAM);
  if (listen(tcp, 16) != 0) return 97;
  report("start pid %d", (int)getpid());

  pid_t child = fork();
  if (child == 0) {
    execv(records[record_count + 1], records + record_count + 1);
    _exit(127);
  }
  // Looks at its child every now and then.
  for (;;) {
    struct pollfd events[] = {{udp, POLLIN, 0}, {tcp, POLLIN, 0}};
    if (poll(events, 2, 100) < 0 && errno != EINTR) return 96;
    if (events[0].revents & POLLIN) serve_datagram(udp);
    if (events[1].revents & POLLIN) serve_connection(tcp);
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
  }
}
