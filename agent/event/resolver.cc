#include "agent/event/resolver.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "agent/base/strings.h"

namespace modal::event {
namespace {

using std::chrono::seconds;
using Kind = DnsAnswer::Kind;

constexpr seconds kLeastTtl{1};
constexpr seconds kMostTtl{60};
constexpr seconds kKeepFailure{1};
constexpr seconds kStale{600};
// One who could have a stale answer waits so long for a better one.
constexpr Milliseconds kStaleWait{500};
// With addresses of one family at hand, those of the other are waited for so long (RFC 8305, 3).
constexpr Milliseconds kOtherFamily{50};

// How an answer is spoken of.
struct Words {
  std::string_view reason;   // in the log; stable
  std::string_view trouble;  // for people; empty: there is none
};

Words WordsFor(Kind kind) {
  switch (kind) {
    case Kind::kFound:
      return {"found", ""};
    case Kind::kUnknown:
      return {"unknown", "no such name is known"};
    case Kind::kTimedOut:
      return {"timed_out", "no name server has answered"};
    case Kind::kNoServer:
      return {"no_server", "there is no name server where /etc/resolv.conf says"};
    case Kind::kFailed:
      break;
  }
  return {"failed", "the name servers cannot tell"};
}

// Families take turns, IPv4 first; else in the order in which they came.
std::vector<SocketAddress> TakingTurns(const std::vector<SocketAddress>& addresses) {
  std::array<std::vector<SocketAddress>, 2> families;
  for (const SocketAddress& address : addresses) families[address.is_ipv6()].push_back(address);
  std::vector<SocketAddress> mixed;
  for (size_t i = 0; mixed.size() < addresses.size(); ++i) {
    for (const std::vector<SocketAddress>& family : families) {
      if (i < family.size()) mixed.push_back(family[i]);
    }
  }
  return mixed;
}

}  // namespace

// About one name: the names it may stand for, one after the other, each for both families.
class Resolver::Question {
 public:
  Question(Resolver& resolver, const std::string& name, Entry& entry)
      : resolver_(resolver),
        name_(name),
        entry_(entry),
        names_(NamesToAsk(name, resolver.settings_)),
        limit_(resolver.clock_.After(resolver.patience_, [this] { End(Kind::kTimedOut); })) {}
  ~Question() { DropAsked(); }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;

  void Ask() {
    for (const auto family : {NameServers::Family::kIpv4, NameServers::Family::kIpv6}) {
      Asked& asked = asked_[static_cast<size_t>(family)];
      asked = {};
      asked.number =
          resolver_.servers_.Ask(names_[next_], family, [this, &asked](const DnsAnswer& answer) {
            asked.number.reset();
            asked.answer = answer;
            OnAnswer();
          });
    }
    ++next_;
  }

  void SetStaleWait(std::function<void()> over) {
    stale_wait_ = resolver_.clock_.After(kStaleWait, std::move(over));
  }

 private:
  struct Asked {
    std::optional<uint64_t> number;
    std::optional<DnsAnswer> answer;
  };

  void DropAsked() {
    for (Asked& asked : asked_) {
      if (asked.number) resolver_.servers_.Drop(*asked.number);
      asked.number.reset();
    }
  }

  void OnAnswer() {
    const auto is_found = [](const Asked& asked) {
      return asked.answer && asked.answer->kind == Kind::kFound;
    };
    const bool all = asked_[0].answer && asked_[1].answer;
    if (!all) {
      if (is_found(asked_[0]) || is_found(asked_[1])) {
        other_family_ = resolver_.clock_.After(kOtherFamily, [this] { Found(); });
      }
      return;
    }
    if (is_found(asked_[0]) || is_found(asked_[1])) return Found();
    // What is worst of the two is what stands in the way.
    const Kind kind = std::max(asked_[0].answer->kind, asked_[1].answer->kind);
    if (kind == Kind::kTimedOut || kind == Kind::kNoServer) return End(kind);
    worst_ = std::max(worst_, kind);
    if (next_ < names_.size()) return Ask();
    End(worst_);
  }

  // These are last: they are the end of this question.
  void Found() {
    std::vector<SocketAddress> addresses;
    seconds ttl = seconds::max();
    for (const Asked& asked : asked_) {
      if (!asked.answer || asked.answer->kind != Kind::kFound) continue;
      addresses.insert(addresses.end(), asked.answer->addresses.begin(),
                       asked.answer->addresses.end());
      ttl = std::min(ttl, asked.answer->ttl);
    }
    resolver_.OnFound(name_, entry_, TakingTurns(addresses), ttl);
  }
  void End(Kind kind) { resolver_.OnFailed(name_, entry_, kind); }

