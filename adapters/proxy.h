// The adapter for a user's server that speaks HTTP/1.1 behind us: carries requests to it and its
// answers back, streaming both ways.
//
// Hop-by-hop headers stay on their hop, framing is written anew on each side, and nothing that is
// not whole ever looks whole: before the head of the answer is out a failure is a 502 or 504 that
// says why, after it the client's connection is cut. A request that met a connection which the
// server was just closing is sent once more, on a new one, if that cannot do it twice (RFC 9110,
// 9.2.2; RFC 9112, 9.3.1).
#pragma once

#include <memory>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/upstream_pool.h"
#include "agent/event/pipe.h"
#include "agent/policy/traffic.h"

namespace modal::adapters {

class Proxy final : public Adapter {
 public:
  // `authority` is the Host for requests that came without one. All outlive the proxy.
  Proxy(UpstreamPool& pool, std::string authority, policy::TrafficCounters& traffic);
  ~Proxy() override;

  void Begin(Call& call) override;
  void OnBody(Call& call, std::string_view data) override;
  void OnBodyReadable(Call& call) override;
  void OnRequestEnd(Call& call) override;
  void OnDrained(Call& call) override;
  void OnGone(Call& call) override;

 private:
  class Passage;

  std::span<const http::Header> PassedTrailers(std::span<const http::Header> trailers);
  // Null where there is none to be had: then bytes are copied.
  std::unique_ptr<event::Pipe> TakePipe();
  void GiveBack(std::unique_ptr<event::Pipe> pipe);
  Passage& Take();
  void GiveBack(Passage& passage);

  UpstreamPool& pool_;
  const std::string authority_;
  policy::TrafficCounters& traffic_;
  std::string lines_;  // of the answer that is being begun
  std::vector<http::Header> trailers_;
  std::vector<std::unique_ptr<Passage>> passages_;
  std::vector<Passage*> spare_;
  std::vector<std::unique_ptr<event::Pipe>> spare_pipes_;
};

}  // namespace modal::adapters
