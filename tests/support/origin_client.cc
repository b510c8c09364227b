#include "tests/support/origin_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "agent/base/check.h"
#include "agent/base/strings.h"
#include "tests/programs/pattern.h"

namespace modal::test {
namespace {

constexpr size_t kPiece = size_t{64} * 1024;
constexpr uint8_t kFinal = 0x80, kContinued = 0, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;

// Made once, before there are threads.
const bool pattern_is_made = [] {
  pattern_make();
  return true;
}();

std::string_view PatternAt(uint64_t seed, uint64_t place, uint64_t size) {
  return {reinterpret_cast<const char*>(pattern_at(seed, place)),
          static_cast<size_t>(std::min<uint64_t>(size, kPatternPeriod))};
}

std::string ValueOf(const std::string& head, const std::string& name) {
  const char* found = ::strcasestr(head.c_str(), ("\r\n" + name + ":").c_str());
  if (found == nullptr) return "";
  found += name.size() + 3;
  return std::string(Trim(std::string_view(found, std::strcspn(found, "\r"))));
}

// Of a body that is to be thrown away.
bool Ignore(std::string_view) { return true; }

}  // namespace

void EnterNetworkOf(pid_t pid) {
  const UniqueFd network(::open(Concat("/proc/", pid, "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
  MODAL_CHECK(network && ::setns(network.get(), CLONE_NEWNET) == 0);
}

UniqueFd ConnectTo(uint16_t port, int receive_buffer) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return {};
  if (receive_buffer > 0) {
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  const int one = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return {};
  }
  ::fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  return socket;
}

const char* Name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kRight:
      return "right";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kCut:
      return "cut";
    case Outcome::kWrong:
      return "wrong";
    case Outcome::kStuck:
      return "stuck";
  }
  return "?";
}

OriginClient::OriginClient(uint16_t port, std::chrono::milliseconds patience)
    : port_(port), patience_(patience) {}

void OriginClient::Close() {
  socket_.Reset();
  in_.clear();
}

bool OriginClient::Open() {
  if (socket_) return true;
  in_.clear();
  socket_ = ConnectTo(port_, receive_buffer_);
  return static_cast<bool>(socket_);
}

Outcome OriginClient::Wrong(const std::string& what) {
  what_ = Concat(what, "; head: ", head_);
  Close();
  return Outcome::kWrong;
}

Outcome OriginClient::Ended(Moved moved, const char* doing) {
  Close();
  if (moved == Moved::kEnded) return Outcome::kCut;
  what_ = Concat("nothing moved while ", doing);
  return Outcome::kStuck;
}

OriginClient::Moved OriginClient::Receive() {
  pollfd event{socket_.get(), POLLIN, 0};
  if (::poll(&event, 1, static_cast<int>(patience_.count())) != 1) return Moved::kLate;
  const size_t before = in_.size();
  in_.resize(before + kPiece);
  const ssize_t got = ::recv(socket_.get(), in_.data() + before, kPiece, 0);
  in_.resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return got > 0 ? Moved::kYes : Moved::kEnded;
}

OriginClient::Moved OriginClient::Send(std::string_view bytes, bool stop_at_answer,
                                       bool& answered) {
  while (!bytes.empty()) {
    pollfd event{socket_.get(), static_cast<short>(POLLOUT | (stop_at_answer ? POLLIN : 0)), 0};
    if (::poll(&event, 1, static_cast<int>(patience_.count())) != 1) return Moved::kLate;
    if (stop_at_answer && (event.revents & POLLIN) != 0) {
      answered = true;
      return Moved::kYes;
    }
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) continue;
    if (sent < 0) return Moved::kEnded;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return Moved::kYes;
}

Outcome OriginClient::ReadHead() {
  size_t end;
  while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
    if (const Moved moved = Receive(); moved != Moved::kYes)
      return Ended(moved, "a head was awaited");
  }
  head_ = in_.substr(0, end + 2);
  in_.erase(0, end + 4);
  if (!head_.starts_with("HTTP/1.1 ")) return Wrong("no head");
  status_ = std::atoi(head_.c_str() + 9);
  return status_ == 100 ? ReadHead() : Outcome::kRight;
}

Outcome OriginClient::ReadLine(std::string& line) {
  size_t end;
  while ((end = in_.find("\r\n")) == std::string::npos) {
    if (const Moved moved = Receive(); moved != Moved::kYes)
      return Ended(moved, "a line was awaited");
  }
  line = in_.substr(0, end);
  in_.erase(0, end + 2);
  return Outcome::kRight;
}

