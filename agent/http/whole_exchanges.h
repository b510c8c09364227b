// The ExchangeHandler for those who would rather have whole requests: collects each body (the
// server limits its size) and calls the handler once, when all of it is there.
#pragma once

#include <string_view>
#include <utility>

#include "agent/http/exchange.h"
#include "agent/http/server.h"

namespace modal::http {

class WholeExchanges final : public ExchangeHandler {
 public:
  explicit WholeExchanges(WholeHandler handler) : handler_(std::move(handler)) {}

  void OnHead(Exchange&) override {}
  void OnBody(Exchange& exchange, std::string_view data) override { exchange.collected_ += data; }
  void OnRequestEnd(Exchange& exchange) override {
    exchange.request_.body = exchange.collected_;
    handler_(exchange.request_, Responder(exchange));
  }
  void OnDrained(Exchange&) override {}
  void OnGone(Exchange&) override {}

 private:
  WholeHandler handler_;
};

}  // namespace modal::http
