// A server whose every answer can be checked, for tests of what is between it and its clients. It
// listens at the unix socket $SOCKET, else at 127.0.0.1:$PORT (else 8000), and believes its
// requests to be well-formed.
//
//   /small?TEXT                       "small TEXT\n"
//   /down?size=N&seed=S[&chunked=1]   N bytes of pattern.h; chunked with the trailer "X-Size: N"
//   /up?seed=S[&pace=MS]              takes a body, says "bytes=N wrong=N\n": those that are not of
//                                     the pattern. With a pace it waits after each 64 KiB.
//   /events?count=N&seed=S            an event each 20 ms: "data: S I\n\n"
//   /slow?ms=N                        "slow\n" after a while
//   /abort?size=N&seed=S&after=K[&reset=1]  promises N bytes, sends K, and closes
//   /silent                           nothing, ever
//   /page                             the HTML file $PAGE
//   /ws                               a WebSocket that sends back what it gets (RFC 6455)
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "pattern.h"
#include "report.h"
#include "sha1.h"

enum { kMaxConnections = 16384, kPiece = 65536, kRoom = kPiece + 4096 };

enum state { kHead, kUpload, kAnswer, kEvents, kLater, kSilent, kWebSocket };

struct connection {
  int fd;
  enum state state;
  uint32_t watched;
  int index;
  // What came and is not used yet; what is to be sent.
  size_t in_length;
  size_t out_at, out_length;
  bool close_when_sent, reset_when_sent;
  // The body in either direction.
  uint64_t seed, place, size;
  bool chunked, last_chunk_seen;
  uint64_t chunk_left;
  uint64_t wrong;
  // Events, slow answers, pauses: when it goes on, or 0.
  int64_t due, pace;
  bool again;  // as soon as others have had their turn
  uint64_t event, event_count;
  char in[kRoom];
  char out[kRoom];
};

static struct connection* connections[kMaxConnections];
static int connection_count = 0;
static int poller = -1;

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void drop(struct connection* c) {
  if (c->reset_when_sent) {
    struct linger now = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  close(c->fd);
  connections[c->index] = connections[--connection_count];
  connections[c->index]->index = c->index;
  free(c);
}

static bool wants_bytes(const struct connection* c) {
  if (c->due != 0 || c->in_length == sizeof c->in) return false;
  return c->state == kHead || c->state == kUpload ||
         (c->state == kWebSocket && c->out_at == c->out_length);
}

static void watch(struct connection* c) {
  uint32_t wanted =
      EPOLLRDHUP | (wants_bytes(c) ? EPOLLIN : 0) | (c->out_at < c->out_length ? EPOLLOUT : 0);
  if (wanted == c->watched) return;
  struct epoll_event event = {.events = wanted, .data.ptr = c};
  epoll_ctl(poller, c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event);
  c->watched = wanted;
}

static void take_in(struct connection* c, size_t size) {
  memmove(c->in, c->in + size, c->in_length - size);
  c->in_length -= size;
}

static void say(struct connection* c, const char* data, size_t size) {
  memcpy(c->out + c->out_length, data, size);
  c->out_length += size;
}

__attribute__((format(printf, 2, 3))) static void say_text(struct connection* c, const char* format,
                                                           ...) {
  va_list arguments;
  va_start(arguments, format);
  c->out_length += (size_t)vsnprintf(c->out + c->out_length, 1024, format, arguments);
  va_end(arguments);
}

static void answer_text(struct connection* c, const char* text) {
  say_text(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s",
           strlen(text), text);
}

// ---- what is asked for ----

// NAME=NUMBER in the query.
static uint64_t number(const char* query, const char* name) {
  size_t length = strlen(name);
  for (const char* at = query; at != NULL && *at != '\0';) {
    if (strncmp(at, name, length) == 0 && at[length] == '=')
      return strtoull(at + length + 1, NULL, 10);
    at = strchr(at, '&');
    if (at != NULL) ++at;
  }
  return 0;
}

static const char* header(const char* head, const char* name) {
  size_t length = strlen(name);
  for (const char* line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
    line += 2;
    if (strncasecmp(line, name, length) == 0 && line[length] == ':')
      return line + length + 1 + strspn(line + length + 1, " ");
  }
  return NULL;
}

static void start_websocket(struct connection* c, const char* head) {
  const char* key = header(head, "Sec-WebSocket-Key");
  if (key == NULL) {
    answer_text(c, "no key\n");
    return;
  }
  char text[128];
  snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", (int)strcspn(key, "\r "),
           key);
  unsigned char digest[20];
  char accept[29];
  sha1((const unsigned char*)text, strlen(text), digest);
  base64(digest, sizeof digest, accept);
  say_text(c,
           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: %s\r\n\r\n",
           accept);
  c->state = kWebSocket;
}

