// Ends in a given way, at once.
//   ending code N      exit code N
//   ending signal N    killed by signal N
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 3) return 98;
  int number = atoi(argv[2]);
  if (strcmp(argv[1], "code") == 0) return number;
  struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  struct sigaction by_default = {.sa_handler = SIG_DFL};
  sigaction(number, &by_default, NULL);
  sigprocmask(SIG_UNBLOCK, &only, NULL);
  kill(getpid(), number);
  return 97;
}
