// "TERM" for 15 and back; real-time signals are "RTMIN" and "RTMIN+n".
#ifndef MODAL_TESTS_PROGRAMS_SIGNAL_NAMES_H
#define MODAL_TESTS_PROGRAMS_SIGNAL_NAMES_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((unused)) static void signal_name(int number, char name[16]) {
  const char* known = sigabbrev_np(number);
  if (known != NULL) {
    snprintf(name, 16, "%s", known);
  } else if (number == SIGRTMIN) {
    snprintf(name, 16, "RTMIN");
  } else {
    snprintf(name, 16, "RTMIN+%d", number - SIGRTMIN);
  }
}

__attribute__((unused)) static int signal_number(const char* name) {
  for (int number = 1; number <= SIGRTMAX; ++number) {
    char known[16];
    signal_name(number, known);
    if (strcmp(known, name) == 0) return number;
  }
  return -1;
}

#endif
