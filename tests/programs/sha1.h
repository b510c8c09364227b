// SHA-1 and base64, as far as the handshake of a WebSocket needs them.
#ifndef MODAL_TESTS_PROGRAMS_SHA1_H
#define MODAL_TESTS_PROGRAMS_SHA1_H

#include <stdint.h>
#include <string.h>

static inline uint32_t sha1_turn(uint32_t value, int bits) {
  return value << bits | value >> (32 - bits);
}

static inline void sha1_block(uint32_t h[5], const unsigned char* block) {
  uint32_t w[80];
  for (int i = 0; i < 16; ++i) {
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
           (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  }
  for (int i = 16; i < 80; ++i) w[i] = sha1_turn(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
  for (int i = 0; i < 80; ++i) {
    uint32_t f, k;
    if (i < 20) {
      f = (b & c) | (~b & d), k = 0x5a827999;
    } else if (i < 40) {
      f = b ^ c ^ d, k = 0x6ed9eba1;
    } else if (i < 60) {
      f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
    } else {
      f = b ^ c ^ d, k = 0xca62c1d6;
    }
    uint32_t next = sha1_turn(a, 5) + f + e + k + w[i];
    e = d, d = c, c = sha1_turn(b, 30), b = a, a = next;
  }
  h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

// Of at most 119 bytes.
static inline void sha1(const unsigned char* data, size_t size, unsigned char digest[20]) {
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  unsigned char padded[128] = {0};
  memcpy(padded, data, size);
  padded[size] = 0x80;
  size_t total = size < 56 ? 64 : 128;
  padded[total - 2] = (unsigned char)(size * 8 >> 8);
  padded[total - 1] = (unsigned char)(size * 8);
  for (size_t at = 0; at < total; at += 64) sha1_block(h, padded + at);
  for (int i = 0; i < 20; ++i) digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static inline void base64(const unsigned char* data, size_t size, char* text) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < size; i += 3) {
    uint32_t bits = (uint32_t)data[i] << 16 | (i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0) |
                    (i + 2 < size ? data[i + 2] : 0);
    *text++ = letters[bits >> 18];
    *text++ = letters[bits >> 12 & 63];
    *text++ = i + 1 < size ? letters[bits >> 6 & 63] : '=';
    *text++ = i + 2 < size ? letters[bits & 63] : '=';
  }
  *text = '\0';
}

#endif
