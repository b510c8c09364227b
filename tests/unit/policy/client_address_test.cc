#include "agent/policy/client_address.h"

#include <doctest/doctest.h>

#include "agent/base/strings.h"

namespace modal::policy {
namespace {

using Lines = std::vector<std::string_view>;

Address AddressOf(std::string_view text) {
  const std::optional<Address> address = ParseAddress(text);
  REQUIRE(address);
  return *address;
}

std::string Text(const Address& address) {
  std::string out;
  AppendAddress(out, address);
  return out;
}

std::vector<Network> NetworksOf(std::string_view list) {
  const auto networks = ParseNetworks(list);
  REQUIRE(networks.ok());
  return *networks;
}

std::string ErrorOf(std::string_view list) {
  const auto networks = ParseNetworks(list);
  return networks ? "" : networks.error().message();
}

// A request: who sent it, and what it says about its way.
struct Came {
  std::string_view peer;
  Lines x_forwarded_for = {};
  Lines forwarded = {};
  Lines proto = {};
  Lines host = {};

  ForwardedHeaders headers() const { return {x_forwarded_for, proto, host, forwarded}; }
};

constexpr std::string_view kTrusted = "10.0.0.0/8, fd00::/8";

Client ClientOf(const Came& came, std::string_view trusted = kTrusted) {
  return FindClient(NetworksOf(trusted), AddressOf(came.peer), came.headers());
}

std::string ClientText(const Came& came) { return Text(ClientOf(came).address); }

// The lines for the server, as "for | proto | host | forwarded".
std::string Sent(const Came& came) {
  const std::vector<Network> trusted = NetworksOf(kTrusted);
  const Address peer = AddressOf(came.peer);
  const Client client = FindClient(trusted, peer, came.headers());
  std::string out;
  AppendForwardedLines(out, {peer, "http", "app:8080"}, client, came.headers(), trusted);
  std::string text;
  constexpr std::string_view kNames[] = {
      "X-Forwarded-For: ", "X-Forwarded-Proto: ", "X-Forwarded-Host: ", "Forwarded: "};
  std::string_view rest = out;
  for (const std::string_view name : kNames) {
    REQUIRE(rest.starts_with(name));
    rest.remove_prefix(name.size());
    const size_t end = rest.find("\r\n");
    REQUIRE(end != std::string_view::npos);
    text += Concat(text.empty() ? "" : " | ", rest.substr(0, end));
    rest.remove_prefix(end + 2);
  }
  CHECK(rest.empty());
  return text;
}

TEST_CASE("addresses are read and written as people do") {
  CHECK(Text(AddressOf("192.0.2.1")) == "192.0.2.1");
  CHECK(Text(AddressOf("255.255.255.255")) == "255.255.255.255");
  CHECK(Text(AddressOf("::ffff:192.0.2.1")) == "192.0.2.1");
  CHECK(Text(AddressOf("2001:DB8:0::1")) == "2001:db8::1");
  CHECK(IsIpv4(AddressOf("0.0.0.0")));
  CHECK_FALSE(IsIpv4(AddressOf("::1")));
  for (const char* bad : {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4x", "::1%eth0", "[::1]",
                          "1.2.3.4:80", "localhost", "12345::", "1.2.3.4 "}) {
    CHECK_FALSE(ParseAddress(bad));
  }
  CHECK_FALSE(ParseAddress(std::string_view("1.2.3.4\0", 8)));
  CHECK_FALSE(ParseAddress(std::string(1000, ':')));
  std::string node;
  AppendForwardedNode(node, AddressOf("2001:db8::1"));
  CHECK(node == "\"[2001:db8::1]\"");
}

TEST_CASE("networks hold what their prefix says") {
  const auto trusted = NetworksOf("10.1.0.0/16,192.0.2.1 , fd00::/9,2001:db8::5");
  CHECK(trusted.size() == 4);
  CHECK(IsTrusted(trusted, AddressOf("10.1.255.255")));
  CHECK(IsTrusted(trusted, AddressOf("::ffff:10.1.0.0")));
  CHECK(IsTrusted(trusted, AddressOf("192.0.2.1")));
  CHECK(IsTrusted(trusted, AddressOf("fd7f::1")));
  CHECK(IsTrusted(trusted, AddressOf("2001:db8::5")));
  CHECK_FALSE(IsTrusted(trusted, AddressOf("10.2.0.0")));
  CHECK_FALSE(IsTrusted(trusted, AddressOf("192.0.2.2")));
  CHECK_FALSE(IsTrusted(trusted, AddressOf("fd80::1")));
  CHECK_FALSE(IsTrusted(trusted, AddressOf("2001:db8::4")));
  CHECK_FALSE(IsTrusted({}, AddressOf("10.1.0.0")));
}

TEST_CASE("everybody of one family is not everybody of the other") {
  CHECK(IsTrusted(NetworksOf("::/0"), AddressOf("2001:db8::1")));
  CHECK_FALSE(IsTrusted(NetworksOf("::/0"), AddressOf("192.0.2.1")));
  CHECK(IsTrusted(NetworksOf("0.0.0.0/0"), AddressOf("192.0.2.1")));
  CHECK_FALSE(IsTrusted(NetworksOf("0.0.0.0/0"), AddressOf("2001:db8::1")));
}

TEST_CASE("a bad network is named, with what to write") {
  CHECK(ErrorOf("10.0.0.0/8,ten") == "ten: not a network; write 10.0.0.0/8, 192.0.2.1 or fd00::/8");
  CHECK(ErrorOf("10.0.0.0/33") == "10.0.0.0/33: behind the / stands how many bits count, 0 to 32");
  CHECK(ErrorOf("fd00::/129").ends_with("0 to 128"));
  CHECK(ErrorOf("10.0.0.0/").ends_with("0 to 32"));
  CHECK(ErrorOf("10.0.0.0/-1").ends_with("0 to 32"));
  CHECK(ErrorOf("10.1.2.3/8") == "10.1.2.3/8: bits are set behind the first 8; write 10.0.0.0/8");
  CHECK(ErrorOf("fd00::1/8").ends_with("write fd00::/8"));
  CHECK(ErrorOf(" , ").starts_with("there is no network in it"));
  std::string many;
  for (size_t i = 0; i <= kMostNetworks; ++i) many += Concat("10.0.", i, ".0/24,");
  CHECK(ErrorOf(many).starts_with("more than 64 networks"));
}

TEST_CASE("an untrusted peer is the client, whatever it says") {
  const Came came{"192.0.2.7", {"1.1.1.1, 10.0.0.1"}, {"for=1.1.1.1"}, {"https"}, {"evil"}};
  const Client client = ClientOf(came);
  CHECK(Text(client.address) == "192.0.2.7");
  CHECK_FALSE(client.peer_trusted);
  CHECK(client.source == ClientSource::kPeer);
  CHECK(Sent(came) == "192.0.2.7 | http | app:8080 | for=192.0.2.7;host=\"app:8080\";proto=http");
  CHECK(Sent({"2001:db8::1"}) ==
        "2001:db8::1 | http | app:8080 | for=\"[2001:db8::1]\";host=\"app:8080\";proto=http");
}

TEST_CASE("behind trusted peers the client is the rightmost address that is not trusted") {
  CHECK(ClientText({"10.0.0.1", {"1.1.1.1"}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1", {"6.6.6.6, 1.1.1.1, 10.0.0.2"}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1", {"6.6.6.6", "1.1.1.1,fd00::2", "10.0.0.2"}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1", {"10.0.0.3,10.0.0.2"}}) == "10.0.0.3");
  CHECK(ClientText({"10.0.0.1", {"1.1.1.1:4711"}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1", {"[2001:db8::1]:4711"}}) == "2001:db8::1");
  CHECK(ClientText({"10.0.0.1", {"2001:db8::1"}}) == "2001:db8::1");
  CHECK(ClientText({"10.0.0.1", {", ,1.1.1.1, ,"}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1"}) == "10.0.0.1");
  CHECK(ClientText({"::ffff:10.0.0.1", {"1.1.1.1"}}) == "1.1.1.1");
}

TEST_CASE("nothing left of what is no address is believed") {
  CHECK(ClientText({"10.0.0.1", {"1.1.1.1, unknown"}}) == "10.0.0.1");
  CHECK(ClientText({"10.0.0.1", {"1.1.1.1, garbage, 10.0.0.2"}}) == "10.0.0.2");
  for (const char* bad : {"1.1.1.1:", "1.1.1.1:x", "1.1.1.1:99999", "[1.1.1.1]", "[::1", "::1]",
                          "[::1]x", "[::1]:", "\"1.1.1.1", "1.1.1.1;", "1.1.1.1 2.2.2.2"}) {
    CAPTURE(bad);
    CHECK(ClientText({"10.0.0.1", {bad}}) == "10.0.0.1");
  }
}

TEST_CASE("Forwarded is read where there is no X-Forwarded-For") {
  const Came came{
      "10.0.0.1", {}, {"for=6.6.6.6, For=\"[2001:db8::9]:80\";proto=https", "for=10.0.0.2"}};
  const Client client = ClientOf(came);
  CHECK(Text(client.address) == "2001:db8::9");
  CHECK(client.source == ClientSource::kForwarded);
  CHECK(ClientText({"10.0.0.1", {}, {"for=1.1.1.1;by=10.0.0.1;host=\"a,b;c\""}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1", {"2.2.2.2"}, {"for=1.1.1.1"}}) == "2.2.2.2");
  for (const char* bad :
       {"for", "for=", "=1.1.1.1", "for=1.1.1.1;for=2.2.2.2", "for=\"1.1.1.1", "for=1.1.1.1\"",
        "for=\"1.1.1.1\"x", "for =1.1.1.1", "for=_hidden", "for=unknown", "for=\"1.1.1\\.1\"",
        "for=1.1.1.1;x", "proto=http", "\"for=1.1.1.1"}) {
    CAPTURE(bad);
    CHECK(ClientText({"10.0.0.1", {}, {bad}}) == "10.0.0.1");
  }
}

TEST_CASE("a quote that a client leaves open hides nothing that a trusted proxy wrote") {
  CHECK(ClientText({"10.0.0.1", {}, {"for=\"6.6.6.6, for=1.1.1.1"}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1", {}, {"for=\"6.6.6.6, for=\"[2001:db8::1]\""}}) == "2001:db8::1");
  // A host that tries to break out of its quotes.
  CHECK(ClientText({"10.0.0.1", {}, {"for=1.1.1.1;host=\"a\\\",for=10.0.0.9,b=\\\"c\""}}) ==
        "10.0.0.1");
}

TEST_CASE("what trusted peers said is added to") {
  CHECK(Sent({"10.0.0.1", {"6.6.6.6, 1.1.1.1", "10.0.0.2"}, {}, {"https"}, {"www.example.org"}}) ==
        "6.6.6.6, 1.1.1.1, 10.0.0.2, 10.0.0.1 | https | www.example.org | "
        "for=1.1.1.1;host=www.example.org;proto=https, for=10.0.0.2, for=10.0.0.1");
  CHECK(Sent({"10.0.0.1", {"1.1.1.1"}, {"for=1.1.1.1;proto=https"}, {"https"}}) ==
        "1.1.1.1, 10.0.0.1 | https | app:8080 | "
        "for=1.1.1.1;proto=https, for=10.0.0.1;host=\"app:8080\";proto=http");
  CHECK(
      Sent({"10.0.0.1", {}, {"for=6.6.6.6", "for=\"[2001:db8::1]\";proto=https;host=a.example"}}) ==
      "2001:db8::1, 10.0.0.1 | https | a.example | "
      "for=6.6.6.6, for=\"[2001:db8::1]\";proto=https;host=a.example, "
      "for=10.0.0.1;host=\"app:8080\";proto=http");
  CHECK(Sent({"10.0.0.1"}) ==
        "10.0.0.1 | http | app:8080 | for=10.0.0.1;host=\"app:8080\";proto=http");
  CHECK(Sent({"10.0.0.1", {}, {"for=unknown;proto=https"}}) ==
        "10.0.0.1 | https | app:8080 | "
        "for=unknown;proto=https, for=10.0.0.1;host=\"app:8080\";proto=http");
}

TEST_CASE("a Forwarded that tells of another client than X-Forwarded-For does not go on") {
  CHECK(Sent({"10.0.0.1", {"1.1.1.1"}, {"for=6.6.6.6;proto=https;host=evil"}}) ==
        "1.1.1.1, 10.0.0.1 | http | app:8080 | "
        "for=1.1.1.1;host=\"app:8080\";proto=http, for=10.0.0.1");
  CHECK(Sent({"10.0.0.1", {}, {"for=\"6.6.6.6, for=1.1.1.1"}}) ==
        "1.1.1.1, 10.0.0.1 | http | app:8080 | "
        "for=1.1.1.1;host=\"app:8080\";proto=http, for=10.0.0.1");
}

TEST_CASE("of several schemes or hosts the last counts, and what is none does not") {
  CHECK(Sent({"10.0.0.1", {}, {}, {"wss", "http, https"}, {"a, b.example"}})
            .starts_with("10.0.0.1 | https | b.example | "));
  for (const char* bad : {"ht tp", "h\"", "1http", "https;x", "waytoolongascheme"}) {
    CHECK(Sent({"10.0.0.1", {}, {}, {bad}}).starts_with("10.0.0.1 | http | "));
  }
  for (const char* bad : {"a b", "a\"b", "a\\b", "\x01"}) {
    CHECK(Sent({"10.0.0.1", {}, {}, {}, {bad}}).starts_with("10.0.0.1 | http | app:8080 | "));
  }
}

TEST_CASE("no control character goes on, and a host that cannot be quoted is left out") {
  CHECK(Sent({"10.0.0.1", {"evil\r\nX: y, 1.1.1.1"}}).starts_with("1.1.1.1, 10.0.0.1 | "));
  CHECK(Sent({"10.0.0.1", {}, {"x=\"\r\nX: y\", for=1.1.1.1"}}).find("X: y") == std::string::npos);
  const Address peer = AddressOf("192.0.2.1");
  std::string out;
  AppendForwardedLines(out, {peer, "http", "a\"b"}, FindClient({}, peer, {}), {}, {});
  CHECK(out ==
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
        "Forwarded: for=192.0.2.1;proto=http\r\n");
}

TEST_CASE("a chain of trusted addresses may be long: its end is the client") {
  std::string list = "1.1.1.1";
  std::string elements = "for=1.1.1.1";
  for (int i = 0; i < 5000; ++i) list += ",10.0.0.2";
  for (int i = 0; i < 5000; ++i) elements += ",for=10.0.0.2";
  CHECK(ClientText({"10.0.0.1", {list}}) == "1.1.1.1");
  CHECK(ClientText({"10.0.0.1", {}, {elements}}) == "1.1.1.1");
  // The list that is made of the other one leaves out some in between, not its ends.
  const std::string sent = Sent({"10.0.0.1", {}, {elements}});
  CHECK(sent.starts_with("1.1.1.1, 10.0.0.2, "));
  CHECK(sent.find(", 10.0.0.2, 10.0.0.1 | http") != std::string::npos);
}

}  // namespace
}  // namespace modal::policy
