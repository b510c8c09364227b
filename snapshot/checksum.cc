#include "snapshot/checksum.h"

#include <fcntl.h>
#include <xxhash.h>

#include <array>
#include <vector>

#include "snapshot/folder.h"

namespace modal::snapshot {
namespace {

// Small enough to stay in the second-level cache between the copy and the checksum.
constexpr size_t kPiece = 256 * 1024;

}  // namespace

struct Checksum::State {
  State() : hash(XXH3_createState()) { MODAL_CHECK(hash); }
  ~State() { XXH3_freeState(hash); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  XXH3_state_t* hash;  // of an alignment of its own
};

Checksum::Checksum() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->hash); }

Checksum::~Checksum() = default;

void Checksum::Add(std::string_view bytes) {
  XXH3_128bits_update(state_->hash, bytes.data(), bytes.size());
}

std::string Checksum::Text() const {
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(state_->hash));
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest.digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Result<FileChecksum> ChecksumOf(int fd, const std::atomic<bool>* is_over) {
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::vector<char> piece(kPiece);
  Checksum checksum;
  FileChecksum whole;
  for (;;) {
    const Result<size_t> got = ReadFull(fd, piece.data(), piece.size());
    if (!got) return got.error();
    if (*got == 0) break;
    if (is_over != nullptr && *is_over) return Error("not read to its end");
    checksum.Add({piece.data(), *got});
    whole.size += *got;
  }
  whole.text = checksum.Text();
  return whole;
}

}  // namespace modal::snapshot
