// Asks the name servers for the addresses of a name. AresNameServers does it with c-ares;
// a test's own is in tests/unit/event/resolver_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/socket_address.h"

namespace modal::event {

struct DnsAnswer {
  enum class Kind {
    kFound,    // `addresses`, good for `ttl`
    kUnknown,  // there is no such name, or it has no address of this family
    kFailed,   // a server said that it cannot tell, or nothing that makes sense
    kTimedOut,
    kNoServer,  // there is nobody where the servers are to be
  };
  Kind kind;
  std::vector<SocketAddress> addresses;  // without a port
  std::chrono::seconds ttl{0};
};

class NameServers {
 public:
  enum class Family { kIpv4, kIpv6 };

  virtual ~NameServers() = default;
  // One question for a full name. `on_answer` runs once, from the loop and never from inside here,
  // unless the question is dropped before, by its number.
  virtual uint64_t Ask(const std::string& name, Family family,
                       std::function<void(const DnsAnswer&)> on_answer) = 0;
  virtual void Drop(uint64_t question) = 0;
  // Asks these from now on, also what has not been answered yet.
  virtual void SetServers(const std::vector<SocketAddress>& servers) = 0;
};

}  // namespace modal::event
