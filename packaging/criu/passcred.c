// Preloaded into CRIU 4.1: sockets to which SO_PASSCRED and SO_PASSSEC do not apply have them off.
//
// Since Linux 6.16 the kernel says so (EOPNOTSUPP) for all but Unix and netlink sockets, where it
// told 0 before, and CRIU before 4.2 then gives up the dump of every TCP socket.
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int getsockopt(int fd, int level, int option, void* restrict value, socklen_t* restrict length) {
  const int result = (int)syscall(SYS_getsockopt, fd, level, option, value, length);
  if (result == 0 || errno != EOPNOTSUPP || level != SOL_SOCKET) return result;
  if ((option != SO_PASSCRED && option != SO_PASSSEC) || *length < sizeof(int)) return result;
  *(int*)value = 0;
  *length = sizeof(int);
  return 0;
}