Outcome OriginClient::ReadChunks(const Sink& sink) {
  trailer_.clear();
  std::string line;
  while (true) {
    if (const Outcome read = ReadLine(line); read != Outcome::kRight) return read;
    if (line.empty() || line.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      return Wrong("a chunk's size that is none: " + line);
    }
    uint64_t left = std::strtoull(line.c_str(), nullptr, 16);
    if (left == 0) break;
    while (left > 0) {
      if (in_.empty()) {
        const Moved moved = Receive();
        if (moved != Moved::kYes) return Ended(moved, "a chunk was awaited");
      }
      const size_t size = static_cast<size_t>(std::min<uint64_t>(left, in_.size()));
      if (!sink(std::string_view(in_).substr(0, size))) return Wrong("a byte that is wrong");
      in_.erase(0, size);
      left -= size;
    }
    if (const Outcome read = ReadLine(line); read != Outcome::kRight) return read;
    if (!line.empty()) return Wrong("a chunk does not end where it should");
  }
  while (true) {
    if (const Outcome read = ReadLine(line); read != Outcome::kRight) return read;
    if (line.empty()) return Outcome::kRight;
    trailer_ += line;
  }
}

Outcome OriginClient::ReadBody(const Sink& sink) {
  if (!ValueOf(head_, "Transfer-Encoding").empty()) return ReadChunks(sink);
  const std::string length = ValueOf(head_, "Content-Length");
  if (length.empty()) return Wrong("an answer without a length");
  for (uint64_t left = std::strtoull(length.c_str(), nullptr, 10); left > 0;) {
    if (in_.empty()) {
      const Moved moved = Receive();
      if (moved != Moved::kYes) return Ended(moved, "a body was awaited");
    }
    const size_t size = static_cast<size_t>(std::min<uint64_t>(left, in_.size()));
    if (!sink(std::string_view(in_).substr(0, size))) return Wrong("a byte that is wrong");
    in_.erase(0, size);
    left -= size;
  }
  return Outcome::kRight;
}

Outcome OriginClient::ReadAnswer(const Sink& sink) {
  if (const Outcome read = ReadHead(); read != Outcome::kRight) return read;
  const bool refused = status_ >= 502 && status_ <= 504;
  if (status_ != 200 && !refused) return Wrong("a status that nobody expects");
  std::string said;
  const Sink keep = [&said](std::string_view data) {
    said += data;
    return true;
  };
  if (const Outcome read = ReadBody(refused ? keep : sink); read != Outcome::kRight) return read;
  if (refused && !said.starts_with("{\"error\":\"")) return Wrong("a refusal without its reason");
  if (strcasecmp(ValueOf(head_, "Connection").c_str(), "close") == 0) Close();
  return refused ? Outcome::kRefused : Outcome::kRight;
}

Outcome OriginClient::Ask(const std::string& request) {
  what_.clear();
  head_.clear();
  status_ = 0;
  // The listening sockets outlive the process that takes from them.
  if (!Open()) return Wrong("the connection was refused");
  bool answered = false;
  const Moved moved = Send(request, false, answered);
  return moved == Moved::kYes ? Outcome::kRight : Ended(moved, "a request was sent");
}

OriginClient::Sink OriginClient::Pattern(uint64_t seed, uint64_t& place) const {
  return [seed, &place](std::string_view data) {
    while (!data.empty()) {
      const std::string_view expected = PatternAt(seed, place, data.size());
      if (!data.starts_with(expected)) return false;
      data.remove_prefix(expected.size());
      place += expected.size();
    }
    return true;
  };
}

Outcome OriginClient::ExpectBody(const std::string& request, const std::string& expected) {
  if (const Outcome asked = Ask(request); asked != Outcome::kRight) return asked;
  std::string body;
  const Outcome read = ReadAnswer([&body](std::string_view data) {
    body += data;
    return true;
  });
  if (read == Outcome::kRight && body != expected) return Wrong("another body: " + body);
  return read;
}

Outcome OriginClient::Small(const std::string& text) {
  return ExpectBody(Concat("GET /small?", text, " HTTP/1.1\r\nHost: test\r\n\r\n"),
                    Concat("small ", text, "\n"));
}

Outcome OriginClient::Slow(int milliseconds) {
  return ExpectBody(Concat("GET /slow?ms=", milliseconds, " HTTP/1.1\r\nHost: test\r\n\r\n"),
                    "slow\n");
}

Outcome OriginClient::Download(uint64_t seed, uint64_t size, bool chunked,
                               const std::function<void(uint64_t)>& on_progress) {
  const Outcome asked =
      Ask(Concat("GET /down?size=", size, "&seed=", seed, chunked ? "&chunked=1" : "",
                 " HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n"));
  if (asked != Outcome::kRight) return asked;
  uint64_t place = 0;
  const Sink compare = Pattern(seed, place);
  const Outcome read = ReadAnswer([&](std::string_view data) {
    const bool right = compare(data);
    if (on_progress) on_progress(place);
    return right;
  });
  if (read != Outcome::kRight) return read;
  if (place != size) return Wrong(Concat("complete after ", place, " bytes of ", size));
  if (chunked && trailer_ != Concat("X-Size: ", size)) return Wrong("no trailer: " + trailer_);
  return read;
}

