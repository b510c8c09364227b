#include "healthcheck/sock_diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace modal::health {
namespace {

// A part of a dump is never larger than 32 KiB (netlink_dump() in the kernel).
constexpr size_t kBufferSize = 32768;
constexpr int kReadings = 4;

struct Request {
  nlmsghdr header;
  inet_diag_req body;
};

// The part of the kernel's struct tcp_info that we read. Kernels append to it and never change what
// is there, so an older one sends a shorter one.
//   0..63: states and times (2.4) | 120 bytes_acked, 128 bytes_received (4.1) |
//   136 segs_out, segs_in (4.2) | 152 data_segs_in, 156 data_segs_out (4.6)
constexpr size_t kLastDataSent = 44;
constexpr size_t kLastDataReceived = 52;
constexpr size_t kBytesReceived = 128;
constexpr size_t kDataSegmentsIn = 152;
constexpr size_t kDataSegmentsOut = 156;

using Bytes = std::span<const uint8_t>;

template <class T>
std::optional<T> Load(Bytes bytes, size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

void TakeTcpInfo(Bytes info, TcpSocket& socket) {
  socket.last_sent_ms = Load<uint32_t>(info, kLastDataSent);
  socket.last_received_ms = Load<uint32_t>(info, kLastDataReceived);
  socket.bytes_received = Load<uint64_t>(info, kBytesReceived);
  socket.segments_received = Load<uint32_t>(info, kDataSegmentsIn);
  socket.segments_sent = Load<uint32_t>(info, kDataSegmentsOut);
}

void TakeAttributes(Bytes attributes, TcpSocket& socket) {
  while (const std::optional<nlattr> attribute = Load<nlattr>(attributes, 0)) {
    if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > attributes.size()) return;
    const Bytes value = attributes.subspan(NLA_HDRLEN, attribute->nla_len - NLA_HDRLEN);
    if (attribute->nla_type == INET_DIAG_INFO) TakeTcpInfo(value, socket);
    if (attribute->nla_type == INET_DIAG_SKV6ONLY && !value.empty()) socket.v6_only = value[0] != 0;
    const size_t step = NLA_ALIGN(attribute->nla_len);
    if (step >= attributes.size()) return;
    attributes = attributes.subspan(step);
  }
}

std::optional<TcpSocket> DecodeSocket(Bytes body) {
  const std::optional<inet_diag_msg> message = Load<inet_diag_msg>(body, 0);
  if (!message) return std::nullopt;
  if (message->idiag_family != AF_INET && message->idiag_family != AF_INET6) return std::nullopt;
  TcpSocket socket;
  socket.state = message->idiag_state;
  socket.local = SocketAddress::FromBytes(message->idiag_family, message->id.idiag_src,
                                          ntohs(message->id.idiag_sport));
  socket.remote = SocketAddress::FromBytes(message->idiag_family, message->id.idiag_dst,
                                           ntohs(message->id.idiag_dport));
  socket.receive_queue = message->idiag_rqueue;
  socket.send_queue = message->idiag_wqueue;
  socket.uid = message->idiag_uid;
  socket.inode = message->idiag_inode;
  TakeAttributes(body.subspan(NLMSG_ALIGN(sizeof(inet_diag_msg))), socket);
  return socket;
}

}  // namespace

DumpPart DecodeDump(Bytes datagram, uint32_t sequence, std::vector<TcpSocket>& sockets) {
  DumpPart part;
  while (const std::optional<nlmsghdr> header = Load<nlmsghdr>(datagram, 0)) {
    if (header->nlmsg_len < NLMSG_HDRLEN || header->nlmsg_len > datagram.size()) break;
    const Bytes body = datagram.subspan(NLMSG_HDRLEN, header->nlmsg_len - NLMSG_HDRLEN);
    if (header->nlmsg_seq == sequence) {
      if ((header->nlmsg_flags & NLM_F_DUMP_INTR) != 0) part.interrupted = true;
      if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
        // Both start with a negated errno; that of NLMSG_DONE may be missing and is mostly 0.
        part.done = true;
        // Negated as the unsigned number it is on the wire: INT_MIN has no counterpart.
        part.error = static_cast<int>(0U - Load<uint32_t>(body, 0).value_or(0));
        return part;
      }
      if (header->nlmsg_type == TCPDIAG_GETSOCK) {
        if (const std::optional<TcpSocket> socket = DecodeSocket(body)) sockets.push_back(*socket);
      }
    }
    const size_t step = NLMSG_ALIGN(header->nlmsg_len);
    if (step >= datagram.size()) break;
    datagram = datagram.subspan(step);
  }
  return part;
}

SockDiag::SockDiag(UniqueFd netlink) : netlink_(std::move(netlink)), buffer_(kBufferSize) {}

Result<SockDiag> SockDiag::Open() {
  UniqueFd netlink(
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
  if (!netlink) return Error::FromErrno("sock_diag: open a netlink socket", errno);
  return SockDiag(std::move(netlink));
}

Result<std::vector<TcpSocket>> SockDiag::Dump(StateSet states, uint16_t port) {
  std::vector<TcpSocket> sockets;
  for (int reading = 0; reading < kReadings; ++reading) {
    sockets.clear();
    Result<DumpPart> end = DumpOnce(states, port, sockets);
    if (!end) return std::move(end.error()).While("sock_diag");
    if (!end->interrupted) break;
  }
  return sockets;
}

Result<DumpPart> SockDiag::DumpOnce(StateSet states, uint16_t port,
                                    std::vector<TcpSocket>& sockets) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = TCPDIAG_GETSOCK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = ++sequence_;
  request.body.idiag_family = AF_INET;  // not looked at: this form always means both
  request.body.idiag_states = states;
  request.body.id.idiag_sport = htons(port);
  if ((states & kConnected) != 0) request.body.idiag_ext = 1U << (INET_DIAG_INFO - 1);
  if (::send(netlink_.get(), &request, sizeof request, 0) < 0) {
    return Error::FromErrno("send", errno);
  }

  bool interrupted = false;
  for (;;) {
    sockaddr_nl sender{};
    iovec space{buffer_.data(), buffer_.size()};
    msghdr message{};
    message.msg_name = &sender;
    message.msg_namelen = sizeof sender;
    message.msg_iov = &space;
    message.msg_iovlen = 1;
    // The kernel fills in the next part while it hands out this one, so there is always one to
    // read; if it had no memory for it, that is the error (ENOBUFS, ENOMEM) of the next read.
    const ssize_t size = ::recvmsg(netlink_.get(), &message, 0);
    if (size < 0) return Error::FromErrno("receive", errno);
    if ((message.msg_flags & MSG_TRUNC) != 0) return Error::FromErrno("receive", EMSGSIZE);
    if (size == 0) return Error::FromErrno("receive", EPROTO);
    if (sender.nl_pid != 0) continue;  // not from the kernel
    DumpPart part = DecodeDump({buffer_.data(), static_cast<size_t>(size)}, sequence_, sockets);
    interrupted |= part.interrupted;
    if (part.error != 0) return Error::FromErrno("dump", part.error);
    part.interrupted = interrupted;
    if (part.done) return part;
  }
}

}  // namespace modal::health
