// The two decoders of socket tables. Their bytes come from the kernel, or from whatever stands in
// for it in a sandbox. The first byte of the input chooses the decoder.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "agent/base/check.h"
#include "healthcheck/proc_net_tcp.h"
#include "healthcheck/sock_diag.h"

namespace {

using modal::health::TcpSocket;

void Examine(const std::vector<TcpSocket>& sockets) {
  for (const TcpSocket& socket : sockets) {
    MODAL_CHECK(!socket.local.ToString().empty());
    MODAL_CHECK(!(socket.local.is_any() && socket.local.is_loopback()));
    if (!socket.local.is_ipv6()) MODAL_CHECK(socket.local.is_ipv4());
  }
}

void ReadText(std::string_view text) {
  const std::vector<TcpSocket> all = modal::health::ParseProcNetTcp(text, ~0U, 0);
  Examine(all);
  // Fewer states or one port show some of the same.
  size_t listening = 0;
  size_t on_port = 0;
  for (const TcpSocket& socket : all) {
    if (socket.state == TCP_LISTEN) ++listening;
    if (socket.local.port() == 8000) ++on_port;
  }
  MODAL_CHECK(modal::health::ParseProcNetTcp(text, modal::health::kListening, 0).size() ==
              listening);
  MODAL_CHECK(modal::health::ParseProcNetTcp(text, ~0U, 8000).size() == on_port);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  if (data[0] % 2 == 0) {
    ReadText({reinterpret_cast<const char*>(data + 1), size - 1});
  } else {
    std::vector<TcpSocket> sockets;
    (void)modal::health::DecodeDump(std::span(data + 1, size - 1), 0, sockets);
    Examine(sockets);
  }
  return 0;
}
