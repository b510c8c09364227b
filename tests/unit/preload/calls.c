// Makes calls through libc's syscall() and ends with the number of the first one whose outcome is
// wrong, or with 0.
//
// Of io_uring_setup it tells that ENOSYS came back, by 100: with a bad address the kernel has
// another answer.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kIoUringSetup = 425, kNoIoUring = 100 };

int main(void) {
  errno = 0;
  if (syscall(SYS_getpid) != getpid() || errno != 0) return 1;

  if (syscall(SYS_close, -1L) != -1 || errno != EBADF) return 2;

  // Six arguments, the last of which comes from the stack, and an answer of 64 bits.
  const int file = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return 3;
  const long mapped = syscall(SYS_mmap, NULL, 4096UL, PROT_READ, MAP_PRIVATE, (long)file, 4096L);
  if (mapped == -1) return 4;
  char direct[64];
  if (pread(file, direct, sizeof direct, 4096) != sizeof direct) return 5;
  if (memcmp((const void*)(intptr_t)mapped, direct, sizeof direct) != 0) return 6;

  // Two processes that return, the first one's stack untouched by what the second one does.
  const long child = syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
  if (child == 0) _exit(7);
  int status = 0;
  if (waitpid((pid_t)child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
    return 8;

  if (syscall(kIoUringSetup, 8L, (void*)8) != -1) return 9;
  return errno == ENOSYS ? kNoIoUring : 0;
}
