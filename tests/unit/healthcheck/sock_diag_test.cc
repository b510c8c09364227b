// What the kernel answers is decoded from bytes made here; asking a real kernel is the subject of
// socket_table_test.
#include "healthcheck/sock_diag.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>

#include <cstring>
#include <string>

namespace modal::health {
namespace {

constexpr uint32_t kSequence = 5;

template <class T>
std::string BytesOf(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string Padded(std::string bytes) {
  bytes.resize(NLMSG_ALIGN(bytes.size()));
  return bytes;
}

std::string Attribute(uint16_t type, const std::string& value) {
  const nlattr header{static_cast<uint16_t>(NLA_HDRLEN + value.size()), type};
  return Padded(BytesOf(header) + value);
}

std::string Message(uint16_t type, const std::string& body, uint16_t flags = NLM_F_MULTI,
                    uint32_t sequence = kSequence) {
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(NLMSG_HDRLEN + body.size());
  header.nlmsg_type = type;
  header.nlmsg_flags = flags;
  header.nlmsg_seq = sequence;
  return Padded(BytesOf(header) + body);
}

std::string Socket(uint8_t state, uint16_t port, const std::string& attributes = {}) {
  inet_diag_msg message{};
  message.idiag_family = AF_INET;
  message.idiag_state = state;
  message.id.idiag_sport = htons(port);
  message.id.idiag_src[0] = htonl(0x7f000001);
  message.id.idiag_dport = htons(49153);
  message.id.idiag_dst[0] = htonl(0x0a000002);
  message.idiag_rqueue = 3;
  message.idiag_wqueue = 4;
  message.idiag_uid = 33;
  message.idiag_inode = 77;
  return BytesOf(message) + attributes;
}

std::string SocketMessage(uint16_t port, const std::string& attributes = {}) {
  return Message(TCPDIAG_GETSOCK, Socket(TCP_ESTABLISHED, port, attributes));
}

// A tcp_info of which the first `size` bytes arrive.
std::string TcpInfo(size_t size) {
  std::string info(256, '\0');
  const auto put = [&](size_t offset, const auto& value) {
    std::memcpy(info.data() + offset, &value, sizeof value);
  };
  put(44, uint32_t{11});
  put(52, uint32_t{22});
  put(128, uint64_t{33});
  put(152, uint32_t{44});
  put(156, uint32_t{55});
  return info.substr(0, size);
}

struct Decoded {
  DumpPart part;
  std::vector<TcpSocket> sockets;
};

// From a buffer of exactly this size, so that a read beyond its end is seen by sanitizers.
Decoded Decode(const std::string& datagram) {
  const std::vector<uint8_t> bytes(datagram.begin(), datagram.end());
  Decoded decoded;
  decoded.part = DecodeDump(bytes, kSequence, decoded.sockets);
  return decoded;
}

TEST_CASE("a socket is decoded with its attributes") {
  const Decoded decoded = Decode(SocketMessage(8000, Attribute(INET_DIAG_INFO, TcpInfo(256))));
  REQUIRE(decoded.sockets.size() == 1);
  const TcpSocket& socket = decoded.sockets[0];
  CHECK(socket.state == TCP_ESTABLISHED);
  CHECK(socket.local.ToString() == "127.0.0.1:8000");
  CHECK(socket.remote.ToString() == "10.0.0.2:49153");
  CHECK(socket.receive_queue == 3);
  CHECK(socket.send_queue == 4);
  CHECK(socket.uid == 33);
  CHECK(socket.inode == 77);
  CHECK(socket.last_sent_ms == 11);
  CHECK(socket.last_received_ms == 22);
  CHECK(socket.bytes_received == 33);
  CHECK(socket.segments_received == 44);
  CHECK(socket.segments_sent == 55);
  CHECK_FALSE(decoded.part.done);
}

TEST_CASE("the offsets into tcp_info are those of the kernel's header") {
  tcp_info info{};  // of netinet/tcp.h: the oldest part
  CHECK(offsetof(tcp_info, tcpi_last_data_sent) == 44);
  CHECK(offsetof(tcp_info, tcpi_last_data_recv) == 52);
  CHECK(sizeof info <= 128);
}

TEST_CASE("an older kernel's shorter tcp_info tells less, not something else") {
  const auto decode = [](size_t size) {
    return Decode(SocketMessage(8000, Attribute(INET_DIAG_INFO, TcpInfo(size)))).sockets.at(0);
  };
  const TcpSocket in_4_4 = decode(152);
  CHECK(in_4_4.bytes_received == 33);
  CHECK_FALSE(in_4_4.segments_received);
  const TcpSocket in_3_10 = decode(104);
  CHECK(in_3_10.last_received_ms == 22);
  CHECK_FALSE(in_3_10.bytes_received);
  CHECK_FALSE(decode(55).last_received_ms);
  CHECK_FALSE(decode(0).last_sent_ms);
}

TEST_CASE("several messages in one datagram are all read, up to the one that ends the dump") {
  const Decoded decoded = Decode(SocketMessage(1) + SocketMessage(2) + SocketMessage(3) +
                                 Message(NLMSG_DONE, BytesOf(0)) + SocketMessage(4));
  CHECK(decoded.sockets.size() == 3);
  CHECK(decoded.part.done);
  CHECK(decoded.part.error == 0);
}

TEST_CASE("an error ends the dump, whichever message brings it") {
  nlmsgerr error{};
  error.error = -ENOENT;
  const Decoded refused = Decode(Message(NLMSG_ERROR, BytesOf(error)));
  CHECK(refused.part.done);
  CHECK(refused.part.error == ENOENT);
  CHECK(Decode(Message(NLMSG_DONE, BytesOf(-ENOMEM))).part.error == ENOMEM);
  CHECK(Decode(Message(NLMSG_DONE, "")).part.error == 0);
}

TEST_CASE("an interrupted dump is told from a whole one") {
  CHECK_FALSE(Decode(SocketMessage(1)).part.interrupted);
  CHECK(Decode(Message(NLMSG_DONE, BytesOf(0), NLM_F_MULTI | NLM_F_DUMP_INTR)).part.interrupted);
}

TEST_CASE("answers to another request, and messages of other kinds, are skipped") {
  const Decoded decoded =
      Decode(Message(TCPDIAG_GETSOCK, Socket(TCP_LISTEN, 1), NLM_F_MULTI, kSequence - 1) +
             Message(NLMSG_DONE, BytesOf(0), NLM_F_MULTI, kSequence - 1) +
             Message(NLMSG_NOOP, "abcd") + SocketMessage(2));
  REQUIRE(decoded.sockets.size() == 1);
  CHECK(decoded.sockets[0].local.port() == 2);
  CHECK_FALSE(decoded.part.done);
}

TEST_CASE("whatever does not fit its own length is left alone") {
  const std::string whole = SocketMessage(1, Attribute(INET_DIAG_SKV6ONLY, "\1"));
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK(Decode(whole.substr(0, size)).sockets.empty());
  }
  CHECK(Decode(whole).sockets.at(0).v6_only);

  SUBCASE("a message too short for a socket") {
    CHECK(Decode(Message(TCPDIAG_GETSOCK, "short") + SocketMessage(2)).sockets.size() == 1);
  }
  SUBCASE("a message that says it is shorter than its header") {
    nlmsghdr header{};
    header.nlmsg_len = 3;
    CHECK(Decode(BytesOf(header) + SocketMessage(2)).sockets.empty());
  }
  SUBCASE("an attribute longer than its message") {
    const nlattr attribute{100, INET_DIAG_INFO};
    const Decoded decoded = Decode(SocketMessage(1, BytesOf(attribute)) + SocketMessage(2));
    REQUIRE(decoded.sockets.size() == 2);
    CHECK_FALSE(decoded.sockets[0].last_sent_ms);
  }
  SUBCASE("an attribute shorter than its header") {
    const nlattr attribute{0, INET_DIAG_INFO};
    CHECK(Decode(SocketMessage(1, BytesOf(attribute))).sockets.size() == 1);
  }
  SUBCASE("a family that is neither IPv4 nor IPv6") {
    inet_diag_msg message{};
    message.idiag_family = AF_UNIX;
    CHECK(Decode(Message(TCPDIAG_GETSOCK, BytesOf(message))).sockets.empty());
  }
}

}  // namespace
}  // namespace modal::health
