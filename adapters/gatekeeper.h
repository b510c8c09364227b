// Meets every request of the data plane on one thread: gives it a name, decides whether it may pass
// (phase, token, rate, place, size, in this order), hands it to the adapter, and counts what
// becomes of it.
//
// Requests that wait (for the server to be ready, for a place) hold no more than their head: their
// bodies are not read. What is refused costs one small answer and counts as no load.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/access_log.h"
#include "adapters/adapter.h"
#include "adapters/call.h"
#include "adapters/policy_set.h"
#include "agent/base/clock.h"
#include "agent/http/deadlines.h"
#include "agent/http/exchange.h"
#include "agent/http/tunnel.h"
#include "agent/policy/admission.h"
#include "agent/policy/request_id.h"
#include "agent/policy/traffic.h"

namespace modal::adapters {

// How requests are met at the moment.
enum class Mode : uint32_t {
  kNotYet,    // held for a while, or refused
  kServing,   // carried
  kDraining,  // new ones are refused
  kCutting,   // and those in flight are cut
};

class Gatekeeper final : public http::ExchangeHandler {
 public:
  struct Parts {
    Clock& clock;
    policy::Places& places;
    uint32_t thread;
    AccessLog& log;
    policy::TrafficCounters& traffic;
    // The server has become ready, as far as can be seen: asked for each request that would have to
    // be refused, since the order to serve may still be on its way.
    std::function<bool()> is_ready;
    // That thread has to call GiveTurns().
    std::function<void(uint32_t thread)> wake;
    // Nothing is in flight (any more), and we are draining or cutting.
    std::function<void()> on_empty;
  };

  Gatekeeper(Parts parts, std::shared_ptr<const PolicySet> policy);
  ~Gatekeeper() override;

  // Where requests go. Outlives the calls.
  void set_adapter(Adapter& adapter) { adapter_ = &adapter; }
  void SetMode(Mode mode);
  Mode mode() const { return mode_; }
  void SetPolicy(std::shared_ptr<const PolicySet> policy);
  const PolicySet& policy() const { return *policy_; }
  // Lets those in who have a place now.
  void GiveTurns();
  // Requests with the adapter, tunnels among them.
  size_t in_flight() const { return in_flight_; }

  void OnHead(http::Exchange& exchange) override;
  void OnBody(http::Exchange& exchange, std::string_view data) override;
  void OnBodyReadable(http::Exchange& exchange) override;
  void OnRequestEnd(http::Exchange& exchange) override;
  void OnDrained(http::Exchange& exchange) override;
  void OnGone(http::Exchange& exchange) override;
  void OnBadBody(http::Exchange& exchange, const http::ParseError& error) override;
  http::Response OnRefused(const http::RefusedRequest& refused) override;

 private:
  friend class Call;
  class Tunneled;
  struct CallList {
    Call* first = nullptr;
    Call* last = nullptr;
    void Append(Call& call);
    void Remove(Call& call);
  };
  // What calls wait for; each has its time.
  enum Wait : size_t { kReady, kPlace, kTotal };

  Call& Take(http::Exchange& exchange);
  void GiveBack(Call& call);
  void NameRequest(Call& call);
  void DescribeClient(Call& call);
  bool IsAuthorized(Call& call);
  void Admit(Call& call);
  void AskForPlace(Call& call);
  void Carry(Call& call);
  // With 503 and 429 the client is told when to come again: after `retry_after` seconds.
  void Refuse(Call& call, int status, policy::Refusal why, std::string_view message,
              int64_t retry_after = 1);
  void OnCallDeadline(Call& call, size_t kind);
  void CutAll();
  void ReleaseHeld();

  void CallBegin(Call& call, const http::ResponseHead& head);
  void CallEnd(Call& call, std::span<const http::Header> trailers);
  void CallFail(Call& call, int status, policy::Refusal why, std::string_view message);
  void CallSwitch(Call& call, std::string_view protocol, std::string_view lines,
                  http::DetachedConnection server);
  void OnTunnelOver(Tunneled& one, http::TunnelEnd end);
  void EndTunnel(Tunneled& one, std::string_view outcome);
  void Finish(Call& call, std::string_view outcome);
  void Close(Call& call, std::string_view outcome);
  void Count(Call& call, AccessEntry& entry, std::string_view outcome);
  void LeavePlace();
  void CheckEmpty();
  uint64_t MicrosecondsSince(Clock::TimePoint since) const;
  CallList& ListOf(Call::Stage stage);
  void SetStage(Call& call, Call::Stage stage);

  Parts parts_;
  std::shared_ptr<const PolicySet> policy_;
  Adapter* adapter_ = nullptr;
  Mode mode_ = Mode::kNotYet;
  policy::Admission admission_;
  policy::NameMaker names_;
  std::unique_ptr<http::Deadlines> deadlines_;
  size_t in_flight_ = 0;
  bool giving_turns_ = false;
  CallList held_;
  CallList queued_;
  CallList carried_;
  CallList tunneled_;

  std::vector<char> tunnel_buffer_;
  http::TunnelContext tunnel_context_;
  std::vector<std::unique_ptr<Tunneled>> tunnels_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Call*> spare_;
};

}  // namespace modal::adapters
