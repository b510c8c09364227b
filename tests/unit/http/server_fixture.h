// A ServerConnection between a FakePeer and a handler, on a FakeClock.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/http/server_connection.h"
#include "agent/http/whole_exchanges.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_stream.h"

namespace modal::test {

inline std::time_t SomeTime() { return 1769862896; }  // Sat, 31 Jan 2026 12:34:56 GMT
inline constexpr const char* kDateLine = "Date: Sat, 31 Jan 2026 12:34:56 GMT\r\n";

class ServerFixture : public http::ServerConnection::Owner {
 public:
  ServerFixture(http::ExchangeHandler& handler, const http::ServerOptions& options = {})
      : context(clock, options, handler, SomeTime) {
    Connect();
  }
  explicit ServerFixture(http::WholeHandler handler, const http::ServerOptions& options = {})
      : own_handler_(std::make_unique<http::WholeExchanges>(std::move(handler))),
        context(clock, options, *own_handler_, SomeTime) {
    Connect();
  }
  ~ServerFixture() override { connection.reset(); }

  // A new connection in place of the one there was.
  void Connect() {
    connection.reset();
    scheduled_ = false;
    peer = std::make_unique<FakePeer>();
    connection = std::make_unique<http::ServerConnection>(context, *this, peer->Connect());
  }

  // Until nothing happens any more without time passing.
  void Run() {
    for (;;) {
      peer->Run();
      if (!std::exchange(scheduled_, false)) return;
      connection->OnTurn();
      if (connection->closed() && !connection->scheduled()) {
        connection.reset();
        return;
      }
    }
  }
  void Advance(Milliseconds by) {
    clock.Advance(by);
    Run();
  }

  // Sends it, and gives what came back without its Date lines.
  std::string Ask(std::string_view text) {
    peer->Send(text);
    Run();
    return Answer();
  }
  std::string Answer() {
    std::string text = peer->TakeReceived();
    const std::string date = kDateLine;
    for (size_t at = text.find(date); at != std::string::npos; at = text.find(date)) {
      text.erase(at, date.size());
    }
    return text;
  }

 private:
  void Schedule(http::ServerConnection&) override { scheduled_ = true; }

  std::unique_ptr<http::ExchangeHandler> own_handler_;
  bool scheduled_ = false;

 public:
  FakeClock clock;
  http::ServerContext context;
  std::unique_ptr<FakePeer> peer;
  std::unique_ptr<http::ServerConnection> connection;  // null once it has ended
};

}  // namespace modal::test
