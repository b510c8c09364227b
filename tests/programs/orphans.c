// Leaves processes behind for process 1 (or a subreaper).
//   orphans zombies N    N processes that have ended and whose parent ends without waiting for them
//   orphans chain N      a process whose parent is gone, whose parent was gone before, … N deep;
//                        the last one reports "end of the chain" and ends
// Reports "done" when all have been made, and ends on TERM with code 0.
#include <signal.h>
#include <sys/wait.h>

#include "report.h"

enum { kPerParent = 100 };

static void make_zombies(int count) {
  for (int made = 0; made < count; made += kPerParent) {
    pid_t parent = fork();
    if (parent < 0) _exit(98);
    if (parent == 0) {
      for (int i = 0; i < kPerParent && made + i < count; ++i) {
        pid_t child = fork();
        if (child < 0) _exit(98);
        if (child == 0) _exit(0);
      }
      _exit(0);
    }
    int status = 0;
    waitpid(parent, &status, 0);
    if (status != 0) _exit(98);
  }
}

// Each link waits, on a pipe that its parent alone can write to, until that parent is gone.
static void make_chain(int depth) {
  for (int link = 0; link < depth; ++link) {
    int alive[2];
    if (pipe(alive) != 0) _exit(98);
    pid_t next = fork();
    if (next < 0) _exit(98);
    if (next != 0) _exit(0);
    char byte;
    close(alive[1]);
    if (read(alive[0], &byte, 1) != 0) _exit(98);
    close(alive[0]);
  }
  report("end of the chain");
  _exit(0);
}

int main(int argc, char** argv) {
  if (argc != 3) return 98;
  sigset_t terminate;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  sigprocmask(SIG_BLOCK, &terminate, NULL);
  report_open("orphans");
  if (strcmp(argv[1], "zombies") == 0) {
    make_zombies(atoi(argv[2]));
  } else {
    pid_t first = fork();
    if (first == 0) make_chain(atoi(argv[2]));
    waitpid(first, NULL, 0);
  }
  report("done");
  int number;
  sigwait(&terminate, &number);
  return 0;
}