Outcome OriginClient::Upload(uint64_t seed, uint64_t size, bool chunked, int pace) {
  const Outcome asked =
      Ask(Concat("POST /up?seed=", seed, "&pace=", pace, " HTTP/1.1\r\nHost: test\r\n",
                 chunked ? "Transfer-Encoding: chunked\r\n\r\n"
                         : Concat("Content-Length: ", size, "\r\n\r\n")));
  if (asked != Outcome::kRight) return asked;
  bool answered = false;
  Moved moved = Moved::kYes;
  for (uint64_t place = 0; place < size && moved == Moved::kYes && !answered;) {
    const std::string_view piece = PatternAt(seed, place, std::min<uint64_t>(size - place, kPiece));
    place += piece.size();
    if (chunked) {
      char line[32];
      const int length = std::snprintf(line, sizeof line, "%zx\r\n", piece.size());
      moved = Send(Concat(std::string_view(line, static_cast<size_t>(length)), piece, "\r\n"), true,
                   answered);
    } else {
      moved = Send(piece, true, answered);
    }
  }
  if (chunked && moved == Moved::kYes && !answered) moved = Send("0\r\n\r\n", true, answered);
  if (moved == Moved::kLate) return Ended(moved, "a body was sent");
  // Whoever stops taking may have said why.
  std::string body;
  const Outcome read = ReadAnswer([&body](std::string_view data) {
    body += data;
    return true;
  });
  if (answered || moved != Moved::kYes) Close();
  if (read != Outcome::kRight) return read;
  if (body != Concat("bytes=", size, " wrong=0\n")) return Wrong("the server got: " + body);
  return read;
}

Outcome OriginClient::Events(uint64_t seed, int count) {
  std::string expected;
  for (int i = 0; i < count; ++i) expected += Concat("data: ", seed, " ", i, "\n\n");
  const Outcome asked = Ask(Concat("GET /events?count=", count, "&seed=", seed,
                                   " HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"));
  if (asked != Outcome::kRight) return asked;
  std::string body;
  const Outcome read = ReadAnswer([&](std::string_view data) {
    body += data;
    return expected.starts_with(body);
  });
  if (read == Outcome::kRight && body != expected) return Wrong("events are missing");
  return read;
}

Outcome OriginClient::Aborted(uint64_t seed, uint64_t size, uint64_t after, bool reset) {
  const Outcome asked = Ask(Concat("GET /abort?size=", size, "&seed=", seed, "&after=", after,
                                   reset ? "&reset=1" : "", " HTTP/1.1\r\nHost: test\r\n\r\n"));
  if (asked != Outcome::kRight) return asked;
  uint64_t place = 0;
  const Outcome read = ReadAnswer(Pattern(seed, place));
  return read == Outcome::kRight ? Wrong("whole, though the server broke off") : read;
}

Outcome OriginClient::LeaveDownload(uint64_t seed, uint64_t size, uint64_t after) {
  const Outcome asked =
      Ask(Concat("GET /down?size=", size, "&seed=", seed, " HTTP/1.1\r\nHost: test\r\n\r\n"));
  if (asked != Outcome::kRight) return asked;
  if (const Outcome read = ReadHead(); read != Outcome::kRight) return read;
  if (status_ != 200) {
    const Outcome read = ReadBody(Ignore);
    return read == Outcome::kRight ? Outcome::kRefused : read;
  }
  uint64_t place = 0;
  const Sink compare = Pattern(seed, place);
  while (place < after) {
    if (!compare(in_)) return Wrong("a byte that is wrong");
    in_.clear();
    if (place >= after) break;
    if (const Moved moved = Receive(); moved != Moved::kYes) return Ended(moved, "a body came");
  }
  Close();
  return Outcome::kRight;
}

Outcome OriginClient::LeaveUpload(uint64_t seed, uint64_t size, uint64_t after) {
  const Outcome asked = Ask(Concat(
      "POST /up?seed=", seed, " HTTP/1.1\r\nHost: test\r\nContent-Length: ", size, "\r\n\r\n"));
  if (asked != Outcome::kRight) return asked;
  bool answered = false;
  Moved moved = Moved::kYes;
  for (uint64_t place = 0; place < after && moved == Moved::kYes && !answered; place += kPiece) {
    moved = Send(PatternAt(seed, place, kPiece), true, answered);
  }
  if (moved != Moved::kYes) return Ended(moved, "a part of a body was sent");
  Close();
  return Outcome::kRight;
}

// ---- WebSocket ----

