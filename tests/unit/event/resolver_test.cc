#include "agent/event/resolver.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/strings.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_log.h"

using namespace modal;
using namespace std::chrono_literals;
using event::DnsAnswer;
using event::Resolver;
using Family = event::NameServers::Family;
using Kind = DnsAnswer::Kind;
using Texts = std::vector<std::string>;

namespace {

// Name servers that answer when the test wants.
class FakeNameServers : public event::NameServers {
 public:
  uint64_t Ask(const std::string& name, Family family,
               std::function<void(const DnsAnswer&)> on_answer) override {
    open_.push_back({++last_, name, family, std::move(on_answer)});
    asked.push_back(Concat(name, family == Family::kIpv4 ? " A" : " AAAA"));
    return last_;
  }
  void Drop(uint64_t question) override {
    open_.remove_if([=](const Question& one) { return one.number == question; });
  }
  void SetServers(const std::vector<SocketAddress>& its_servers) override { servers = its_servers; }

  size_t open() const { return open_.size(); }
  // The oldest open question of this family, as far as the answer is about that.
  void Answer(Family family, DnsAnswer answer) {
    std::erase_if(answer.addresses, [=](const SocketAddress& address) {
      return address.is_ipv6() != (family == Family::kIpv6);
    });
    if (answer.kind == Kind::kFound && answer.addresses.empty()) answer.kind = Kind::kUnknown;
    const auto found = std::find_if(open_.begin(), open_.end(),
                                    [=](const Question& one) { return one.family == family; });
    REQUIRE(found != open_.end());
    const auto on_answer = std::move(found->on_answer);
    open_.erase(found);
    on_answer(answer);
  }
  void AnswerBoth(const DnsAnswer& answer) {
    Answer(Family::kIpv4, answer);
    Answer(Family::kIpv6, answer);
  }

  Texts asked;
  std::vector<SocketAddress> servers;

 private:
  struct Question {
    uint64_t number;
    std::string name;
    Family family;
    std::function<void(const DnsAnswer&)> on_answer;
  };
  uint64_t last_ = 0;
  std::list<Question> open_;
};

DnsAnswer Found(const Texts& addresses, std::chrono::seconds ttl = 30s) {
  DnsAnswer answer{Kind::kFound, {}, ttl};
  for (const std::string& address : addresses) {
    answer.addresses.push_back(*SocketAddress::Parse(address, 0));
  }
  return answer;
}

DnsAnswer Failed(Kind kind) { return {kind, {}}; }

std::string Text(const Resolver::Answer& answer) {
  Texts addresses;
  for (const SocketAddress& address : answer.addresses) addresses.push_back(address.host());
  return answer.trouble.empty() ? Join(addresses, " ") : answer.trouble;
}

struct Client : Resolver::Waiter {
  void OnResolved(const Resolver::Answer& answer) override { heard.push_back(Text(answer)); }
  Texts heard;
};

struct Resolving {
  explicit Resolving(const event::NameFiles& its_files = {})
      : resolver(clock, log.log, servers, its_files, 5s) {}
  // What is known at once, or "" where the client has to wait.
  std::string Ask(Client& client, const std::string& name = "app") {
    const Resolver::Answer* answer = resolver.Find(name, client);
    return answer ? Text(*answer) : "";
  }
  std::string Ask() { return Ask(somebody); }
  // Once asked and answered.
  void Learn(const DnsAnswer& answer) {
    Client client;
    REQUIRE(Ask(client).empty());
    servers.AnswerBoth(answer);
    REQUIRE(client.heard.size() == 1);
  }

  test::FakeClock clock;
  test::FakeLog log;
  FakeNameServers servers;
  Resolver resolver;
  Client somebody;
};

const Texts kOneQuestion{"app A", "app AAAA"};
const std::string kPrefix = "the name 'app' has no address: ";

}  // namespace

TEST_CASE("a name in the hosts file is never asked for, and stays as it is") {
  Resolving names({"10.0.0.1 app\n10.0.0.2 app\nfd00::1 app\n", ""});
  CHECK(names.Ask() == "10.0.0.1 fd00::1 10.0.0.2");
  names.clock.Advance(24h);
  CHECK(names.Ask() == "10.0.0.1 fd00::1 10.0.0.2");
  CHECK(names.Ask(names.somebody, "localhost") == "127.0.0.1 ::1");
  CHECK(names.servers.asked.empty());
  CHECK(names.clock.pending() == 0);
}

TEST_CASE("there is one question about a name, however many wait for it") {
  Resolving names;
  Client first, second, third;
  CHECK(names.Ask(first).empty());
  CHECK(names.Ask(second).empty());
  CHECK(names.Ask(third).empty());
  names.resolver.Forgo(third);
  CHECK(names.servers.asked == kOneQuestion);
  names.servers.Answer(Family::kIpv4, Found({"10.0.0.1", "10.0.0.2"}));
  CHECK(first.heard.empty());
  names.servers.Answer(Family::kIpv6, Found({"fd00::1"}));
  CHECK(first.heard == Texts{"10.0.0.1 fd00::1 10.0.0.2"});
  CHECK(second.heard == first.heard);
  CHECK(third.heard.empty());
  CHECK(names.clock.pending() == 0);
  CHECK(names.log.lines().empty());
}

