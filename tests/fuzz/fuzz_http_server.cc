// A connection of the server, from the first byte to its end, with a client that may be slow to
// send, slow to take, half-closed or gone, and handlers that answer at once, late, in pieces or
// never.
//
// Always: it ends (answered or closed) once its client does nothing more, it never spins, what it
// holds is bounded, and every exchange that a handler has seen is over.
#include <deque>
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/http/server_connection.h"
#include "tests/fuzz/pieces.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_stream.h"

using namespace modal;

namespace {

constexpr size_t kMostQueued = 256 * 1024;

std::time_t SomeTime() { return 1769862896; }

// What to do with a request is in its target: "/later", "/stream" ...
class Handler : public http::ExchangeHandler {
 public:
  void OnHead(http::Exchange& exchange) override {
    ++open;
    const std::string_view target = exchange.request().target;
    if (target.find("early") != std::string_view::npos) return Answer(exchange);
    if (target.find("stream") != std::string_view::npos) exchange.Begin({});
    if (target.find("pause") != std::string_view::npos) {
      exchange.PauseBody();
      paused.push_back(&exchange);
    }
    if (target.find("abort") != std::string_view::npos) {
      Forget(exchange);
      exchange.Abort();
    }
  }
  void OnBody(http::Exchange& exchange, std::string_view data) override {
    const std::string_view target = exchange.request().target;
    if (target.find("stream") == std::string_view::npos) return;
    if (!exchange.Write(data)) {
      exchange.PauseBody();
      paused.push_back(&exchange);
    }
  }
  void OnRequestEnd(http::Exchange& exchange) override {
    const std::string_view target = exchange.request().target;
    if (target.find("stream") != std::string_view::npos) {
      Forget(exchange);
      return exchange.End();
    }
    if (target.find("later") != std::string_view::npos) return late.push_back(&exchange);
    Answer(exchange);
  }
  void OnDrained(http::Exchange&) override {}
  void OnGone(http::Exchange& exchange) override { Forget(exchange); }

  // Outside of any callback.
  void GoOn() {
    while (!paused.empty()) {
      http::Exchange& exchange = *paused.front();
      paused.pop_front();
      exchange.ResumeBody();
    }
    while (!late.empty()) Answer(*late.front());
  }

  int open = 0;
  std::deque<http::Exchange*> paused;
  std::deque<http::Exchange*> late;

 private:
  void Answer(http::Exchange& exchange) {
    const bool big = exchange.request().target.find("big") != std::string_view::npos;
    Forget(exchange);
    exchange.Send({200, "text/plain", big ? std::string(100'000, 'x') : std::string("ok")});
  }
  void Forget(http::Exchange& exchange) {
    --open;
    std::erase(paused, &exchange);
    std::erase(late, &exchange);
  }
};

struct Owner : http::ServerConnection::Owner {
  void Schedule(http::ServerConnection&) override { scheduled = true; }
  bool scheduled = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const uint8_t client = data[0];  // how it behaves
  test::Pieces pieces(data + 1, size - 1);

  test::FakeClock clock;
  Handler handler;
  http::ServerOptions options;
  options.max_head = 1024;
  options.max_headers = 16;
  options.max_body = 4096;
  http::ServerContext context(clock, options, handler, SomeTime);
  Owner owner;
  test::FakePeer peer;
  auto connection = std::make_unique<http::ServerConnection>(context, owner, peer.Connect());

  const auto run = [&] {
    while (connection) {
      peer.Run();
      MODAL_CHECK(!peer.spun());
      if (!std::exchange(owner.scheduled, false)) return;
      connection->OnTurn();
      if (connection->closed() && !connection->scheduled()) connection.reset();
    }
  };

  const bool slow_taker = (client & 1) != 0;
  const bool answers_late = (client & 2) != 0;
  const bool pauses = (client & 4) != 0;
  if (slow_taker) peer.TakeOnly(0);
  const std::string& text = pieces.text();
  for (size_t at = 0; at < text.size() && connection;) {
    const std::string piece = text.substr(at, pieces.Next());
    at += piece.size();
    peer.Send(piece);
    run();
    if (slow_taker && connection) {
      peer.TakeOnly(pieces.Next());
      run();
    }
    if (!answers_late) {
      handler.GoOn();
      run();
    }
    if (pauses) {
      clock.Advance(Milliseconds(700));
      run();
    }
    if (connection) MODAL_CHECK(connection->held() < kMostQueued);
  }
  MODAL_CHECK(context.stats.bad_requests <= 1);

  if ((client & 8) != 0) {
    peer.ShutdownWrite();
  } else if ((client & 16) != 0) {
    peer.Break();
  }
  if ((client & 32) != 0) peer.TakeOnly(0);
  run();
  // Whoever was left waiting is answered, and every timeout passes.
  for (int i = 0; i < 8 && connection; ++i) {
    handler.GoOn();
    run();
    clock.Advance(Milliseconds(80'000));
    run();
  }
  // One that takes its answers, one request at a time, may be going on.
  if (slow_taker && connection) {
    peer.Break();
    run();
  }
  MODAL_CHECK(!connection);
  MODAL_CHECK(peer.closed());
  MODAL_CHECK(handler.open == 0);
  MODAL_CHECK(context.stats.connections_open == 0);
  MODAL_CHECK(clock.pending() == 0);
  return 0;
}
