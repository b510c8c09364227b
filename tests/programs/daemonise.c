// Starts a program as a daemon, the classical way: fork, a session of its own, fork again, and the
// first process ends at once with code 0.
//   daemonise PROGRAM [ARGUMENT…]
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc < 2) return 98;
  pid_t first = fork();
  if (first < 0) return 98;
  if (first > 0) {
    int status = 0;
    waitpid(first, &status, 0);
    return status == 0 ? 0 : 98;
  }
  setsid();
  pid_t second = fork();
  if (second != 0) _exit(second < 0 ? 98 : 0);
  execvp(argv[1], argv + 1);
  _exit(127);
}