TEST_CASE("an answer is kept for as long as it says, within a second and a minute") {
  const auto check = [](std::chrono::seconds ttl, std::chrono::seconds kept) {
    Resolving names;
    names.Learn(Found({"10.0.0.1"}, ttl));
    names.clock.Advance(kept - 1ms);
    CHECK(names.Ask() == "10.0.0.1");
    names.clock.Advance(1ms);
    CHECK(names.Ask().empty());
    CHECK(names.servers.asked.size() == 4);
  };
  check(0s, 1s);
  check(30s, 30s);
  check(3600s, 60s);
}

TEST_CASE("of two answers the shorter life counts") {
  Resolving names;
  CHECK(names.Ask().empty());
  names.servers.Answer(Family::kIpv4, Found({"10.0.0.1"}, 30s));
  names.servers.Answer(Family::kIpv6, Found({"fd00::1"}, 5s));
  names.clock.Advance(5s);
  CHECK(names.Ask().empty());
}

TEST_CASE("one family is enough, and the other is waited for a moment only") {
  Resolving names;
  CHECK(names.Ask().empty());
  SUBCASE("the other has none") {
    names.servers.AnswerBoth(Failed(Kind::kUnknown));
    names.clock.Advance(1s);
    CHECK(names.Ask().empty());
    names.servers.Answer(Family::kIpv6, Found({"fd00::1"}));
    names.servers.Answer(Family::kIpv4, Failed(Kind::kUnknown));
    CHECK(names.somebody.heard.back() == "fd00::1");
  }
  SUBCASE("the other is silent") {
    names.servers.Answer(Family::kIpv4, Found({"10.0.0.1"}));
    names.clock.Advance(49ms);
    CHECK(names.somebody.heard.empty());
    names.clock.Advance(1ms);
    CHECK(names.somebody.heard == Texts{"10.0.0.1"});
  }
  SUBCASE("the other fails") {
    names.servers.Answer(Family::kIpv6, Failed(Kind::kFailed));
    CHECK(names.somebody.heard.empty());
    names.servers.Answer(Family::kIpv4, Found({"10.0.0.1"}));
    CHECK(names.somebody.heard == Texts{"10.0.0.1"});
  }
  CHECK(names.servers.open() == 0);
  CHECK(names.clock.pending() == 0);
}

TEST_CASE("why a name has no address is said to who waits, kept for a second, and logged once") {
  struct Case {
    Kind kind;
    const char* trouble;
    const char* reason;
  };
  for (const Case& one :
       {Case{Kind::kUnknown, "no such name is known", "reason=unknown"},
        Case{Kind::kTimedOut, "no name server has answered", "reason=timed_out"},
        Case{Kind::kNoServer, "there is no name server where /etc/resolv.conf says",
             "reason=no_server"},
        Case{Kind::kFailed, "the name servers cannot tell", "reason=failed"}}) {
    CAPTURE(one.reason);
    Resolving names;
    names.Learn(Failed(one.kind));
    CHECK(names.Ask() == kPrefix + one.trouble);
    names.clock.Advance(999ms);
    CHECK(names.Ask() == kPrefix + one.trouble);
    names.clock.Advance(1ms);
    names.Learn(Failed(one.kind));
    REQUIRE(names.log.lines().size() == 1);
    const std::string& line = names.log.lines()[0];
    CHECK(line.find("warn  upstream.name") == 0);
    CHECK(line.find("name=app") != std::string::npos);
    CHECK(line.find(one.reason) != std::string::npos);
    CHECK(line.find(one.trouble) != std::string::npos);
    // And that it is over.
    names.clock.Advance(1s);
    names.Learn(Found({"10.0.0.1"}));
    CHECK(names.log.lines().size() == 2);
    CHECK(names.log.Has("reason=found"));
  }
}

