// What is to be written to a Stream and has not been taken by it yet.
//
// Memory for it comes from a stock that the connections of one loop share, and goes back when all
// has gone out. Once the stream has taken less than it was offered nothing more is offered until
// OnWritable(): level-triggered readiness will tell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/event/stream.h"

namespace modal::http {

// Strings with some capacity, to be used again. Outlives those who take from it.
class BufferStock {
 public:
  std::string Take();
  void GiveBack(std::string buffer);

  // Strings with less than this have no memory worth giving back.
  static constexpr size_t kNewSize = 1024;

 private:
  std::vector<std::string> spare_;
};

class Outbox {
 public:
  // `sent` counts the bytes that the stream has taken.
  Outbox(BufferStock& stock, uint64_t& sent) : stock_(stock), sent_(sent) {}

  size_t size() const { return text_.size() - taken_; }
  bool empty() const { return size() == 0; }
  // Bytes of memory in use.
  size_t held() const { return text_.size(); }

  // To append to; nothing else may be done to it.
  std::string& text();

  // Appends before, data, after; a large `data` goes to the stream from where it is, as far as it
  // is taken now. False: the stream is broken.
  bool Put(event::Stream& stream, std::string_view before, std::string_view data,
           std::string_view after);
  // Offers all to the stream. False: it is broken.
  bool Flush(event::Stream& stream);
  void OnWritable() { full_ = false; }
  // Something waits, and only for that.
  bool full() const { return full_; }
  // The errno of the stream that broke.
  int error() const { return error_; }

  // Something has been taken since the last call.
  bool TakeProgress() { return std::exchange(progress_, false); }
  // What has not been taken; the outbox is empty then.
  std::string TakeAll();

 private:
  void Count(size_t size);
  void Empty();

  BufferStock& stock_;
  uint64_t& sent_;
  std::string text_;
  size_t taken_ = 0;
  int error_ = 0;
  bool full_ = false;
  bool progress_ = false;
};

}  // namespace modal::http