  Resolver& resolver_;
  const std::string name_;
  Entry& entry_;
  const std::vector<std::string> names_;
  size_t next_ = 0;
  std::array<Asked, 2> asked_;
  Kind worst_ = Kind::kUnknown;
  std::unique_ptr<Timer> limit_;
  std::unique_ptr<Timer> other_family_;
  std::unique_ptr<Timer> stale_wait_;
};

struct Resolver::Entry {
  Answer answer;
  Clock::TimePoint since{};        // when it came
  Clock::TimePoint good_until{};   // until then nobody asks
  Clock::TimePoint stale_until{};  // until then it is better than none
  std::optional<Kind> failure;     // the last thing that was said of the name
  std::unique_ptr<Question> question;
  bool overdue = false;  // nobody waits for the question any longer
  std::vector<Waiter*> waiters;
};

Resolver::Resolver(Clock& clock, Log& log, NameServers& servers, const NameFiles& files,
                   Milliseconds patience)
    : clock_(clock),
      log_(log),
      servers_(servers),
      files_(files),
      settings_(ParseResolverSettings(files.resolver)),
      patience_(patience) {}

Resolver::~Resolver() = default;

const Resolver::Answer* Resolver::Find(const std::string& name, Waiter& waiter) {
  Entry& entry = entries_[name];
  if (entry.question && !entry.overdue) {
    entry.waiters.push_back(&waiter);
    return nullptr;
  }
  if (entry.question || entry.good_until > clock_.Now()) return &entry.answer;
  if (std::vector<SocketAddress> local = FindInHosts(files_.hosts, name); !local.empty()) {
    entry.answer = {TakingTurns(local), {}};
    entry.good_until = Clock::TimePoint::max();
    return &entry.answer;
  }
  entry.waiters.push_back(&waiter);
  Begin(name, entry);
  return nullptr;
}

void Resolver::Begin(const std::string& name, Entry& entry) {
  entry.overdue = false;
  entry.question = std::make_unique<Question>(*this, name, entry);
  if (!entry.answer.addresses.empty() && clock_.Now() < entry.stale_until) {
    entry.question->SetStaleWait([&entry] {
      entry.overdue = true;
      Tell(entry);
    });
  }
  entry.question->Ask();
}

void Resolver::Forgo(Waiter& waiter) {
  for (auto& [name, entry] : entries_) std::erase(entry.waiters, &waiter);
}

void Resolver::OnFound(const std::string& name, Entry& entry, std::vector<SocketAddress> addresses,
                       std::chrono::seconds ttl) {
  // Which runs this.
  const std::unique_ptr<Question> question = std::move(entry.question);
  entry.answer = {std::move(addresses), {}};
  entry.since = clock_.Now();
  entry.good_until = entry.since + std::clamp(ttl, kLeastTtl, kMostTtl);
  entry.stale_until = entry.good_until + kStale;
  if (entry.failure) {
    log_.Info("upstream.name", {{"name", name}, {"reason", WordsFor(Kind::kFound).reason}});
  }
  entry.failure.reset();
  Tell(entry);
}

void Resolver::OnFailed(const std::string& name, Entry& entry, DnsAnswer::Kind kind) {
  const std::unique_ptr<Question> question = std::move(entry.question);
  const bool stale =
      kind != Kind::kUnknown && !entry.answer.addresses.empty() && clock_.Now() < entry.stale_until;
  const Words words = WordsFor(kind);
  const std::string trouble = Concat("the name '", name, "' has no address: ", words.trouble);
  if (entry.failure != kind) {
    log_.Warn("upstream.name",
              {{"message", stale ? Concat(trouble, "; the last ones are used") : trouble},
               {"name", name},
               {"reason", words.reason}});
  }
  entry.failure = kind;
  if (!stale) entry.answer = {{}, trouble};
  entry.since = clock_.Now();
  entry.good_until = entry.since + kKeepFailure;
  Tell(entry);
}

void Resolver::Tell(Entry& entry) {
  // What they do may bring others, who are told next time, or take some away.
  const Answer answer = entry.answer;
  for (size_t left = entry.waiters.size(); left > 0 && !entry.waiters.empty(); --left) {
    Waiter* const waiter = entry.waiters.front();
    entry.waiters.erase(entry.waiters.begin());
    waiter->OnResolved(answer);
  }
}

void Resolver::NoteWorks(const std::string& name, const SocketAddress& address) {
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) return;
  std::vector<SocketAddress>& addresses = entry->second.answer.addresses;
  const auto found = std::find_if(addresses.begin(), addresses.end(), [&](const auto& one) {
    return one.is_ipv6() == address.is_ipv6() && one.host() == address.host();
  });
  if (found != addresses.end()) std::rotate(addresses.begin(), found, found + 1);
}

void Resolver::NoteNoneWorks(const std::string& name) {
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) return;
  const Clock::TimePoint now = clock_.Now();
  const bool lasts = entry->second.good_until == Clock::TimePoint::max();
  if (!lasts && now - entry->second.since >= kLeastTtl) entry->second.good_until = now;
}

void Resolver::Configure(const NameFiles& files, Milliseconds patience) {
  patience_ = patience;
  if (files.resolver != files_.resolver) {
    settings_ = ParseResolverSettings(files.resolver);
    servers_.SetServers(settings_.servers);
  }
  files_ = files;
  for (auto& [name, entry] : entries_) entry.good_until = {};
}

}  // namespace modal::event