TEST_CASE("a question ends when patience does") {
  Resolving names;
  CHECK(names.Ask().empty());
  names.clock.Advance(4'999ms);
  Client late;
  CHECK(names.Ask(late).empty());
  names.clock.Advance(1ms);
  CHECK(names.somebody.heard == Texts{kPrefix + "no name server has answered"});
  CHECK(late.heard == names.somebody.heard);
  CHECK(names.servers.open() == 0);
  CHECK(names.clock.pending() == 0);
  CHECK(names.log.Count("reason=timed_out") == 1);
}

TEST_CASE("the names of the search list are asked for one after the other") {
  Resolving names({"", "search a.example b.example\n"});
  CHECK(names.Ask().empty());
  names.servers.AnswerBoth(Failed(Kind::kUnknown));
  CHECK(names.servers.asked ==
        Texts{"app.a.example A", "app.a.example AAAA", "app.b.example A", "app.b.example AAAA"});
  SUBCASE("until one is known") {
    names.servers.AnswerBoth(Found({"10.0.0.1"}));
    CHECK(names.somebody.heard == Texts{"10.0.0.1"});
    CHECK(names.servers.asked.size() == 4);
  }
  SUBCASE("also after one that a server cannot tell, which is what is said in the end") {
    names.servers.AnswerBoth(Failed(Kind::kFailed));
    names.servers.AnswerBoth(Failed(Kind::kUnknown));
    CHECK(names.somebody.heard == Texts{kPrefix + "the name servers cannot tell"});
  }
  SUBCASE("but not when nobody answers") {
    names.servers.AnswerBoth(Failed(Kind::kTimedOut));
    CHECK(names.somebody.heard == Texts{kPrefix + "no name server has answered"});
  }
}

TEST_CASE("while the servers are down old addresses are used, and nobody waits for long") {
  Resolving names;
  names.Learn(Found({"10.0.0.1"}, 5s));
  names.clock.Advance(5s);
  CHECK(names.Ask().empty());
  SUBCASE("silent") {
    names.clock.Advance(499ms);
    CHECK(names.somebody.heard.empty());
    names.clock.Advance(1ms);
    CHECK(names.somebody.heard == Texts{"10.0.0.1"});
    CHECK(names.Ask() == "10.0.0.1");
    CHECK(names.servers.asked.size() == 4);  // that question is open yet
    names.clock.Advance(4'500ms);
    CHECK(names.log.Count("reason=timed_out") == 1);
    CHECK(names.log.Has("the last ones are used"));
  }
  SUBCASE("broken") {
    names.servers.AnswerBoth(Failed(Kind::kFailed));
    CHECK(names.somebody.heard == Texts{"10.0.0.1"});
    CHECK(names.log.Count("reason=failed") == 1);
  }
  SUBCASE("not there") {
    names.servers.AnswerBoth(Failed(Kind::kNoServer));
    CHECK(names.somebody.heard == Texts{"10.0.0.1"});
    CHECK(names.log.Count("reason=no_server") == 1);
  }
  CHECK(names.Ask() == "10.0.0.1");
  names.clock.Advance(1s);
  CHECK(names.Ask().empty());
  names.servers.AnswerBoth(Found({"10.0.0.2"}));
  CHECK(names.Ask() == "10.0.0.2");
}

TEST_CASE("old addresses are used for ten minutes, and not when the name is gone") {
  Resolving names;
  names.Learn(Found({"10.0.0.1"}, 5s));
  SUBCASE("gone") {
    names.clock.Advance(5s);
    names.Learn(Failed(Kind::kUnknown));
    CHECK(names.Ask() == kPrefix + "no such name is known");
    names.clock.Advance(1s);
    names.Learn(Failed(Kind::kTimedOut));
    CHECK(names.Ask() == kPrefix + "no name server has answered");
  }
  SUBCASE("too old") {
    names.clock.Advance(5s + 600s);
    names.Learn(Failed(Kind::kTimedOut));
    CHECK(names.Ask() == kPrefix + "no name server has answered");
  }
}

TEST_CASE(
    "the address that works is the first to try; if none does, another answer is looked for") {
  Resolving names;
  names.Learn(Found({"10.0.0.1", "10.0.0.2"}));
  REQUIRE(names.Ask().starts_with("10.0.0.1"));
  names.resolver.NoteWorks("app", *SocketAddress::Parse("10.0.0.2", 80));
  CHECK(names.Ask().starts_with("10.0.0.2"));
  names.resolver.NoteNoneWorks("app");
  CHECK(names.Ask().starts_with("10.0.0.2"));  // it is not a second old
  names.clock.Advance(1s);
  names.resolver.NoteNoneWorks("app");
  CHECK(names.Ask().empty());
  // There is nothing else to be found out about what the hosts file says.
  names.resolver.NoteNoneWorks("nobody");
  CHECK(names.Ask(names.somebody, "localhost") == "127.0.0.1 ::1");
  names.clock.Advance(1s);
  names.resolver.NoteNoneWorks("localhost");
  CHECK(names.Ask(names.somebody, "localhost") == "127.0.0.1 ::1");
}

TEST_CASE("with other files everything is looked up again") {
  Resolving names({"10.0.0.9 other\n", "nameserver 10.0.0.53\n"});
  names.Learn(Found({"10.0.0.1"}));
  REQUIRE(names.Ask(names.somebody, "other") == "10.0.0.9");
  names.resolver.Configure({"10.0.0.8 app\n", "nameserver 10.0.0.54\n"}, 1s);
  REQUIRE(names.servers.servers.size() == 1);
  CHECK(names.servers.servers[0].ToString() == "10.0.0.54:53");
  CHECK(names.Ask() == "10.0.0.8");
  CHECK(names.Ask(names.somebody, "other").empty());
  names.clock.Advance(1s);
  CHECK(names.servers.open() == 0);
}

TEST_CASE("a resolver that goes takes its questions with it") {
  FakeNameServers servers;
  test::FakeClock clock;
  test::FakeLog log;
  Client client;
  {
    Resolver resolver(clock, log.log, servers, {}, 5s);
    CHECK(resolver.Find("app", client) == nullptr);
    CHECK(servers.open() == 2);
  }
  CHECK(servers.open() == 0);
  CHECK(clock.pending() == 0);
}
