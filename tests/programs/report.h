// How a test program tells the test what happens to it: one line an event, "NAME EVENT", written to
// the FIFO named by $REPORT. The FIFO stays open until the program is gone, so its last writer's
// death shows as the end of the file. Without $REPORT nothing is written.
#ifndef MODAL_TESTS_PROGRAMS_REPORT_H
#define MODAL_TESTS_PROGRAMS_REPORT_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int report_fd = -1;
static const char* report_name = "program";

__attribute__((unused)) static void report_open(const char* name) {
  report_name = name;
  const char* path = getenv("REPORT");
  if (path == NULL) return;
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  // Kept away from 0, 1 and 2, which a program may have been started without.
  report_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 10);
  if (fd >= 0) close(fd);
}

// Lines are shorter than PIPE_BUF: each arrives whole, whoever else writes.
__attribute__((unused, format(printf, 1, 2))) static void report(const char* format, ...) {
  char line[512];
  int length = snprintf(line, sizeof line, "%s ", report_name);
  va_list arguments;
  va_start(arguments, format);
  length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
  va_end(arguments);
  if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
  line[length++] = '\n';
  if (report_fd >= 0 && write(report_fd, line, (size_t)length) < 0) _exit(99);
}

#endif
