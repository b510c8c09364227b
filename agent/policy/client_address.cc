#include "agent/policy/client_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "agent/base/strings.h"

namespace modal::policy {
namespace {

constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr uint8_t kMappedBits = 96;

std::string_view TrimBlanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool IsAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// tchar of RFC 9110, 5.6.2.
bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return IsAlphanumeric(c) ||
           (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
  });
}

// A URI's scheme.
bool IsScheme(std::string_view text) {
  return !text.empty() && text.size() <= 16 && !(text[0] >= '0' && text[0] <= '9') &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return IsAlphanumeric(c) || c == '+' || c == '-' || c == '.'; });
}

// What can stand in a Host header: no blank, comma, quote or backslash, no control character.
bool IsHost(std::string_view text) {
  return !text.empty() && text.size() <= 512 && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != ',';
  });
}

// Nothing that could end a line.
bool IsClean(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\t' || (static_cast<uint8_t>(c) >= ' ' && c != 0x7f);
  });
}

bool AreClean(std::span<const std::string_view> values) {
  return std::all_of(values.begin(), values.end(), IsClean);
}

bool IsPort(std::string_view text) {
  const std::optional<uint64_t> port = ParseUnsigned(text);
  return port && text.size() <= 5 && *port <= 65535;
}

// An address as proxies write it: with or without brackets and port.
std::optional<Address> ParseNode(std::string_view text) {
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    const std::string_view rest = text.substr(close + 1);
    if (!rest.empty() && (rest[0] != ':' || !IsPort(rest.substr(1)))) return std::nullopt;
    const std::string_view inner = text.substr(1, close - 1);
    if (inner.find(':') == std::string_view::npos) return std::nullopt;
    return ParseAddress(inner);
  }
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos && text.find(':', colon + 1) == std::string_view::npos) {
    if (!IsPort(text.substr(colon + 1))) return std::nullopt;
    text = text.substr(0, colon);
  }
  return ParseAddress(text);
}

// The elements of a list header from right to left, over all its lines. A comma in a quoted string
// parts nothing.
class Backwards {
 public:
  explicit Backwards(std::span<const std::string_view> lines) : lines_(lines) {
    if (!lines_.empty()) rest_ = lines_.back();
  }

  std::optional<std::string_view> Next() {
    while (!lines_.empty()) {
      const size_t start = StartOfLast(rest_);
      const std::string_view element = TrimBlanks(rest_.substr(start));
      if (start > 0) {
        rest_ = rest_.substr(0, start - 1);
      } else {
        lines_ = lines_.first(lines_.size() - 1);
        rest_ = lines_.empty() ? std::string_view() : lines_.back();
      }
      if (!element.empty()) return element;
    }
    return std::nullopt;
  }

 private:
  static size_t StartOfLast(std::string_view list) {
    bool quoted = false;
    for (size_t at = list.size(); at > 0; --at) {
      if (list[at - 1] == '"' && !IsEscaped(list, at - 1)) quoted = !quoted;
      if (list[at - 1] == ',' && !quoted) return at;
    }
    return 0;
  }

  static bool IsEscaped(std::string_view list, size_t quote) {
    size_t backslashes = 0;
    while (backslashes < quote && list[quote - 1 - backslashes] == '\\') ++backslashes;
    return backslashes % 2 == 1;
  }

  std::span<const std::string_view> lines_;
  std::string_view rest_;
};

// One element of Forwarded. Values are without their quotes; one with a backslash in it is none.
struct ForwardedElement {
  std::string_view node;  // `for`
  std::string_view proto;
  std::string_view host;
};

bool IsParameter(std::string_view name, std::string_view lower) {
  return name.size() == lower.size() &&
         std::equal(name.begin(), name.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? static_cast<char>(a | 0x20) : a) == b;
         });
}

