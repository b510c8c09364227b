// A stream to a server that is known by its name: finds the addresses of the name, tries to connect
// to one after the other, and is that connection from then on.
//
// All of this together has the `patience` of whoever opens it, who also keeps the time: an address
// that is silent while there are others to try is given up after its share. Until there is a
// connection nothing can be read or written; if there is none to be had, every Read() and Write()
// fails, and Trouble() says why if it was the name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/event/connect.h"
#include "agent/event/loop.h"
#include "agent/event/resolver.h"
#include "agent/event/stream.h"

namespace modal::event {

class NamedStream final : public Stream, private Resolver::Waiter, private StreamListener {
 public:
  // `server` is a name. All outlive the stream. An Error if it is known already that there is no
  // connection to be had.
  static Result<std::unique_ptr<Stream>> Open(Loop& loop, Clock& clock, Resolver& resolver,
                                              const Destination& server, Milliseconds patience);
  ~NamedStream() override;

  void Listen(StreamListener& listener) override;
  void WaitFor(bool readable, bool writable) override;
  IoResult Read(std::span<char> buffer) override;
  IoResult Write(std::string_view data) override;
  IoResult Write(std::span<const std::string_view> pieces) override;
  IoResult ReadInto(Pipe& pipe, size_t most) override;
  IoResult WriteFrom(Pipe& pipe) override;
  void AcknowledgeNow() override;
  std::string Trouble() const override;
  void ShutdownWrite() override;
  void Close() override;
  void Reset() override;

 private:
  enum class State { kFinding, kConnecting, kConnected, kFailed, kClosed };

  NamedStream(Loop& loop, Clock& clock, Resolver& resolver, const Destination& server,
              Milliseconds patience);
  void OnResolved(const Resolver::Answer& answer) override;
  void OnReady(Poller::Ready ready) override;
  void Take(const Resolver::Answer& answer);
  void TryNext();
  Result<void> Try(const SocketAddress& address);
  void OnSilent();
  void Tell();
  IoResult NotConnected() const;

  Loop& loop_;
  Clock& clock_;
  Resolver& resolver_;
  const Destination server_;
  const Milliseconds patience_;
  State state_ = State::kFinding;
  std::vector<SocketAddress> addresses_;
  size_t next_ = 0;
  std::string trouble_;
  int error_ = 0;  // of the last address
  StreamListener* listener_ = nullptr;
  Poller::Ready wanted_{false, false};
  std::unique_ptr<SocketStream> stream_;  // connecting or connected
  std::unique_ptr<Timer> share_;
  std::unique_ptr<Timer> tell_;
};

}  // namespace modal::event
