// DIR/criu: starts the CRIU of the folder that it lies in, with that folder's own loader and
// libraries.
//
// Static, so that it runs in any image, whatever its libc, and on an empty root. It finds its
// folder by where it is itself (/proc/self/exe), so the folder may be copied or mounted anywhere.
// The arguments are passed on as they are. When something is missing it says what on stderr and
// ends with 127, or with 126 when it may not be executed.
//
// What the environment says to loaders is for the programs of the image, not for this one, and is
// left out. And where the capabilities come with this file (`setcap
// cap_checkpoint_restore,cap_setpcap+ep DIR/criu`), for a user who has none, they are handed on:
// otherwise they would end at the next exec.
#include <errno.h>
#include <linux/capability.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char** environ;

static int Fail(const char* what) {
  const int status = errno == ENOENT ? 127 : 126;
  fprintf(stderr, "criu: %s: %s\n", what, strerror(errno));
  return status;
}

static void ForgetLoaderVariables(void) {
  static const char* const kForLoaders[] = {
      "LD_", "GLIBC_TUNABLES=", "GCONV_PATH=", "LOCPATH=", "NLSPATH="};
  char** kept = environ;
  for (char** variable = environ; *variable; ++variable) {
    int for_loaders = 0;
    for (size_t i = 0; i < sizeof kForLoaders / sizeof *kForLoaders; ++i) {
      for_loaders |= strncmp(*variable, kForLoaders[i], strlen(kForLoaders[i])) == 0;
    }
    if (!for_loaders) *kept++ = *variable;
  }
  *kept = NULL;
}

// Makes every permitted capability an ambient one. Where the kernel refuses, criu itself says what
// it lacks.
static void HandCapabilitiesOn(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
  if (geteuid() == 0 || syscall(SYS_capget, &header, sets) != 0) return;
  for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; ++i) sets[i].inheritable |= sets[i].permitted;
  if (syscall(SYS_capset, &header, sets) != 0) return;
  for (unsigned cap = 0; cap < 32 * _LINUX_CAPABILITY_U32S_3; ++cap) {
    if (sets[cap / 32].permitted & (1U << cap % 32))
      prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
  }
}

int main(int argc, char** argv) {
  static char folder[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
  if (length < 0) return Fail("/proc/self/exe cannot be read, and criu needs /proc");
  folder[length] = '\0';
  char* const slash = strrchr(folder, '/');
  if (!slash) return errno = ENOENT, Fail(folder);
  *slash = '\0';
  // The loader takes lists separated by these, and replaces $ORIGIN and its like.
  if (strpbrk(folder, ":;$")) {
    fprintf(stderr, "criu: the folder's name may hold no colon, semicolon or dollar sign: %s\n",
            folder);
    return 126;
  }

  char* loader = NULL;
  char* libraries = NULL;
  char* program = NULL;
  char** const command = calloc((size_t)argc + 10, sizeof *command);
  if (!command || asprintf(&loader, "%s/lib/ld.so", folder) < 0 ||
      asprintf(&libraries, "%s/lib", folder) < 0 || asprintf(&program, "%s/bin/criu", folder) < 0) {
    return errno = ENOMEM, Fail("start");
  }
  if (access(program, R_OK) != 0) return Fail(program);
  int used = 0;
  command[used++] = loader;
  command[used++] = "--inhibit-cache";
  command[used++] = "--library-path";
  command[used++] = libraries;
  command[used++] = "--preload";
  command[used++] = "passcred.so";
  command[used++] = "--argv0";
  command[used++] = argc > 0 ? argv[0] : program;
  command[used++] = program;
  for (int i = 1; i < argc; ++i) command[used++] = argv[i];

  ForgetLoaderVariables();
  HandCapabilitiesOn();
  execv(loader, command);
  return Fail(loader);
}
