// The bytes of large bodies. Any piece of them can be told from any other: a byte's value follows
// from its place and the body's seed, and the sequence repeats only after a prime number of bytes,
// so that what is lost, doubled or out of order shows.
#ifndef MODAL_TESTS_PROGRAMS_PATTERN_H
#define MODAL_TESTS_PROGRAMS_PATTERN_H

#include <stddef.h>
#include <stdint.h>

enum { kPatternPeriod = 1048573 };

// Twice, so that from any place there is a whole period to read at once.
static unsigned char pattern_bytes[2 * kPatternPeriod];

static inline void pattern_make(void) {
  for (size_t i = 0; i < kPatternPeriod; ++i) {
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    pattern_bytes[i] = pattern_bytes[i + kPatternPeriod] = (unsigned char)(z ^ (z >> 31));
  }
}

// The byte at `place` of the body with this seed; kPatternPeriod of them follow.
static inline const unsigned char* pattern_at(uint64_t seed, uint64_t place) {
  return pattern_bytes + (seed + place) % kPatternPeriod;
}

#endif