// Reads the value at the start of `rest`, a token or a quoted string, and takes it away.
std::optional<std::string_view> TakeValue(std::string_view& rest) {
  if (!rest.starts_with('"')) {
    const std::string_view value = TrimBlanks(rest.substr(0, rest.find(';')));
    rest.remove_prefix(std::min(rest.find(';'), rest.size()));
    // Brackets and colons need quotes, but not everybody knows.
    const bool valid = !value.empty() && std::all_of(value.begin(), value.end(), [](char c) {
      return c == '[' || c == ']' || c == ':' || IsToken({&c, 1});
    });
    return valid ? std::optional(value) : std::nullopt;
  }
  const size_t close = rest.find('"', 1);
  if (close == std::string_view::npos) return std::nullopt;
  const std::string_view value = rest.substr(1, close - 1);
  if (value.find('\\') != std::string_view::npos) return std::nullopt;
  rest = TrimBlanks(rest.substr(close + 1));
  return rest.empty() || rest.starts_with(';') ? std::optional(value) : std::nullopt;
}

// RFC 7239, section 4. Nothing for what is not of that form, or says something twice.
std::optional<ForwardedElement> ParseElement(std::string_view rest) {
  ForwardedElement element;
  while (!rest.empty()) {
    const size_t equals = rest.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view name = rest.substr(0, equals);
    if (!IsToken(name)) return std::nullopt;
    rest.remove_prefix(equals + 1);
    const std::optional<std::string_view> value = TakeValue(rest);
    if (!value) return std::nullopt;
    std::string_view* const to = IsParameter(name, "for")     ? &element.node
                                 : IsParameter(name, "proto") ? &element.proto
                                 : IsParameter(name, "host")  ? &element.host
                                                              : nullptr;
    if (to && to->data()) return std::nullopt;
    if (to) *to = *value;
    if (rest.starts_with(';')) rest = TrimBlanks(rest.substr(1));
  }
  return element;
}

// The addresses that are believed, from the peer to the client.
class Chain {
 public:
  explicit Chain(const Address& peer) { addresses_[0] = peer; }

  const Address& client() const { return addresses_[size_ - 1]; }
  // Whether somebody behind the peer is believed.
  bool moved() const { return size_ > 1; }
  std::span<const Address> addresses() const { return std::span(addresses_).first(size_); }
  // Of a very long chain those between are forgotten, never the client.
  void Add(const Address& address) {
    if (size_ < addresses_.size()) ++size_;
    addresses_[size_ - 1] = address;
  }

 private:
  std::array<Address, 32> addresses_;
  size_t size_ = 1;
};

Chain FollowXForwardedFor(std::span<const Network> trusted, const Address& peer,
                          std::span<const std::string_view> lines) {
  Chain chain(peer);
  Backwards list(lines);
  while (IsTrusted(trusted, chain.client())) {
    const std::optional<std::string_view> text = list.Next();
    const std::optional<Address> address = text ? ParseNode(*text) : std::nullopt;
    if (!address) break;
    chain.Add(*address);
  }
  return chain;
}

// `told` becomes the element about the client; if there is none, the peer's own, if that is one.
Chain FollowForwarded(std::span<const Network> trusted, const Address& peer,
                      std::span<const std::string_view> lines, ForwardedElement& told) {
  Chain chain(peer);
  Backwards list(lines);
  while (IsTrusted(trusted, chain.client())) {
    const std::optional<std::string_view> text = list.Next();
    const std::optional<ForwardedElement> element = text ? ParseElement(*text) : std::nullopt;
    if (!element) break;
    const std::optional<Address> address = ParseNode(element->node);
    if (address || !chain.moved()) told = *element;
    if (!address) break;
    chain.Add(*address);
  }
  return chain;
}

bool IsWellFormedForwarded(std::span<const std::string_view> lines) {
  Backwards list(lines);
  while (const std::optional<std::string_view> element = list.Next()) {
    if (!ParseElement(*element)) return false;
  }
  return true;
}

// The rightmost value of a header that the trusted peer wrote.
std::string_view Last(std::span<const std::string_view> lines) {
  return Backwards(lines).Next().value_or(std::string_view());
}

bool HasValue(std::span<const std::string_view> lines) { return !Last(lines).empty(); }

void AppendValues(std::string& out, std::span<const std::string_view> lines) {
  for (const std::string_view line : lines) {
    const std::string_view value = TrimBlanks(line);
    if (value.empty()) continue;
    out += value;
    out += ", ";
  }
}

