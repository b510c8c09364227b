#include "healthcheck/port_wait.h"

#include <algorithm>
#include <utility>

#include "agent/base/strings.h"

namespace modal::health {
namespace {

using std::chrono::duration_cast;

constexpr int kShareOfTheWait = 500;
constexpr Milliseconds kShortestInterval(1);
constexpr Milliseconds kLongestInterval(20);
constexpr int kCostFactor = 10;
constexpr Milliseconds kLongestCostlyInterval(50);
constexpr Milliseconds kSurveyInterval(100);
constexpr size_t kPortsNamed = 3;

// How far a listener reaches, best last.
enum class Reach { kLoopbackIpv6, kLoopback, kOutsideIpv6, kOutside };

bool TakesIpv4(const ListeningSocket& listener) {
  return listener.local.is_ipv4() || (listener.local.is_any() && !listener.v6_only);
}

Reach ReachOf(const ListeningSocket& listener) {
  if (listener.local.is_loopback()) {
    return TakesIpv4(listener) ? Reach::kLoopback : Reach::kLoopbackIpv6;
  }
  return TakesIpv4(listener) ? Reach::kOutside : Reach::kOutsideIpv6;
}

// Inode 0 is what a sandbox without inodes shows for every socket: it tells none from another.
bool StoodBefore(const ListeningSocket& listener, const std::set<uint64_t>& before) {
  return listener.inode != 0 && before.count(listener.inode) != 0;
}

std::string Describe(const PortVerdict& verdict) {
  const std::string address = verdict.socket.local.ToString();
  switch (verdict.state) {
    case PortState::kOpen:
      return Concat("listening on ", address, " for IPv6 only: IPv4 clients cannot reach it");
    case PortState::kLoopbackOnly:
      return Concat("listening on ", address, ", which nothing outside this container can reach; ",
                    "bind 0.0.0.0");
    case PortState::kForeign:
      return Concat("port ", verdict.socket.local.port(),
                    " is taken: a process that the agent did ", "not start (uid ",
                    verdict.socket.uid, ") listens on ", address);
    case PortState::kClosed:
      break;
  }
  return {};
}

std::string NothingListens(uint16_t port) { return Concat("nothing listens on port ", port); }

// "a", "a and b", "a, b and c", "a, b, c and 4 more".
std::string Enumerate(const std::vector<std::string>& names) {
  if (names.size() == 1) return names[0];
  std::vector<std::string> shown(
      names.begin(), names.begin() + static_cast<ptrdiff_t>(std::min(names.size(), kPortsNamed)));
  std::string last;
  if (names.size() > shown.size()) {
    last = Concat(names.size() - shown.size(), " more");
  } else {
    last = std::move(shown.back());
    shown.pop_back();
  }
  return Concat(Join(shown, ", "), " and ", last);
}

}  // namespace

PortVerdict JudgePort(const std::vector<ListeningSocket>& listeners, uint16_t port,
                      const std::set<uint64_t>& before, bool loopback_is_enough,
                      SocketOwners& owners) {
  std::vector<const ListeningSocket*> candidates;
  for (const ListeningSocket& listener : listeners) {
    if (listener.local.port() == port && !StoodBefore(listener, before)) {
      candidates.push_back(&listener);
    }
  }
  std::stable_sort(
      candidates.begin(), candidates.end(),
      [](const ListeningSocket* a, const ListeningSocket* b) { return ReachOf(*a) > ReachOf(*b); });

  PortVerdict verdict;
  for (const ListeningSocket* candidate : candidates) {
    if (owners.OwnerOf(candidate->inode) == SocketOwners::Answer::kForeign) {
      if (verdict.state == PortState::kClosed) {
        verdict = {PortState::kForeign, *candidate, !TakesIpv4(*candidate)};
      }
      continue;
    }
    const bool open = loopback_is_enough || !candidate->local.is_loopback();
    return {open ? PortState::kOpen : PortState::kLoopbackOnly, *candidate, !TakesIpv4(*candidate)};
  }
  return verdict;
}

PortWait::PortWait(Clock& clock, SocketTable& table, SocketOwners& owners, Options options,
                   std::function<void(const PortVerdict&)> on_open,
                   std::function<void(Gravity, const std::string&)> on_note)
    : clock_(clock),
      table_(table),
      owners_(owners),
      options_(std::move(options)),
      on_open_(std::move(on_open)),
      on_note_(std::move(on_note)),
      note_(NothingListens(options_.port)) {}

void PortWait::Start() {
  started_ = clock_.Now();
  surveyed_ = started_;
  Look(Depth::kQuick);
}

void PortWait::LookNow() { Look(Depth::kThorough); }

void PortWait::Look(Depth depth) {
  if (done_) return;
  const Clock::TimePoint begin = clock_.Now();
  const Result<std::vector<ListeningSocket>> listeners = table_.Listeners(options_.port);
  if (!listeners) {
    SetNote(PortState::kClosed, Gravity::kWrong,
            Concat("cannot tell whether port ", options_.port,
                   " is open: ", listeners.error().message()));
  } else {
    const PortVerdict verdict =
        JudgePort(*listeners, options_.port, options_.before, options_.loopback_is_enough, owners_);
    if (verdict.state == PortState::kOpen) return Open(verdict);
    if (verdict.state != PortState::kClosed) {
      SetNote(verdict.state, Gravity::kWrong, Describe(verdict));
    } else if (IsSurveyDue(depth)) {
      surveyed_ = begin;
      Survey survey = LookElsewhere();
      SetNote(PortState::kClosed, survey.gravity, std::move(survey.note));
    }
  }
  costs_[looks_++ % costs_.size()] = clock_.Now() - begin;
  timer_ = clock_.After(NextInterval(), [this] { Look(Depth::kQuick); });
}

// The last thing that happens to this object: `on_open` may destroy it.
void PortWait::Open(const PortVerdict& verdict) {
  done_ = true;
  timer_.reset();
  if (verdict.v6_only) SetNote(PortState::kOpen, Gravity::kWrong, Describe(verdict));
  const std::function<void(const PortVerdict&)> on_open = std::move(on_open_);
  on_open(verdict);
}

bool PortWait::IsSurveyDue(Depth depth) const {
  return depth == Depth::kThorough || note_state_ != PortState::kClosed ||
         clock_.Now() - surveyed_ >= kSurveyInterval;
}

// Nothing listens where it should: where then?
PortWait::Survey PortWait::LookElsewhere() {
  const Result<std::vector<ListeningSocket>> listeners = table_.Listeners(0);
  if (!listeners) return {Gravity::kUsual, NothingListens(options_.port)};
  std::set<std::string> names;  // several sockets may share an address (SO_REUSEPORT)
  std::vector<std::string> others;
  const ListeningSocket* reachable = nullptr;
  const ListeningSocket* old = nullptr;
  bool all_ours = true;
  for (const ListeningSocket& listener : *listeners) {
    if (StoodBefore(listener, options_.before)) {
      if (listener.local.port() == options_.port) old = &listener;
      continue;
    }
    if (listener.local.port() == options_.port || names.count(listener.local.ToString()) != 0) {
      continue;
    }
    const SocketOwners::Answer owner = owners_.OwnerOf(listener.inode);
    if (owner == SocketOwners::Answer::kForeign) continue;
    if (owner == SocketOwners::Answer::kUnknown) all_ours = false;
    names.insert(listener.local.ToString());
    others.push_back(listener.local.ToString());
    const bool reaches = options_.loopback_is_enough || !listener.local.is_loopback();
    if (reachable == nullptr && reaches) reachable = &listener;
  }

  std::string note = NothingListens(options_.port);
  if (others.empty()) {
    if (old == nullptr) return {Gravity::kUsual, note};
    return {Gravity::kWrong,
            Concat(note, " except what stood there before the start, on ", old->local.ToString())};
  }
  note +=
      all_ours ? ", but the workload listens on " : ", but since the start something listens on ";
  note += Enumerate(others);
  if (reachable != nullptr) {
    return {Gravity::kWrong, Concat(note, "; bind port ", options_.port, " or pass --port ",
                                    reachable->local.port())};
  }
  return {Gravity::kWrong, Concat(note, "; bind 0.0.0.0:", options_.port)};
}

void PortWait::SetNote(PortState state, Gravity gravity, std::string note) {
  note_state_ = state;
  if (note == note_) return;
  note_ = std::move(note);
  if (on_note_) on_note_(gravity, note_);
}

Milliseconds PortWait::NextInterval() const {
  const Milliseconds share =
      duration_cast<Milliseconds>((clock_.Now() - started_) / kShareOfTheWait);
  const Clock::TimePoint::duration cost = *std::min_element(costs_.begin(), costs_.end());
  const Milliseconds rest = duration_cast<Milliseconds>(cost * kCostFactor);
  return std::max(std::clamp(share, kShortestInterval, kLongestInterval),
                  std::min(rest, kLongestCostlyInterval));
}

}  // namespace modal::health
