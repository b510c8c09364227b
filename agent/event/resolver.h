// Finds the addresses of names: in the hosts file, else from the name servers.
//
// Answers of servers are kept for as long as they say, at least 1 s and at most 60 s. However many
// ask for a name, there is one question about it at a time, for its IPv4 and IPv6 addresses; it
// ends after `patience` at the latest. That there is no answer is kept for 1 s. While the servers
// are silent or broken, addresses that were good less than 10 minutes ago are still used: nobody
// then waits for longer than half a second. A name that is said to be gone is gone.
//
// Names come from the settings, so there are few of them. The log is told when a name cannot be
// found, once for each reason, and when it is found again. Lives on the loop of one thread; clock,
// log and servers outlive it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/socket_address.h"
#include "agent/event/name_files.h"
#include "agent/event/name_servers.h"

namespace modal::event {

class Resolver {
 public:
  struct Answer {
    // In the order in which to try them: families take turns, IPv4 first. Without ports.
    std::vector<SocketAddress> addresses;
    std::string trouble;  // why there are none: "no name server has answered"
  };

  class Waiter {
   public:
    virtual ~Waiter() = default;
    virtual void OnResolved(const Answer& answer) = 0;
  };

  Resolver(Clock& clock, Log& log, NameServers& servers, const NameFiles& files,
           Milliseconds patience);
  ~Resolver();

  // The answer, if there is no need to wait; good until the next call. Null: `waiter` hears it from
  // the loop, once, unless it forgoes that.
  const Answer* Find(const std::string& name, Waiter& waiter);
  void Forgo(Waiter& waiter);

  // One of the addresses works: it is the first to try next time.
  void NoteWorks(const std::string& name, const SocketAddress& address);
  // None does. If the answer is older than 1 s, the next Find() asks again.
  void NoteNoneWorks(const std::string& name);

  // Everything is looked up again. How often and how long c-ares tries stays as it was.
  void Configure(const NameFiles& files, Milliseconds patience);

 private:
  struct Entry;
  class Question;

  void Begin(const std::string& name, Entry& entry);
  void OnFound(const std::string& name, Entry& entry, std::vector<SocketAddress> addresses,
               std::chrono::seconds ttl);
  void OnFailed(const std::string& name, Entry& entry, DnsAnswer::Kind kind);
  static void Tell(Entry& entry);

  Clock& clock_;
  Log& log_;
  NameServers& servers_;
  NameFiles files_;
  ResolverSettings settings_;
  Milliseconds patience_;
  std::map<std::string, Entry> entries_;
};

}  // namespace modal::event