// "a, b, peer": those behind the peer, and the peer.
void AppendAddresses(std::string& out, const Chain& chain) {
  const std::span<const Address> addresses = chain.addresses();
  for (size_t i = addresses.size(); i-- > 0;) {
    AppendAddress(out, addresses[i]);
    if (i > 0) out += ", ";
  }
}

void AppendForwardedElement(std::string& out, const Address& node, std::string_view host,
                            std::string_view proto) {
  out += "for=";
  AppendForwardedNode(out, node);
  if (IsHost(host)) {
    const bool token = IsToken(host);
    out += token ? ";host=" : ";host=\"";
    out += host;
    if (!token) out += '"';
  }
  if (IsScheme(proto)) {
    out += ";proto=";
    out += proto;
  }
}

void AppendForwardedElements(std::string& out, const Chain& chain, std::string_view host,
                             std::string_view proto) {
  AppendForwardedElement(out, chain.client(), host, proto);
  const std::span<const Address> addresses = chain.addresses();
  for (size_t i = addresses.size() - 1; i-- > 0;) {
    out += ", ";
    AppendForwardedElement(out, addresses[i], {}, {});
  }
}

Address WithoutHostBits(Address address, unsigned prefix) {
  for (unsigned bit = prefix; bit < address.size() * 8; ++bit) {
    address[bit / 8] &= static_cast<uint8_t>(~(0x80u >> bit % 8));
  }
  return address;
}

Result<Network> ParseNetwork(std::string_view text) {
  const size_t slash = text.find('/');
  const std::optional<Address> address = ParseAddress(text.substr(0, slash));
  if (!address) return Error("not a network; write 10.0.0.0/8, 192.0.2.1 or fd00::/8");
  // In its own family's bits; a mapped address that was written as IPv6 has those of IPv6.
  const bool ipv4 = text.find(':') == std::string_view::npos;
  const unsigned family_bits = ipv4 ? 32 : 128;
  unsigned prefix = family_bits;
  if (slash != std::string_view::npos) {
    const std::optional<uint64_t> given = ParseUnsigned(text.substr(slash + 1));
    if (!given || *given > family_bits) {
      return Error(Concat("behind the / stands how many bits count, 0 to ", family_bits));
    }
    prefix = static_cast<unsigned>(*given);
  }
  if (ipv4) prefix += kMappedBits;
  const Address network = WithoutHostBits(*address, prefix);
  if (network != *address) {
    std::string meant;
    AppendAddress(meant, network);
    return Error(Concat("bits are set behind the first ", text.substr(slash + 1), "; write ", meant,
                        text.substr(slash)));
  }
  Network result;
  std::copy(network.begin(), network.end(), result.address);
  result.prefix = static_cast<uint8_t>(prefix);
  return result;
}

}  // namespace

