// One request on its way: what an Adapter (adapter.h) gets and answers through.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/http/deadlines.h"
#include "agent/http/exchange.h"
#include "agent/policy/admission.h"
#include "agent/policy/traffic.h"

namespace modal::adapters {

class Gatekeeper;

class Call final : private http::Deadlines::Entry {
 public:
  explicit Call(Gatekeeper& gatekeeper) : gatekeeper_(gatekeeper), waiter_(this) {}

  const http::Request& request() const { return exchange_->request(); }
  // Header lines for whoever answers, each with its CRLF: the names of request and trace, and who
  // the client is.
  const std::string& lines() const { return lines_; }
  std::string_view id() const { return id_; }
  // The protocols that the client would switch to and that we have, in its order and spelling:
  // "websocket", "a, b"; empty: none.
  std::string_view upgrade() const { return upgrade_; }

  // The answer; as in http::Exchange. `head.lines` are kept, with ours behind them.
  void Inform(int status, std::span<const http::Header> headers);
  void Begin(const http::ResponseHead& head);
  bool Write(std::string_view data);
  void Cork() { exchange_->Cork(); }
  void Uncork() { exchange_->Uncork(); }
  void End(std::span<const http::Header> trailers = {});
  bool has_begun() const { return status_ != 0; }
  // There is no (whole) answer, for this reason: an error with `status`, or once the answer has
  // begun a connection that is visibly cut.
  void Fail(int status, policy::Refusal why, std::string_view message);
  // The other side has agreed to switch to `protocol`, one of upgrade(), with these header lines
  // beside Connection and Upgrade: from now on bytes go to and fro between the client and `server`.
  void SwitchProtocols(std::string_view protocol, std::string_view lines,
                       http::DetachedConnection server);

  // As in http::Exchange.
  bool SpliceBody() { return exchange_->SpliceBody(); }
  event::IoResult ReadBodyInto(event::Pipe& pipe);
  uint64_t room_to_splice() const { return exchange_->room_to_splice(); }
  void WriteFrom(event::Pipe& pipe);

  void PauseBody() { exchange_->PauseBody(); }
  void ResumeBody() { exchange_->ResumeBody(); }

  // For the measurements: the request has been handed to whoever answers; its answer has begun.
  void MarkSent();
  void MarkAnswered();

  void* state = nullptr;  // the adapter's

 private:
  friend class Gatekeeper;

  enum class Stage {
    kFree,
    kHeld,    // until the server is ready
    kQueued,  // until there is a place
    kCarried,
    kTunnel,  // no HTTP any more
  };

  void OnDeadline(size_t kind) override;

  Gatekeeper& gatekeeper_;
  http::Exchange* exchange_ = nullptr;
  Stage stage_ = Stage::kFree;
  bool request_ended_ = false;
  int status_ = 0;  // of the answer, once it has begun
  uint64_t body_received_ = 0;
  uint64_t body_sent_ = 0;
  Clock::TimePoint began_{};
  Clock::TimePoint sent_{};
  Clock::TimePoint answered_{};
  policy::Waiter waiter_;
  std::string id_;
  std::string client_;  // the client's address, as far as it can be told
  std::string lines_;
  std::string answer_lines_;
  std::string upgrade_;
  Call* before_ = nullptr;  // in the list of its stage
  Call* after_ = nullptr;
};

}  // namespace modal::adapters