static void answer_page(struct connection* c) {
  const char* path = getenv("PAGE");
  int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  static char page[16384];
  ssize_t size = file < 0 ? 0 : read(file, page, sizeof page);
  if (file >= 0) close(file);
  if (size < 0) size = 0;
  say_text(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %zd\r\n\r\n", size);
  say(c, page, (size_t)size);
}

static void start_download(struct connection* c, const char* query) {
  c->seed = number(query, "seed");
  c->size = number(query, "size");
  c->place = 0;
  c->chunked = number(query, "chunked") != 0;
  c->state = kAnswer;
  if (c->chunked) {
    say_text(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Size\r\n\r\n");
  } else {
    say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: %" PRIu64 "\r\n\r\n", c->size);
  }
}

// c->in holds a whole head, which is not yet taken out.
static void on_head(struct connection* c, char* head) {
  char path[256] = "";
  char* target = strchr(head, ' ') + 1;
  snprintf(path, sizeof path, "%.*s", (int)strcspn(target, " "), target);
  char* query = strchr(path, '?');
  if (query != NULL) *query++ = '\0';
  if (query == NULL) query = path + strlen(path);

  if (strcmp(path, "/up") == 0) {
    const char* length = header(head, "Content-Length");
    c->seed = number(query, "seed");
    c->pace = (int64_t)number(query, "pace");
    c->place = c->wrong = c->chunk_left = 0;
    c->last_chunk_seen = false;
    c->chunked = length == NULL && header(head, "Transfer-Encoding") != NULL;
    c->size = length == NULL ? 0 : strtoull(length, NULL, 10);
    c->state = kUpload;
    if (header(head, "Expect") != NULL) say_text(c, "HTTP/1.1 100 Continue\r\n\r\n");
  } else if (strcmp(path, "/down") == 0) {
    start_download(c, query);
  } else if (strcmp(path, "/abort") == 0) {
    start_download(c, query);
    c->size = number(query, "after");
    c->close_when_sent = true;
    c->reset_when_sent = number(query, "reset") != 0;
  } else if (strcmp(path, "/events") == 0) {
    say_text(c,
             "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
             "Transfer-Encoding: chunked\r\n\r\n");
    c->seed = number(query, "seed");
    c->event = 0;
    c->event_count = number(query, "count");
    c->due = now_ms();
    c->state = kEvents;
  } else if (strcmp(path, "/slow") == 0) {
    c->due = now_ms() + (int64_t)number(query, "ms");
    c->state = kLater;
  } else if (strcmp(path, "/silent") == 0) {
    c->state = kSilent;
  } else if (strcmp(path, "/page") == 0) {
    answer_page(c);
  } else if (strcmp(path, "/ws") == 0) {
    start_websocket(c, head);
  } else {
    char text[300];
    snprintf(text, sizeof text, "small %s\n", query);
    answer_text(c, text);
  }
}

// ---- bodies ----

static void compare(struct connection* c, const char* data, size_t size) {
  const unsigned char* expected = pattern_at(c->seed, c->place);
  if (memcmp(data, expected, size) != 0) {
    for (size_t i = 0; i < size; ++i) c->wrong += (unsigned char)data[i] != expected[i];
  }
  c->place += size;
}

// Uses what has come of an upload. True at its end.
static bool take_upload(struct connection* c) {
  size_t used = 0;
  bool ended = false;
  if (!c->chunked) {
    uint64_t left = c->size - c->place;
    used = c->in_length < left ? c->in_length : (size_t)left;
    compare(c, c->in, used);
    ended = c->place == c->size;
  }
  while (c->chunked && !ended) {
    if (c->chunk_left > 2) {
      size_t size = c->in_length - used;
      if (size > c->chunk_left - 2) size = (size_t)c->chunk_left - 2;
      if (size == 0) break;
      compare(c, c->in + used, size);
      used += size;
      c->chunk_left -= size;
    } else if (c->chunk_left > 0) {  // the line's end after the data
      if (c->in_length - used < c->chunk_left) break;
      used += c->chunk_left;
      c->chunk_left = 0;
    } else {
      char* line = c->in + used;
      char* end = memmem(line, c->in_length - used, "\r\n", 2);
      if (end == NULL) break;
      used += (size_t)(end - line) + 2;
      if (c->last_chunk_seen) {  // a trailer, or the empty line
        ended = end == line;
      } else {
        uint64_t size = strtoull(line, NULL, 16);
        c->last_chunk_seen = size == 0;
        c->chunk_left = size == 0 ? 0 : size + 2;
      }
    }
  }
  take_in(c, used);
  return ended;
}

// The next piece of an answer's body, or its end.
static void put_piece(struct connection* c) {
  uint64_t left = c->size - c->place;
  size_t size = left < kPiece ? (size_t)left : kPiece;
  if (size > 0) {
    if (c->chunked) say_text(c, "%zx\r\n", size);
    say(c, (const char*)pattern_at(c->seed, c->place), size);
    if (c->chunked) say(c, "\r\n", 2);
    c->place += size;
    return;
  }
  if (c->chunked && !c->close_when_sent) say_text(c, "0\r\nX-Size: %" PRIu64 "\r\n\r\n", c->size);
  c->state = kHead;
}

static void put_event(struct connection* c) {
  if (c->event == c->event_count) {
    say(c, "0\r\n\r\n", 5);
    c->state = kHead;
    c->due = 0;
    return;
  }
  char text[64];
  int length = snprintf(text, sizeof text, "data: %" PRIu64 " %" PRIu64 "\n\n", c->seed, c->event);
  say_text(c, "%x\r\n%s\r\n", (unsigned)length, text);
  ++c->event;
  c->due = now_ms() + 20;
}

// A whole frame of at most kPiece bytes goes back. False if there is none yet.
static bool echo_frame(struct connection* c) {
  unsigned char* in = (unsigned char*)c->in;
  if (c->in_length < 2) return false;
  size_t length = in[1] & 127, head = 2;
  if (length == 126) {
    if (c->in_length < 4) return false;
    length = (size_t)in[2] << 8 | in[3];
    head = 4;
  } else if (length == 127) {
    if (c->in_length < 10) return false;
    length = (size_t)in[7] << 16 | (size_t)in[8] << 8 | in[9];
    head = 10;
  }
  if (c->in_length < head + 4 + length) return false;
  unsigned char* mask = in + head;
  unsigned char* data = mask + 4;
  for (size_t i = 0; i < length; ++i) data[i] ^= mask[i % 4];
  int opcode = in[0] & 15;
  unsigned char first = opcode == 9 ? 0x8a : in[0];  // a ping is answered by a pong
  if (opcode != 10) {
    say(c, (char*)&first, 1);
    unsigned char second = in[1] & 127;
    say(c, (char*)&second, 1);
    say(c, (char*)in + 2, head - 2);
    say(c, (char*)data, length);
  }
  if (opcode == 8) c->close_when_sent = true;
  take_in(c, head + 4 + length);
  return true;
}

// ---- the loop ----

// Does whatever can be done without anything else happening. False: there is something to send.
static bool advance(struct connection* c) {
  switch (c->state) {
    case kHead: {
      char* end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
      if (end == NULL) return true;
      size_t size = (size_t)(end - c->in) + 4;
      static char head[kRoom + 1];
      memcpy(head, c->in, size);
      head[size] = '\0';
      take_in(c, size);
      on_head(c, head);
      return false;
    }
    case kUpload: {
      size_t before = c->in_length;
      if (!take_upload(c)) {
        if (c->in_length < before && c->pace > 0) c->due = now_ms() + c->pace;
        return true;
      }
      char text[128];
      snprintf(text, sizeof text, "bytes=%" PRIu64 " wrong=%" PRIu64 "\n", c->place, c->wrong);
      answer_text(c, text);
      c->state = kHead;
      return false;
    }
    case kAnswer:
      put_piece(c);
      return false;
    case kEvents:
      if (c->due > now_ms()) return true;
      put_event(c);
      return false;
    case kLater:
      if (c->due > now_ms()) return true;
      c->due = 0;
      c->state = kHead;
      answer_text(c, "slow\n");
      return false;
    case kWebSocket:
      return !echo_frame(c);
    case kSilent:
      return true;
  }
  return true;
}

static void work(struct connection* c) {
  c->again = false;
  for (int turns = 0; turns < 16; ++turns) {
    while (c->out_at < c->out_length) {
      ssize_t sent = send(c->fd, c->out + c->out_at, c->out_length - c->out_at, MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) {
        watch(c);
        return;
      }
      if (sent < 0) {
        drop(c);
        return;
      }
      c->out_at += (size_t)sent;
    }
    c->out_at = c->out_length = 0;
    if (c->close_when_sent && (c->state == kHead || c->state == kWebSocket)) {
      drop(c);
      return;
    }
    if (c->state == kUpload && c->due <= now_ms()) c->due = 0;
    if (c->due > now_ms() || (advance(c) && c->out_length == 0)) {
      watch(c);
      return;
    }
  }
  c->again = true;
  watch(c);
}

static void on_event(struct connection* c, uint32_t events) {
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 ||
      ((events & EPOLLRDHUP) != 0 && (events & EPOLLIN) == 0)) {
    drop(c);
    return;
  }
  if ((events & EPOLLIN) != 0) {
    ssize_t got = recv(c->fd, c->in + c->in_length, sizeof c->in - c->in_length, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
      drop(c);
      return;
    }
    if (got > 0) c->in_length += (size_t)got;
  }
  work(c);
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct connection* c =
        connection_count < kMaxConnections ? calloc(1, sizeof(struct connection)) : NULL;
    if (c == NULL) {
      close(fd);
      continue;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = fd;
    c->index = connection_count;
    connections[connection_count++] = c;
    watch(c);
  }
}

static int next_timeout(void) {
  int64_t now = now_ms(), least = -1;
  for (int i = 0; i < connection_count; ++i) {
    if (connections[i]->again) return 0;
    if (connections[i]->due == 0) continue;
    int64_t left = connections[i]->due > now ? connections[i]->due - now : 0;
    if (least < 0 || left < least) least = left;
  }
  return (int)least;
}

static void on_time(void) {
  int64_t now = now_ms();
  for (int i = connection_count - 1; i >= 0; --i) {
    struct connection* c = connections[i];
    if (c->again || (c->due != 0 && c->due <= now)) work(c);
  }
}

static void end(int signal_number) {
  (void)signal_number;
  _exit(0);
}

static int bind_path(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  umask(0);  // for everybody
  return bind(listener, (struct sockaddr*)&address, sizeof address) == 0 ? listener : -1;
}

static int bind_port(const char* port) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)(port != NULL ? atoi(port) : 8000)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  return bind(listener, (struct sockaddr*)&address, sizeof address) == 0 ? listener : -1;
}

int main(void) {
  report_open("origin");
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, end);
  pattern_make();
  const char* path = getenv("SOCKET");
  int listener = path != NULL ? bind_path(path) : bind_port(getenv("PORT"));
  if (listener < 0 || listen(listener, 4096) != 0) {
    perror("origin: listen");
    return 98;
  }
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  report("start pid %d", (int)getpid());
  for (;;) {
    struct epoll_event events[64];
    int count = epoll_wait(poller, events, 64, next_timeout());
    // An event drops no connection but its own: the others' pointers stay good.
    for (int i = 0; i < count; ++i) {
      if (events[i].data.ptr != NULL) on_event(events[i].data.ptr, events[i].events);
    }
    on_time();
    accept_all(listener);
  }
}
