#include "healthcheck/proc_net_tcp.h"

#include <array>
#include <charconv>
#include <cstring>
#include <optional>

namespace modal::health {
namespace {

//   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//    0: 0100007F:1F40 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 31337
//    1

std::string_view TakeWord(std::string_view& line) {
  const size_t begin = line.find_first_not_of(' ');
  if (begin == std::string_view::npos) return line = {};
  line.remove_prefix(begin);
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

template <class Number>
std::optional<Number> Parse(std::string_view text, int base) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number, base);
  if (error != std::errc() || stopped != end) return std::nullopt;
  return number;
}

// Addresses are printed as 32-bit numbers in the order of this machine, ports as numbers.
std::optional<SocketAddress> ParseAddress(std::string_view word) {
  constexpr size_t kDigits = 8;
  const size_t colon = word.find(':');
  if (colon != kDigits && colon != 4 * kDigits) return std::nullopt;
  std::array<uint8_t, 16> bytes;
  for (size_t at = 0; at < colon; at += kDigits) {
    const std::optional<uint32_t> group = Parse<uint32_t>(word.substr(at, kDigits), 16);
    if (!group) return std::nullopt;
    std::memcpy(bytes.data() + at / 2, &*group, sizeof *group);
  }
  const std::optional<uint16_t> port = Parse<uint16_t>(word.substr(colon + 1), 16);
  if (!port) return std::nullopt;
  return SocketAddress::FromBytes(colon == kDigits ? AF_INET : AF_INET6, bytes.data(), *port);
}

std::optional<TcpSocket> ParseLine(std::string_view line) {
  TakeWord(line);  // "0:"
  const std::optional<SocketAddress> local = ParseAddress(TakeWord(line));
  if (!local) return std::nullopt;
  const std::optional<SocketAddress> remote = ParseAddress(TakeWord(line));
  const std::optional<uint8_t> state = Parse<uint8_t>(TakeWord(line), 16);
  const std::string_view queues = TakeWord(line);  // sent:received
  const size_t colon = queues.find(':');
  if (!remote || !state || colon == std::string_view::npos) return std::nullopt;
  const std::optional<uint32_t> send_queue = Parse<uint32_t>(queues.substr(0, colon), 16);
  const std::optional<uint32_t> receive_queue = Parse<uint32_t>(queues.substr(colon + 1), 16);
  TakeWord(line);  // the timer
  TakeWord(line);  // retransmissions
  const std::optional<uint32_t> uid = Parse<uint32_t>(TakeWord(line), 10);
  TakeWord(line);  // time out
  const std::optional<uint64_t> inode = Parse<uint64_t>(TakeWord(line), 10);
  if (!send_queue || !receive_queue || !uid || !inode) return std::nullopt;

  TcpSocket socket;
  socket.state = *state;
  socket.local = *local;
  socket.remote = *remote;
  socket.send_queue = *send_queue;
  socket.receive_queue = *receive_queue;
  socket.uid = *uid;
  socket.inode = *inode;
  return socket;
}

}  // namespace

std::vector<TcpSocket> ParseProcNetTcp(std::string_view text, StateSet states, uint16_t port) {
  std::vector<TcpSocket> sockets;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    // A line without its newline was cut off, and its last number with it.
    if (end == std::string_view::npos) break;
    const std::optional<TcpSocket> socket = ParseLine(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (!socket || socket->state >= 32 || ((states >> socket->state) & 1U) == 0) continue;
    if (port != 0 && socket->local.port() != port) continue;
    sockets.push_back(*socket);
  }
  return sockets;
}

}  // namespace modal::health
