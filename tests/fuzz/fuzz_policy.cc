// What strangers write about themselves, and what an operator writes about tokens: whatever the
// bytes, nothing crashes, nobody is believed who may not be, and what goes on to the server can
// neither end a line nor be read in another way than ours.
//
// The first byte chooses what the rest is: a tokens file, names of a request, headers about the
// client, or headers of a connection.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/check.h"
#include "agent/base/strings.h"
#include "agent/policy/client_address.h"
#include "agent/policy/hop_by_hop.h"
#include "agent/policy/request_id.h"
#include "agent/policy/tokens.h"

using namespace modal;
using namespace modal::policy;

namespace {

void FuzzTokens(const std::string& text) {
  const Result<std::vector<TokenRecord>> records = ParseTokens(text, "tokens");
  if (!records) {
    MODAL_CHECK(records.error().message().starts_with("tokens:"));
    return;
  }
  MODAL_CHECK(!records->empty());
  for (const TokenRecord& record : *records) {
    MODAL_CHECK(std::find(std::begin(record.environment), std::end(record.environment), '\0') !=
                std::end(record.environment));
  }
  // Each line's key is in the table, and this is nobody's secret.
  const TokenTable table(*records);
  for (const std::string& line : Split(text, '\n')) {
    const std::string key(Trim(line).substr(0, Trim(line).find(':')));
    MODAL_CHECK(table.Check(key, "not the secret", "") == TokenVerdict::kUnknown);
  }
}

void FuzzNames(const std::string& text) {
  if (IsRequestId(text)) {
    MODAL_CHECK(text.find_first_of(" \t\r\n\"\\,;<>") == std::string::npos);
  }
  const std::string_view values[] = {text};
  const std::string_view kept = TraceParentToKeep(values);
  MODAL_CHECK(kept.empty() || (kept == text && IsTraceParent(text)));
  if (IsTraceParent(text)) {
    MODAL_CHECK(text.find_first_of("\r\n ,") == std::string::npos);
    MODAL_CHECK(TraceIdOf(text).find_first_not_of("0123456789abcdef") == std::string_view::npos);
  }
}

Address AddressOf(std::string_view text) {
  const std::optional<Address> address = ParseAddress(text);
  MODAL_CHECK(address);
  return *address;
}

// Lines of which the first character says to which header they belong.
struct Said {
  std::vector<std::string_view> lists[4];

