#include "agent/event/name_files.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace modal;
using event::FindInHosts;
using event::NamesToAsk;
using event::ParseResolverSettings;
using event::ResolverSettings;
using Texts = std::vector<std::string>;

namespace {

Texts Found(std::string_view hosts, std::string_view name) {
  Texts found;
  for (const SocketAddress& address : FindInHosts(hosts, name)) found.push_back(address.host());
  return found;
}

Texts ServersOf(std::string_view text) {
  Texts servers;
  for (const SocketAddress& server : ParseResolverSettings(text).servers) {
    servers.push_back(server.ToString());
  }
  return servers;
}

constexpr std::string_view kHosts =
    "# as a container engine writes it\n"
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\r\n"
    "10.88.0.2  0a1b2c3d4e5f box # this one\n"
    "10.0.0.5 db.internal db\n"
    "fd00::5 db.internal.\n"
    "10.0.0.6 DB.Internal\n"
    "10.0.0.5 db.internal\n"
    "fe80::1%eth0 link\n"
    "not.an.address db\n"
    "10.0.0.9\n"
    "\n"
    "10.0.0.7 last";

}  // namespace

TEST_CASE("all addresses of a name are found in the hosts file, each once and in its order") {
  CHECK(Found(kHosts, "localhost") == Texts{"127.0.0.1", "::1"});
  CHECK(Found(kHosts, "ip6-localhost") == Texts{"::1"});
  CHECK(Found(kHosts, "box") == Texts{"10.88.0.2"});
  CHECK(Found(kHosts, "db") == Texts{"10.0.0.5"});
  CHECK(Found(kHosts, "db.internal") == Texts{"10.0.0.5", "fd00::5", "10.0.0.6"});
  CHECK(Found(kHosts, "DB.INTERNAL.") == Texts{"10.0.0.5", "fd00::5", "10.0.0.6"});
  CHECK(Found(kHosts, "last") == Texts{"10.0.0.7"});
}

TEST_CASE("comments, addresses and parts of names are no names") {
  for (const std::string_view name :
       {"this", "one", "#", "d", "internal", "10.0.0.9", "link", ""}) {
    CAPTURE(name);
    CHECK(Found(kHosts, name).empty());
  }
}

TEST_CASE("localhost is known without a file, unless the file says otherwise") {
  CHECK(Found("", "localhost") == Texts{"127.0.0.1", "::1"});
  CHECK(Found("", "app.LOCALHOST.") == Texts{"127.0.0.1", "::1"});
  CHECK(Found("127.0.0.1 localhost\n", "localhost") == Texts{"127.0.0.1", "::1"});
  CHECK(Found("::1 localhost\n", "localhost") == Texts{"::1", "127.0.0.1"});
  CHECK(Found("10.0.0.1 localhost\n", "localhost") == Texts{"10.0.0.1"});
  CHECK(Found("", "notlocalhost").empty());
}

TEST_CASE("the settings of a resolver are those of its file, as far as they make sense") {
  const ResolverSettings settings = ParseResolverSettings(
      "; a comment\n"
      "domain old.example\n"
      "search Svc.Cluster.Local. cluster.local  # by kubernetes\n"
      "nameserver 10.96.0.10\n"
      "nameserver fd00::a\r\n"
      "nameserver nonsense\n"
      "nameserver\n"
      "options ndots:5 edns0 timeout:2 attempts:9\n"
      "sortlist 130.155.160.0\n");
  CHECK(settings.servers.size() == 2);
  CHECK(settings.servers[0].ToString() == "10.96.0.10:53");
  CHECK(settings.servers[1].ToString() == "[fd00::a]:53");
  CHECK(settings.search == Texts{"svc.cluster.local", "cluster.local"});
  CHECK(settings.ndots == 5);
  CHECK(settings.timeout == Milliseconds(2'000));
  CHECK(settings.attempts == 5);

  const ResolverSettings strange = ParseResolverSettings(
      "options ndots:x timeout:0 attempts:0 ndots:\nsearch -bad- good\ndomain a b\n");
  CHECK(strange.ndots == 1);
  CHECK(strange.timeout == Milliseconds(1'000));
  CHECK(strange.attempts == 1);
  CHECK(strange.search == Texts{"a"});
}

TEST_CASE("without a name server in the file it is on this host; of many the first three are") {
  CHECK(ServersOf("") == Texts{"127.0.0.1:53"});
  CHECK(ServersOf("nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n"
                  "nameserver 4.4.4.4\n") == Texts{"1.1.1.1:53", "2.2.2.2:53", "3.3.3.3:53"});
}

TEST_CASE("a name with few dots is searched for first, one with many is asked for as it is") {
  ResolverSettings settings;
  settings.search = {"a.example", "example"};
  CHECK(NamesToAsk("db", settings) == Texts{"db.a.example", "db.example", "db"});
  CHECK(NamesToAsk("db.x", settings) == Texts{"db.x", "db.x.a.example", "db.x.example"});
  CHECK(NamesToAsk("db.", settings) == Texts{"db"});
  settings.ndots = 5;
  CHECK(NamesToAsk("db.x", settings) == Texts{"db.x.a.example", "db.x.example", "db.x"});
  CHECK(NamesToAsk("db", {}) == Texts{"db"});
}

TEST_CASE("a name is made of labels, and is no mistaken address") {
  for (const std::string& name :
       {std::string("a"), std::string("a.b-c.d_e"), std::string("1a"), std::string("10.in-addr"),
        std::string("a."), std::string(63, 'a'), std::string("xn--bcher-kva.example")}) {
    CAPTURE(name);
    CHECK(event::IsHostName(name));
  }
  std::string long_name = "a";
  while (long_name.size() < 252) long_name += ".a";
  CHECK(event::IsHostName(long_name));
  for (const std::string& name :
       {std::string(), std::string("."), std::string("a..b"), std::string(".a"), std::string("-a"),
        std::string("a-"), std::string("a b"), std::string("a:b"), std::string("10.0.0.5"),
        std::string("10"), std::string(64, 'a'), long_name + ".a", std::string("b\xc3\xa4r")}) {
    CAPTURE(name);
    CHECK_FALSE(event::IsHostName(name));
  }
}
