// Speaks as much of `criu swrk` as a test needs. What it does stands in /mnt/criu-does, one word
// for a dump and one for a restore:
//   refuse     says that it has failed, and why
//   garbage    answers what is no answer
//   die        ends when it is asked
//   hang       says nothing, and lives on
//   break      dump: ends once the tree stands still
//   stall      dump: says so ("stalls") once the tree stands still, and does nothing more
//   orphan     dump: as break, and leaves a stopped child that holds its socket
//   wreck      dump: as break, and the tree does not survive it
//   ok         dump: writes a small image, and ends the tree if it is to end.
//              restore: starts /mnt/bin/listener in a session of its own, as a child of whoever has
//              started us
//   dead       restore: the same, but what it starts ends with code 9 at once
//   mute       restore: the same, but what it starts never listens
// Without the file it ends at once. Reports: "asked dump", "asked restore", "made" (a restored
// process that does not run yet).
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "report.h"

enum { kDump = 1, kRestore = 2, kNotify = 6, kVersion = 10 };

static char packet[65536];

static uint64_t varint(const unsigned char** at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    unsigned char byte = *(*at)++;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return value;
  }
}

// The bytes of a field, or a number as its value; -1 if there is none.
static int64_t field(const char* message, size_t size, uint32_t number, const char** bytes) {
  const unsigned char* at = (const unsigned char*)message;
  const unsigned char* end = at + size;
  while (at < end) {
    uint64_t tag = varint(&at);
    uint64_t value = varint(&at);
    if ((tag & 7) == 2) {
      if (bytes) *bytes = (const char*)at;
      at += value;
    }
    if (tag >> 3 == number) return (int64_t)value;
  }
  return -1;
}

static char* put(char* to, uint32_t number, uint64_t value) {
  *to++ = (char)(number << 3);
  while (value > 127) {
    *to++ = (char)(value | 128);
    value >>= 7;
  }
  *to++ = (char)value;
  return to;
}

static char* put_text(char* to, uint32_t number, const char* text, size_t size) {
  *to++ = (char)(number << 3 | 2);
  *to++ = (char)size;
  memcpy(to, text, size);
  return to + size;
}

static void answer(int fd, int call, bool success, pid_t pid) {
  char reply[128];
  char* to = put(put(reply, 1, (uint64_t)call), 2, success);
  if (pid > 0) {
    char inner[16];
    char* end = put(inner, 1, (uint64_t)pid);
    to = put_text(to, 4, inner, (size_t)(end - inner));
  }
  if (!success) to = put_text(to, 9, "not today", 9);
  if (send(fd, reply, (size_t)(to - reply), MSG_NOSIGNAL) < 0) _exit(1);
}

static bool ask(int fd, const char* step) {
  char inner[64];
  char* end = put_text(inner, 1, step, strlen(step));
  char reply[128];
  char* to = put_text(put(put(reply, 1, kNotify), 2, 1), 5, inner, (size_t)(end - inner));
  if (send(fd, reply, (size_t)(to - reply), MSG_NOSIGNAL) < 0) return false;
  ssize_t got = recv(fd, packet, sizeof packet, 0);
  return got > 0 && field(packet, (size_t)got, 3, NULL) == 1;
}

// The root of a tree, and its children.
static void end_tree(pid_t root) {
  char path[64], list[4096] = {0};
  snprintf(path, sizeof path, "/proc/%d/task/%d/children", root, root);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || read(file, list, sizeof list - 1) < 0) return;
  close(file);
  kill(root, SIGKILL);
  for (char *at = list, *end; (end = strchr(at, ' ')); at = end + 1) kill((pid_t)atoi(at), SIGKILL);
}

static void dump(int fd, const char* how, const char* options, size_t size) {
  int64_t root = field(options, size, 2, NULL);
  bool ends = field(options, size, 3, NULL) == 0;  // "leave running"
  bool orphans = strcmp(how, "orphan") == 0;
  bool breaks = orphans || strcmp(how, "break") == 0, wrecks = strcmp(how, "wreck") == 0;
  if (strcmp(how, "stall") == 0 && ask(fd, "pre-dump")) {
    report("stalls");
    while (true) pause();
  }
  if ((breaks || wrecks) && ask(fd, "pre-dump")) {
    if (wrecks) kill((pid_t)root, SIGKILL);
    if (orphans && fork() == 0) raise(SIGSTOP);
    _exit(3);
  }
  const char* folder = NULL;
  int64_t length = field(options, size, 68, &folder);
  char path[512];
  snprintf(path, sizeof path, "%.*s/pages-1.img", length > 0 ? (int)length : 0, folder);
  int image = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  bool frozen = ask(fd, "query-ext-files");
  bool written = frozen && image >= 0 && write(image, "memory", 6) == 6;
  close(image);
  bool agreed = written && ask(fd, "post-dump");
  if (agreed && ends) end_tree((pid_t)root);
  answer(fd, kDump, agreed, 0);
}

static void restore(int fd, const char* how) {
  int go[2];
  if (!ask(fd, "pre-restore") || pipe(go) < 0) _exit(1);
  pid_t pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) {
    setsid();
    char byte;
    close(go[1]);
    if (read(go[0], &byte, 1) != 1) _exit(1);
    close(go[0]);
    if (strcmp(how, "dead") == 0) _exit(9);
    char* const environment[] = {"REPORT=/mnt/report", NULL};
    char* const arguments[] = {"/mnt/bin/listener", "--name", "restored",
                               strcmp(how, "mute") == 0 ? "--wait" : NULL, NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(arguments[0], arguments, environment);
    _exit(127);
  }
  report("made");
  if (!ask(fd, "post-restore") || write(go[1], "", 1) != 1) {
    kill(pid, SIGKILL);
    _exit(1);
  }
  answer(fd, kRestore, pid > 0, pid);
}

int main(int argc, char** argv) {
  char does[64] = {0};
  int file = open("/mnt/criu-does", O_RDONLY | O_CLOEXEC);
  if (argc < 3 || file < 0 || read(file, does, sizeof does - 1) <= 0) return 1;
  close(file);
  char for_dump[32], for_restore[32];
  if (sscanf(does, "%31s %31s", for_dump, for_restore) != 2) return 1;
  setenv("REPORT", "/mnt/report", 1);
  report_open("criu");

  int fd = atoi(argv[argc - 1]);
  ssize_t got = recv(fd, packet, sizeof packet, 0);
  if (got > 0 && field(packet, (size_t)got, 1, NULL) == kVersion) {
    answer(fd, kVersion, true, 0);
    got = recv(fd, packet, sizeof packet, 0);
  }
  if (got <= 0) return 1;
  const char* options = NULL;
  int64_t call = field(packet, (size_t)got, 1, NULL);
  int64_t size = field(packet, (size_t)got, 2, &options);
  const char* how = call == kDump ? for_dump : for_restore;
  report("asked %s", call == kDump ? "dump" : "restore");
  if (strcmp(how, "die") == 0) return 3;
  while (strcmp(how, "hang") == 0) pause();
  if (strcmp(how, "garbage") == 0) return send(fd, "\377\377\377", 3, MSG_NOSIGNAL) < 0;
  if (strcmp(how, "refuse") == 0) {
    answer(fd, (int)call, false, 0);
  } else if (call == kDump) {
    dump(fd, how, options, (size_t)size);
  } else {
    restore(fd, how);
  }
  return 0;
}
