// A client of tests/programs/origin.c, through whatever is in between, that believes nothing: each
// byte of an answer is compared with what it must be. An answer is right, or a refusal (502, 503 or
// 504, itself whole), or visibly cut; anything else is wrong. When nothing moves for as long as its
// patience, it is stuck.
//
// Connections are kept from request to request as long as they can be. Blocks; use it from a thread
// of its own, in the network of the server (EnterNetworkOf).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "agent/base/unique_fd.h"

namespace modal::test {

// The calling thread is in the network of this process from now on.
void EnterNetworkOf(pid_t pid);
// A connection to a port of 127.0.0.1, non-blocking; empty if it was refused. `receive_buffer`: of
// the socket, in bytes; 0: as the kernel chooses.
UniqueFd ConnectTo(uint16_t port, int receive_buffer = 0);

enum class Outcome { kRight, kRefused, kCut, kWrong, kStuck };
const char* Name(Outcome outcome);

class OriginClient {
 public:
  OriginClient(uint16_t port, std::chrono::milliseconds patience);

  Outcome Small(const std::string& text);
  Outcome Slow(int milliseconds);
  // `on_progress` is told, now and then, how much has come; it may wait.
  Outcome Download(uint64_t seed, uint64_t size, bool chunked,
                   const std::function<void(uint64_t)>& on_progress = {});
  // `pace`: see origin.c.
  Outcome Upload(uint64_t seed, uint64_t size, bool chunked, int pace = 0);
  Outcome Events(uint64_t seed, int count);
  // Messages of up to `largest` bytes, whole and in fragments, a ping, and the end of it.
  Outcome WebSocket(uint64_t seed, int messages, size_t largest);
  // The server breaks off: that must be seen.
  Outcome Aborted(uint64_t seed, uint64_t size, uint64_t after, bool reset);
  // Asks for a large body, takes a part, and goes; sends a part of one, and goes.
  Outcome LeaveDownload(uint64_t seed, uint64_t size, uint64_t after);
  Outcome LeaveUpload(uint64_t seed, uint64_t size, uint64_t after);

  // What was wrong last, or stuck.
  const std::string& what() const { return what_; }
  // Small receive buffers from the next connection on: a slow client.
  void set_receive_buffer(int size) { receive_buffer_ = size; }
  int last_status() const { return status_; }
  void Close();

 private:
  enum class Moved { kYes, kEnded, kLate };
  using Sink = std::function<bool(std::string_view)>;

  bool Open();
  Moved Receive();
  Moved Send(std::string_view bytes, bool stop_at_answer, bool& answered);
  Outcome Ask(const std::string& request);
  Outcome ReadHead();
  Outcome ReadAnswer(const Sink& sink);
  Outcome ReadBody(const Sink& sink);
  Outcome ReadChunks(const Sink& sink);
  Outcome ReadLine(std::string& line);
  Outcome Ended(Moved moved, const char* doing);
  Outcome Wrong(const std::string& what);
  Outcome ExpectBody(const std::string& request, const std::string& expected);
  Sink Pattern(uint64_t seed, uint64_t& place) const;
  Outcome SendFrame(uint8_t first, std::string_view payload);
  Outcome ReadFrame(uint8_t& first, std::string& payload);
  Outcome ExchangeMessage(uint64_t seed, size_t size, int fragments);

  uint16_t port_;
  std::chrono::milliseconds patience_;
  int receive_buffer_ = 0;
  UniqueFd socket_;
  std::string in_;
  std::string head_;
  int status_ = 0;
  std::string trailer_;
  std::string what_;
};

}  // namespace modal::test