std::optional<Address> ParseAddress(std::string_view text) {
  char terminated[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof terminated || text.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  terminated[text.copy(terminated, text.size())] = '\0';
  Address address;
  if (text.find(':') != std::string_view::npos) {
    if (::inet_pton(AF_INET6, terminated, address.data()) != 1) return std::nullopt;
    return address;
  }
  std::copy(kMapped.begin(), kMapped.end(), address.begin());
  if (::inet_pton(AF_INET, terminated, address.data() + kMapped.size()) != 1) return std::nullopt;
  return address;
}

bool IsIpv4(const Address& address) {
  return std::equal(kMapped.begin(), kMapped.end(), address.begin());
}

void AppendAddress(std::string& out, const Address& address) {
  char text[INET6_ADDRSTRLEN];
  if (!IsIpv4(address)) {
    out += ::inet_ntop(AF_INET6, address.data(), text, sizeof text);
    return;
  }
  char* end = text;
  for (size_t i = kMapped.size(); i < address.size(); ++i) {
    if (i > kMapped.size()) *end++ = '.';
    end = std::to_chars(end, text + sizeof text, address[i]).ptr;
  }
  out.append(text, end);
}

void AppendForwardedNode(std::string& out, const Address& address) {
  const bool ipv4 = IsIpv4(address);
  if (!ipv4) out += "\"[";
  AppendAddress(out, address);
  if (!ipv4) out += "]\"";
}

bool IsTrusted(std::span<const Network> networks, const Address& address) {
  const bool ipv4 = IsIpv4(address);
  return std::any_of(networks.begin(), networks.end(), [&](const Network& network) {
    if (ipv4 && network.prefix < kMappedBits) return false;
    const size_t bytes = network.prefix / 8;
    if (bytes > address.size() || std::memcmp(network.address, address.data(), bytes) != 0) {
      return false;
    }
    const unsigned bits = network.prefix % 8;
    if (bits == 0 || bytes == address.size()) return true;
    return ((network.address[bytes] ^ address[bytes]) >> (8 - bits)) == 0;
  });
}

Client FindClient(std::span<const Network> trusted, const Address& peer,
                  const ForwardedHeaders& came) {
  if (!IsTrusted(trusted, peer)) return {peer, false, ClientSource::kPeer};
  if (HasValue(came.x_forwarded_for)) {
    const Chain chain = FollowXForwardedFor(trusted, peer, came.x_forwarded_for);
    return {chain.client(), true,
            chain.moved() ? ClientSource::kXForwardedFor : ClientSource::kPeer};
  }
  ForwardedElement told;
  const Chain chain = FollowForwarded(trusted, peer, came.forwarded, told);
  return {chain.client(), true, chain.moved() ? ClientSource::kForwarded : ClientSource::kPeer};
}

void AppendForwardedLines(std::string& out, const Hop& hop, const Client& client,
                          const ForwardedHeaders& came, std::span<const Network> trusted) {
  Chain chain(hop.peer);
  std::string_view proto;
  std::string_view host;
  bool keeps_for = false;        // what came as X-Forwarded-For goes on, with the peer behind it
  bool keeps_forwarded = false;  // likewise
  if (client.peer_trusted) {
    ForwardedElement told;
    const Chain forwarded = FollowForwarded(trusted, hop.peer, came.forwarded, told);
    const bool has_for = HasValue(came.x_forwarded_for);
    chain = has_for ? FollowXForwardedFor(trusted, hop.peer, came.x_forwarded_for) : forwarded;
    keeps_for = has_for && AreClean(came.x_forwarded_for);
    keeps_forwarded = HasValue(came.forwarded) && forwarded.client() == client.address &&
                      AreClean(came.forwarded) && IsWellFormedForwarded(came.forwarded);
    proto = Last(came.x_forwarded_proto);
    host = Last(came.x_forwarded_host);
    if (!IsScheme(proto) && !has_for) proto = told.proto;
    if (!IsHost(host) && !has_for) host = told.host;
  }
  if (!IsScheme(proto)) proto = hop.scheme;
  if (!IsHost(host)) host = hop.host;

  out += "X-Forwarded-For: ";
  if (keeps_for) {
    AppendValues(out, came.x_forwarded_for);
    AppendAddress(out, hop.peer);
  } else {
    AppendAddresses(out, chain);
  }
  if (IsScheme(proto)) {
    out += "\r\nX-Forwarded-Proto: ";
    out += proto;
  }
  if (IsHost(host)) {
    out += "\r\nX-Forwarded-Host: ";
    out += host;
  }
  out += "\r\nForwarded: ";
  if (keeps_forwarded) {
    AppendValues(out, came.forwarded);
    AppendForwardedElement(out, hop.peer, hop.host, hop.scheme);
  } else {
    AppendForwardedElements(out, chain, host, proto);
  }
  out += "\r\n";
}

Result<std::vector<Network>> ParseNetworks(std::string_view list) {
  std::vector<Network> networks;
  for (const std::string& element : Split(list, ',')) {
    const std::string_view text = Trim(element);
    if (text.empty()) continue;
    Result<Network> network = ParseNetwork(text);
    if (!network) return std::move(network.error()).While(text);
    networks.push_back(*network);
  }
  if (networks.empty()) return Error("there is no network in it; write 10.0.0.0/8 or fd00::/8");
  if (networks.size() > kMostNetworks) {
    return Error(Concat("more than ", kMostNetworks, " networks; join some to larger ones"));
  }
  return networks;
}

}  // namespace modal::policy
