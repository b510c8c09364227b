// Writes to standard output as fast as it is taken, in numbered lines of 100 bytes, then ends.
//   flood BYTES
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  if (argc != 2) return 98;
  long lines = atol(argv[1]) / 100;
  for (long i = 1; i <= lines; ++i) {
    if (printf("line %-10ld%084d\n", i, 0) < 0) return 97;
  }
  return fflush(stdout) == 0 ? 0 : 97;
}
