// A status board: one writer publishes a struct, others read it, and neither ever waits.
//
// The board is a memfd of fixed size (F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL). Either its maker
// writes it: then F_SEAL_FUTURE_WRITE (Linux 5.1) is on as well, and whoever gets its descriptor
// can only read; or its maker reads it and hands the descriptor to the writer. A sequence lock
// orders the copies: a reader retries while the writer is at work, and gives up with nothing after
// kReadAttempts, so that a writer that died half-way, or lies, can never hang it. What a reader
// gets from a process it does not trust is bytes: strings may lack their NUL, numbers may be
// anything. T is trivially copyable.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace modal {

// A fixed-size shared mapping of a sealed memfd; unmapped on destruction.
class BoardMapping {
 public:
  // A new board of `size` bytes, all zero, which we write: nobody else can, from here on.
  static Result<BoardMapping> CreateToWrite(const char* name, size_t size);
  // A new board of `size` bytes, all zero, which we read and the process that gets fd() writes.
  static Result<BoardMapping> CreateToRead(const char* name, size_t size);
  // Somebody's board, mapped read-only. Refused when it is smaller than `size`, or unsealed.
  static Result<BoardMapping> OpenReadOnly(UniqueFd fd, size_t size);
  // Our own board whose descriptor was inherited from the process that made it.
  static Result<BoardMapping> OpenWritable(UniqueFd fd, size_t size);

  BoardMapping(BoardMapping&& other) noexcept;
  BoardMapping& operator=(BoardMapping&& other) noexcept;
  ~BoardMapping();

  void* data() const { return data_; }
  int fd() const { return fd_.get(); }

 private:
  BoardMapping(UniqueFd fd, void* data, size_t size)
      : fd_(std::move(fd)), data_(data), size_(size) {}

  UniqueFd fd_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

// The value as words, so that a word that is being written while it is read is no data race; the
// copy that holds it is thrown away.
template <class T>
struct BoardLayout {
  using Words = std::array<uint64_t, (sizeof(T) + 7) / 8>;
  static_assert(std::is_trivially_copyable_v<T>);
  static_assert(
      std::atomic<uint64_t>::is_always_lock_free);  // other processes know no lock of ours

  std::atomic<uint64_t> sequence;  // odd while the writer is at work
  std::array<std::atomic<uint64_t>, std::tuple_size_v<Words>> words;
};

template <class T>
class BoardWriter {
 public:
  explicit BoardWriter(BoardMapping mapping) : mapping_(std::move(mapping)) {}

  void Publish(const T& value) {
    typename BoardLayout<T>::Words words{};
    std::memcpy(words.data(), &value, sizeof value);
    auto* board = static_cast<BoardLayout<T>*>(mapping_.data());
    const uint64_t sequence = board->sequence.load(std::memory_order_relaxed) | 1;
    board->sequence.store(sequence, std::memory_order_relaxed);
    // Released: whoever sees one of these words sees the odd number as well.
    for (size_t i = 0; i < words.size(); ++i) {
      board->words[i].store(words[i], std::memory_order_release);
    }
    board->sequence.store(sequence + 1, std::memory_order_release);
  }
  const BoardMapping& mapping() const { return mapping_; }

 private:
  BoardMapping mapping_;
};

template <class T>
class BoardReader {
 public:
  static constexpr int kReadAttempts = 1000;

  explicit BoardReader(BoardMapping mapping) : mapping_(std::move(mapping)) {}

  std::optional<T> Read() const {
    const auto* board = static_cast<const BoardLayout<T>*>(mapping_.data());
    for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
      const uint64_t before = board->sequence.load(std::memory_order_acquire);
      if (before % 2 != 0) continue;
      typename BoardLayout<T>::Words words;
      for (size_t i = 0; i < words.size(); ++i) {
        words[i] = board->words[i].load(std::memory_order_acquire);
      }
      if (board->sequence.load(std::memory_order_relaxed) != before) continue;
      T value;
      std::memcpy(static_cast<void*>(&value), words.data(), sizeof value);
      return value;
    }
    return std::nullopt;
  }

 private:
  BoardMapping mapping_;
};

// Copies `text` into a fixed array, cut to fit, always NUL-terminated.
template <size_t kSize>
void SetBoardText(char (&to)[kSize], std::string_view text) {
  const size_t size = text.size() < kSize ? text.size() : kSize - 1;
  std::memset(to, 0, kSize);
  if (size > 0) std::memcpy(to, text.data(), size);  // an empty view may have no data() at all
}

// Reads such an array; stops at its end even where the NUL is missing.
template <size_t kSize>
std::string_view BoardText(const char (&from)[kSize]) {
  return {from, ::strnlen(from, kSize)};
}

}  // namespace modal