  explicit Said(std::string_view text) {
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      if (end > 0) lists[text[0] & 3].push_back(text.substr(1, end - 1));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }
  ForwardedHeaders headers() const { return {lists[0], lists[1], lists[2], lists[3]}; }
};

std::string_view ValueOf(std::string_view lines, std::string_view name) {
  const size_t at = lines.find(name);
  MODAL_CHECK(at != std::string_view::npos);
  lines.remove_prefix(at + name.size());
  return lines.substr(0, lines.find("\r\n"));
}

void CheckLines(std::string_view lines) {
  MODAL_CHECK(lines.ends_with("\r\n"));
  size_t count = 0;
  while (!lines.empty()) {
    const size_t end = lines.find("\r\n");
    MODAL_CHECK(end != std::string_view::npos);
    for (const char c : lines.substr(0, end)) {
      MODAL_CHECK(c == '\t' || (static_cast<uint8_t>(c) >= ' ' && c != 0x7f));
    }
    lines.remove_prefix(end + 2);
    ++count;
  }
  MODAL_CHECK(count >= 2 && count <= 4);
}

void FuzzForwarded(const std::string& text) {
  const Result<std::vector<Network>> trusted = ParseNetworks("10.0.0.0/8,fd00::/8");
  MODAL_CHECK(trusted.ok());
  const Said said(text);
  // From a stranger: as if it had said nothing.
  const Address stranger = AddressOf("192.0.2.1");
  const Client believed = FindClient(*trusted, stranger, said.headers());
  MODAL_CHECK(believed.address == stranger && !believed.peer_trusted);
  std::string with, without;
  const Hop direct{stranger, "http", "a:80"};
  AppendForwardedLines(with, direct, believed, said.headers(), *trusted);
  AppendForwardedLines(without, direct, believed, {}, *trusted);
  MODAL_CHECK(with == without);

  // From a trusted proxy, which adds the address of its own peer: nothing left of that counts.
  const Address proxy = AddressOf("10.0.0.1");
  Said added = said;
  added.lists[0].push_back("203.0.113.9");
  const Client seen = FindClient(*trusted, proxy, added.headers());
  MODAL_CHECK(seen.address == AddressOf("203.0.113.9"));
  Said forwarded = said;
  forwarded.lists[0].clear();
  forwarded.lists[3].push_back("for=203.0.113.9;proto=https");
  MODAL_CHECK(FindClient(*trusted, proxy, forwarded.headers()).address == AddressOf("203.0.113.9"));

  // Whoever reads what we send finds the same client as we do.
  for (const Said* one : {&said, &std::as_const(added), &std::as_const(forwarded)}) {
    const Client client = FindClient(*trusted, proxy, one->headers());
    std::string lines;
    AppendForwardedLines(lines, {proxy, "http", "a:80"}, client, one->headers(), *trusted);
    CheckLines(lines);
    const std::string_view list[] = {ValueOf(lines, "X-Forwarded-For: ")};
    const std::string_view elements[] = {ValueOf(lines, "\r\nForwarded: ")};
    const Client by_list = FindClient(*trusted, proxy, {list, {}, {}, {}});
    const Client by_elements = FindClient(*trusted, proxy, {{}, {}, {}, elements});
    MODAL_CHECK(by_list.address == client.address);
    MODAL_CHECK(by_elements.address == client.address);
  }

  const Result<std::vector<Network>> networks = ParseNetworks(text);
  if (!networks) return;
  MODAL_CHECK(!networks->empty() && networks->size() <= kMostNetworks);
  for (const Network& network : *networks) {
    Address address;
    std::copy(std::begin(network.address), std::end(network.address), address.begin());
    // A network of IPv6 that begins with the mapped addresses' zeros holds no IPv4.
    MODAL_CHECK(IsTrusted(*networks, address) || (IsIpv4(address) && network.prefix < 96));
    std::string written;
    AppendAddress(written, address);
    MODAL_CHECK(AddressOf(written) == address);
  }
}

struct Header {
  std::string_view name;
  std::string_view value;
};

void FuzzHopByHop(const std::string& text) {
  std::vector<Header> headers;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    const size_t colon = std::min(line.find(':'), line.size());
    headers.push_back({line.substr(0, colon), line.substr(std::min(colon + 1, line.size()))});
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  headers.push_back({"Cookie", "a=b"});
  headers.push_back({"Modal-Secret", "ws"});
  const ConnectionOptions options(headers);
  for (const Header& header : headers) {
    const HeaderKind kind = KindOf(header.name);
    const bool asked = Passes(kind, header.name, header.value, options, Direction::kRequest);
    const bool answered = Passes(kind, header.name, header.value, options, Direction::kAnswer);
    if (kind == HeaderKind::kConnection || kind == HeaderKind::kModalSecret ||
        kind == HeaderKind::kTransferEncoding || kind == HeaderKind::kContentLength) {
      MODAL_CHECK(!asked && !answered);
    }
    if (WrittenByUs(kind)) MODAL_CHECK(!asked);
    if (header.name == "Cookie" || kind == HeaderKind::kHost) MODAL_CHECK(asked && answered);
    AcceptsTrailers(header.value);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] & 3) {
    case 0:
      FuzzTokens(text);
      break;
    case 1:
      FuzzNames(text);
      break;
    case 2:
      FuzzForwarded(text);
      break;
    case 3:
      FuzzHopByHop(text);
      break;
  }
  return 0;
}