Outcome OriginClient::SendFrame(uint8_t first, std::string_view payload) {
  std::string frame(1, static_cast<char>(first));
  if (payload.size() < 126) {
    frame += static_cast<char>(0x80 | payload.size());
  } else if (payload.size() < 65536) {
    frame += static_cast<char>(0x80 | 126);
    frame += static_cast<char>(payload.size() >> 8);
    frame += static_cast<char>(payload.size());
  } else {
    frame += static_cast<char>(0x80 | 127);
    for (int shift = 56; shift >= 0; shift -= 8)
      frame += static_cast<char>(payload.size() >> shift);
  }
  constexpr char kMask[4] = {'\x37', '\x7a', '\x01', '\x5d'};
  frame.append(kMask, 4);
  for (size_t i = 0; i < payload.size(); ++i) frame += static_cast<char>(payload[i] ^ kMask[i % 4]);
  bool answered = false;
  const Moved moved = Send(frame, false, answered);
  return moved == Moved::kYes ? Outcome::kRight : Ended(moved, "a frame was sent");
}

Outcome OriginClient::ReadFrame(uint8_t& first, std::string& payload) {
  while (true) {
    const auto byte = [this](size_t i) { return static_cast<uint8_t>(in_[i]); };
    if (in_.size() >= 2) {
      if ((byte(1) & 0x80) != 0) return Wrong("a server's frame with a mask");
      uint64_t size = byte(1) & 127;
      size_t head = 2;
      if (size == 126) head = 4;
      if (size == 127) head = 10;
      if (in_.size() >= head) {
        if (head > 2) size = 0;
        for (size_t i = 2; i < head; ++i) size = size << 8 | byte(i);
        if (in_.size() >= head + size) {
          first = byte(0);
          payload = in_.substr(head, static_cast<size_t>(size));
          in_.erase(0, head + static_cast<size_t>(size));
          return Outcome::kRight;
        }
      }
    }
    if (const Moved moved = Receive(); moved != Moved::kYes)
      return Ended(moved, "a frame was awaited");
  }
}

Outcome OriginClient::ExchangeMessage(uint64_t seed, size_t size, int fragments) {
  const std::string_view message = PatternAt(seed, 0, size);
  for (int i = 0; i < fragments; ++i) {
    const size_t from = size * static_cast<size_t>(i) / static_cast<size_t>(fragments);
    const size_t to = size * static_cast<size_t>(i + 1) / static_cast<size_t>(fragments);
    const uint8_t first =
        static_cast<uint8_t>((i + 1 == fragments ? kFinal : 0) | (i == 0 ? kBinary : kContinued));
    const Outcome sent = SendFrame(first, message.substr(from, to - from));
    if (sent != Outcome::kRight) return sent;
  }
  std::string got;
  for (int i = 0; i < fragments; ++i) {
    uint8_t first = 0;
    std::string payload;
    if (const Outcome read = ReadFrame(first, payload); read != Outcome::kRight) return read;
    if ((first & 15) == kClose) {
      Close();
      return Outcome::kCut;
    }
    got += payload;
  }
  return got == message ? Outcome::kRight : Wrong("another message came back");
}

Outcome OriginClient::WebSocket(uint64_t seed, int messages, size_t largest) {
  Close();
  // The key and its answer of RFC 6455, 1.3.
  const Outcome asked =
      Ask("GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
  if (asked != Outcome::kRight) return asked;
  if (const Outcome read = ReadHead(); read != Outcome::kRight) return read;
  if (status_ >= 502 && status_ <= 504) {
    Close();
    return Outcome::kRefused;
  }
  if (status_ != 101 || ValueOf(head_, "Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
    return Wrong("no WebSocket");
  }
  for (int i = 0; i < messages; ++i) {
    const size_t size = 1 + (seed * 7919 + static_cast<uint64_t>(i) * 104'729) % largest;
    const Outcome exchanged = ExchangeMessage(seed + static_cast<uint64_t>(i), size, 1 + i % 3);
    if (exchanged != Outcome::kRight) return exchanged;
  }
  uint8_t first = 0;
  std::string payload;
  if (const Outcome sent = SendFrame(kFinal | kPing, "ping"); sent != Outcome::kRight) return sent;
  if (const Outcome read = ReadFrame(first, payload); read != Outcome::kRight) return read;
  if (first == (kFinal | kClose)) {
    Close();
    return Outcome::kCut;
  }
  if (first != (kFinal | kPong) || payload != "ping") return Wrong("no pong");
  const std::string normal("\x03\xe8", 2);
  if (const Outcome sent = SendFrame(kFinal | kClose, normal); sent != Outcome::kRight) return sent;
  if (const Outcome read = ReadFrame(first, payload); read != Outcome::kRight) return read;
  if (first != (kFinal | kClose)) return Wrong("no close");
  Close();
  return Outcome::kRight;
}

}  // namespace modal::test
