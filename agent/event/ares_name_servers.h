// The real NameServers: c-ares, over UDP, and over TCP where an answer does not fit.
//
// c-ares is left nothing to find out for itself: it opens no file but, in Create(), /dev/urandom.
// After that it needs sockets and the time, so that it works in a sealed process. Loop and clock
// outlive it. With no question open it has no socket and wakes nobody.
#pragma once

#include <memory>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/event/loop.h"
#include "agent/event/name_files.h"
#include "agent/event/name_servers.h"

namespace modal::event {

class AresNameServers final : public NameServers {
 public:
  static Result<std::unique_ptr<AresNameServers>> Create(Loop& loop, Clock& clock,
                                                         const ResolverSettings& settings);
  ~AresNameServers() override;

  uint64_t Ask(const std::string& name, Family family,
               std::function<void(const DnsAnswer&)> on_answer) override;
  void Drop(uint64_t question) override;
  void SetServers(const std::vector<SocketAddress>& servers) override;

 private:
  class Impl;
  explicit AresNameServers(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace modal::event
