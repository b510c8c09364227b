// A socket table that shows what a test puts into it, and owners that answer as they are told.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/check.h"
#include "agent/base/socket_address.h"
#include "healthcheck/socket_table.h"

namespace modal::test {

// AddressOf("127.0.0.1", 8000), AddressOf("::", 8000).
inline SocketAddress AddressOf(const std::string& text, uint16_t port) {
  const Result<SocketAddress> address = SocketAddress::Parse(text, port);
  MODAL_CHECK(address);
  return *address;
}

inline health::ListeningSocket ListenerOn(const std::string& address, uint16_t port,
                                          uint64_t inode = 1) {
  health::ListeningSocket listener;
  listener.local = AddressOf(address, port);
  listener.inode = inode;
  return listener;
}

class FakeSocketTable : public health::SocketTable {
 public:
  std::vector<health::ListeningSocket> listeners;
  std::vector<health::Connection> connections;
  std::optional<Error> error;   // instead of an answer
  int listeners_asked = 0;      // for one port
  int all_listeners_asked = 0;  // for every port
  int connections_asked = 0;
  std::function<void()> on_asked;  // before the answer

  Result<std::vector<health::ListeningSocket>> Listeners(uint16_t port) override {
    ++(port == 0 ? all_listeners_asked : listeners_asked);
    return Answer(listeners, port);
  }
  Result<std::vector<health::Connection>> Connections(uint16_t port) override {
    ++connections_asked;
    return Answer(connections, port);
  }

 private:
  template <class Entry>
  Result<std::vector<Entry>> Answer(const std::vector<Entry>& all, uint16_t port) {
    if (on_asked) on_asked();
    if (error) return *error;
    std::vector<Entry> some;
    for (const Entry& entry : all) {
      if (port == 0 || entry.local.port() == port) some.push_back(entry);
    }
    return some;
  }
};

class FakeSocketOwners : public health::SocketOwners {
 public:
  std::map<uint64_t, Answer> answers;
  Answer otherwise = Answer::kOurs;
  std::vector<uint64_t> asked;

  Answer OwnerOf(uint64_t inode) override {
    asked.push_back(inode);
    const auto found = answers.find(inode);
    return found == answers.end() ? otherwise : found->second;
  }
};

}  // namespace modal::test
