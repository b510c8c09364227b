// On TERM starts a storm: chains of processes, each of which forks its successor and ends, and all
// of which ignore TERM. Only SIGKILL ends them, and only if it misses none.
//   forkstorm CHAINS [--sessions]    --sessions: every link has a session (and group) of its own
// Reports "ready", and "storm" when the chains run. The first process stays until it is killed.
#include <signal.h>
#include <stdbool.h>

#include "report.h"

static void run_chain(bool sessions) {
  for (;;) {
    if (sessions) setsid();
    pid_t next = fork();
    if (next > 0) _exit(0);
    // The limit of processes was reached: try again, this link being the last one alive.
  }
}

int main(int argc, char** argv) {
  if (argc < 2) return 98;
  int chains = atoi(argv[1]);
  bool sessions = argc > 2 && strcmp(argv[2], "--sessions") == 0;
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  report_open("forkstorm");
  report("ready");
  sigset_t terminate;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  int number;
  sigwait(&terminate, &number);
  for (int i = 0; i < chains; ++i) {
    if (fork() == 0) run_chain(sessions);
  }
  report("storm");
  for (;;) pause();
}
