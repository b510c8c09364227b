// What the CRIU trials dump and restore: a server with a number in its memory.
//
//   counter init [serve]   process 1 of a container: reaps whatever there is; starts the server
//   first
//                          if told
//   counter serve          the server itself, where others can reach it, below somebody else
//   counter ask            asks it and prints its answer, which is one more each time; 1 if nobody
//                          answers
//
// Below `init` the server's pid is kServerPid at least, so that it is free in the next container,
// where it is wanted again. It has a session, a second thread and a child of its own, each of which
// must come back for the answer to be right.
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPort = 8000, kServerPid = 1000, kMegabytes = 8 };

static void Check(int good, const char* what) {
  if (good) return;
  perror(what);
  _exit(1);
}

static struct sockaddr_in Address(in_addr_t host) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(kPort)};
  address.sin_addr.s_addr = htonl(host);
  return address;
}

// Adds one to each number that it reads, and writes it back.
static void* Increment(void* pipes) {
  const int* ends = pipes;
  long number;
  while (read(ends[0], &number, sizeof number) == sizeof number) {
    ++number;
    if (write(ends[1], &number, sizeof number) != sizeof number) break;
  }
  return NULL;
}

static long Through(int to, int from, long number) {
  Check(write(to, &number, sizeof number) == sizeof number, "write");
  Check(read(from, &number, sizeof number) == sizeof number, "read");
  return number;
}

static void Serve(in_addr_t host, int ready) {
  // Each of the two adds one: the child to even numbers of answers, the thread to odd ones.
  int to_thread[2], from_thread[2], to_child[2], from_child[2];
  Check(pipe(to_thread) == 0 && pipe(from_thread) == 0 && pipe(to_child) == 0 &&
            pipe(from_child) == 0,
        "pipe");
  const pid_t child = fork();
  Check(child >= 0, "fork");
  if (child == 0) {
    close(ready);
    close(to_child[1]);
    Increment((int[]){to_child[0], from_child[1]});
    _exit(0);
  }
  int thread_ends[] = {to_thread[0], from_thread[1]};
  pthread_t thread;
  errno = pthread_create(&thread, NULL, Increment, thread_ends);
  Check(errno == 0, "pthread_create");

  // Memory with a pattern, looked at again before every answer.
  const size_t size = (size_t)kMegabytes << 20;
  unsigned char* memory = malloc(size);
  Check(memory != NULL, "malloc");
  for (size_t i = 0; i < size; ++i) memory[i] = (unsigned char)(i * 31 + i / 4096);

  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const struct sockaddr_in address = Address(host);
  const int on = 1;
  Check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "SO_REUSEADDR");
  Check(bind(listener, (const struct sockaddr*)&address, sizeof address) == 0, "bind");
  Check(listen(listener, 16) == 0, "listen");
  close(ready);
  for (long count = 0;;) {
    const int connection = accept(listener, NULL, NULL);
    if (connection < 0 && errno == EINTR) continue;
    Check(connection >= 0, "accept");
    size_t wrong = 0;
    for (size_t i = 0; i < size; ++i) wrong += memory[i] != (unsigned char)(i * 31 + i / 4096);
    count = count % 2 ? Through(to_thread[1], from_thread[0], count)
                      : Through(to_child[1], from_child[0], count);
    dprintf(connection, "count %ld pid %d wrong %zu\n", count, getpid(), wrong);
    close(connection);
  }
}

static int Ask(void) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  const struct sockaddr_in address = Address(INADDR_LOOPBACK);
  Check(connect(connection, (const struct sockaddr*)&address, sizeof address) == 0, "connect");
  char answer[128];
  ssize_t size, all = 0;
  while ((size = read(connection, answer, sizeof answer)) > 0) {
    all += size;
    Check(write(STDOUT_FILENO, answer, (size_t)size) == size, "write");
  }
  return all > 0 ? 0 : 1;
}

static void UseUpSmallPids(void) {
  pid_t last;
  do {
    last = fork();
    Check(last >= 0, "fork");
    if (last == 0) _exit(0);
    waitpid(last, NULL, 0);
  } while (last < kServerPid - 1);
}

static void StartServer(void) {
  int ready[2];
  char nothing;
  Check(pipe(ready) == 0, "pipe");
  const pid_t pid = fork();
  Check(pid >= 0, "fork");
  if (pid == 0) {
    // No file from outside of the container: what podman gave as standard files is not there at the
    // restore.
    setsid();
    for (int fd = 0; fd < 3; ++fd) close(fd);
    close(ready[0]);
    Serve(INADDR_LOOPBACK, ready[1]);
  }
  close(ready[1]);
  Check(read(ready[0], &nothing, 1) == 0, "ready");
  close(ready[0]);
  printf("listening %d\n", pid);
}

static pid_t StartCommand(char** command) {
  const pid_t pid = fork();
  Check(pid >= 0, "fork");
  if (pid > 0) return pid;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execv(command[0], command);
  perror(command[0]);
  _exit(127);
}

static void ReapUntilTerm(pid_t command, const sigset_t* signals) {
  int seen = 0;
  while (sigwait(signals, &seen) == 0 && seen != SIGTERM) {
    pid_t pid;
    int status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
      if (pid == command)
        printf("ended %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
  }
}

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "ask") == 0) return Ask();
  if (argc == 2 && strcmp(argv[1], "serve") == 0) Serve(INADDR_ANY, -1);
  if (argc < 3 || strcmp(argv[1], "init") != 0) return 2;
  setlinebuf(stdout);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  pid_t command = 0;
  if (strcmp(argv[2], "serve") == 0) {
    UseUpSmallPids();
    StartServer();
  } else {
    command = StartCommand(argv + 2);
  }
  ReapUntilTerm(command, &signals);
  return 0;
}
