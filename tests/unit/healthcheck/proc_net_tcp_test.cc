#include "healthcheck/proc_net_tcp.h"

#include <doctest/doctest.h>

#include <bit>
#include <string>

namespace modal::health {
namespace {

constexpr StateSet kEveryState = ~0U;

const std::string kHeading =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode                                                     \n";
const std::string kListener =
    "   0: 00000000:1F40 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 "
    "31337 1 0000000020f5fd55 100 0 0 10 0                       \n";
const std::string kOnIpv4 =
    "   1: 0100007F:1F40 0200000A:C001 01 0000000A:000000FF 02:000006D3 00000000    33        0 "
    "4294967297 2 00000000365a6da0 20 4 30 10 -1\n";
const std::string kOnIpv6 =
    "   2: 00000000000000000000000001000000:1F40 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000     0        0 8 1 000000008f1c9ad4 100 0 0 10 0\n";
const std::string kMapped =
    "   3: 0000000000000000FFFF00000100007F:1F41 0000000000000000FFFF00000200000A:C002 08 "
    "00000000:00000000 00:00000000 00000000     0        0 0 1 000000008f1c9ad4 100 0 0 10 0\n";

// The lines above are as little-endian machines print them.
constexpr bool kLinesFit = std::endian::native == std::endian::little;

TEST_CASE("a listener and a connection are read with everything that the text tells") {
  if (!kLinesFit) return;
  const auto sockets =
      ParseProcNetTcp(kHeading + kListener + kOnIpv4 + kOnIpv6 + kMapped, kEveryState, 0);
  REQUIRE(sockets.size() == 4);
  CHECK(sockets[0].state == TCP_LISTEN);
  CHECK(sockets[0].local.ToString() == "0.0.0.0:8000");
  CHECK(sockets[0].receive_queue == 3);
  CHECK(sockets[0].uid == 1000);
  CHECK(sockets[0].inode == 31337);

  CHECK(sockets[1].state == TCP_ESTABLISHED);
  CHECK(sockets[1].local.ToString() == "127.0.0.1:8000");
  CHECK(sockets[1].remote.ToString() == "10.0.0.2:49153");
  CHECK(sockets[1].send_queue == 10);
  CHECK(sockets[1].receive_queue == 255);
  CHECK(sockets[1].inode == 4294967297);
  CHECK_FALSE(sockets[1].last_sent_ms);

  CHECK(sockets[2].local.ToString() == "[::1]:8000");
  CHECK(sockets[3].state == TCP_CLOSE_WAIT);
  CHECK(sockets[3].local.ToString() == "127.0.0.1:8001");
  CHECK(sockets[3].local.is_loopback());
  CHECK(sockets[3].local.is_ipv4());
}

TEST_CASE("only the states and the port that were asked for are kept") {
  const std::string text = kHeading + kListener + kOnIpv4 + kOnIpv6 + kMapped;
  CHECK(ParseProcNetTcp(text, kListening, 0).size() == 2);
  CHECK(ParseProcNetTcp(text, kConnected, 0).size() == 2);
  CHECK(ParseProcNetTcp(text, kConnected, 8001).size() == 1);
  CHECK(ParseProcNetTcp(text, kListening, 8001).empty());
}

TEST_CASE("a damaged line is skipped and the next one read") {
  const auto replaced = [](const std::string& what, const std::string& with) {
    std::string line = kListener;
    line.replace(line.find(what), what.size(), with);
    return ParseProcNetTcp(line + kListener, kEveryState, 0).size();
  };
  CHECK(replaced("1000", "1001") == 2);
  CHECK(replaced("00000000:1F40", "0000000:1F40") == 1);
  CHECK(replaced("00000000:1F40", "0000000g:1F40") == 1);
  CHECK(replaced("00000000:1F40", "00000000:1F40F") == 1);
  CHECK(replaced("00000000:1F40", "00000000:") == 1);
  CHECK(replaced("00000000:0000", "00000000") == 1);
  CHECK(replaced(" 0A ", " -1 ") == 1);
  CHECK(replaced(" 0A ", " FF ") == 1);
  CHECK(replaced(" 0A ", " 10A ") == 1);
  CHECK(replaced("00000000:00000003", "0000000000000003") == 1);
  CHECK(replaced("  1000 ", "  user ") == 1);
  CHECK(replaced(" 31337 1 ", " 99999999999999999999 1 ") == 1);
}

TEST_CASE("a text may end anywhere: what is whole is read, and nothing else") {
  const std::string whole = kHeading + kOnIpv4;
  const std::string text = whole + kListener;
  for (size_t size = 0; size < text.size(); ++size) {
    CHECK(ParseProcNetTcp(text.substr(0, size), kEveryState, 0).size() ==
          (size >= whole.size() ? 1 : 0));
  }
  CHECK(ParseProcNetTcp(text, kEveryState, 0).size() == 2);
}

}  // namespace
}  // namespace modal::health
