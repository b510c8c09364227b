// Who the client is, and what the server is told about it: X-Forwarded-For, -Proto, -Host and
// Forwarded (RFC 7239). Pure; allocates nothing but what `out` needs to grow.
//
// A peer outside of --trusted-proxies is the client, and its own words about that are dropped. A
// trusted peer is believed, and so is each address that it names as long as that is trusted too:
// the client is the rightmost address that is not, or else the leftmost of all. What is no address
// ends the walk: nothing left of it is believed.
//
// X-Forwarded-For counts. Forwarded is looked at only where there is no X-Forwarded-For, and is
// passed on only where it tells of the same client: proxies that write one of them often let the
// other pass as it came, from whomever. So a trusted proxy must write or clean X-Forwarded-For.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/gateway_config.h"

namespace modal::policy {

// IPv6, or IPv4 mapped into it (::ffff:a.b.c.d).
using Address = std::array<uint8_t, 16>;

// "192.0.2.1" or "2001:db8::1", without brackets, port or zone.
std::optional<Address> ParseAddress(std::string_view text);
bool IsIpv4(const Address& address);
// "192.0.2.1" for a mapped one.
void AppendAddress(std::string& out, const Address& address);
// As a `for` of Forwarded: 192.0.2.1, "[2001:db8::1]".
void AppendForwardedNode(std::string& out, const Address& address);

// How many networks --trusted-proxies may name.
inline constexpr size_t kMostNetworks = sizeof(GatewayConfig::trusted) / sizeof(Network);

// "10.0.0.0/8, 192.0.2.1, fd00::/8". An Error says which one is bad, and what to write.
Result<std::vector<Network>> ParseNetworks(std::string_view list);

// IPv4 addresses are in networks of IPv4 only: ::/0 is not everybody.
bool IsTrusted(std::span<const Network> networks, const Address& address);

// The values of such headers as they came, one for each line, in their order.
struct ForwardedHeaders {
  std::span<const std::string_view> x_forwarded_for;
  std::span<const std::string_view> x_forwarded_proto;
  std::span<const std::string_view> x_forwarded_host;
  std::span<const std::string_view> forwarded;
};

// Where the client's address was found.
enum class ClientSource : uint8_t { kPeer, kXForwardedFor, kForwarded };

struct Client {
  Address address;
  bool peer_trusted;
  ClientSource source;
};

Client FindClient(std::span<const Network> trusted, const Address& peer,
                  const ForwardedHeaders& came);

// The hop from the peer to us.
struct Hop {
  Address peer;
  std::string_view scheme;  // "http"
  std::string_view host;    // of the request; may be empty
};

// Appends the lines for the server, each with its CR LF: what a trusted peer said and, behind it,
// the peer. `client` is what FindClient() says for the same peer and headers. A line never holds a
// control character, whatever came.
void AppendForwardedLines(std::string& out, const Hop& hop, const Client& client,
                          const ForwardedHeaders& came, std::span<const Network> trusted);

}  // namespace modal::policy
