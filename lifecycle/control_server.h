// The unix socket that the subcommands talk to: a line in, a line of JSON out, done.
//
// The socket file is 0600, in a folder that only its owner can write, and each peer's uid is looked
// at (an abstract name has no mode): whoever may connect may also signal us. At most kMaxClients at
// a time, each with kTimeout, a short line, and no waiting for a client that does not read.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/loop.h"
#include "agent/event/poller.h"

namespace modal::lifecycle {

class ControlServer {
 public:
  static constexpr size_t kMaxClients = 16;
  static constexpr size_t kLongestLine = 256;
  static constexpr Milliseconds kTimeout{5000};

  // Binds the first of `paths` that works. A file left by an agent that is gone is replaced; one
  // behind which somebody answers is not.
  static Result<std::unique_ptr<ControlServer>> Listen(
      event::Loop& loop, Clock& clock, const std::vector<std::string>& paths,
      std::function<std::string(const std::string& command)> answer);
  ~ControlServer();

  const std::string& path() const { return path_; }

 private:
  struct Client;

  ControlServer(event::Loop& loop, Clock& clock, std::string path, UniqueFd socket,
                std::function<std::string(const std::string&)> answer);
  void WaitForClients();
  void Accept();
  void OnReady(Client* client);
  void Retire(Client* client);

  event::Loop& loop_;
  Clock& clock_;
  std::string path_;
  UniqueFd socket_;
  std::function<std::string(const std::string&)> answer_;
  std::unique_ptr<event::Poller> poller_;
  std::unique_ptr<Timer> accept_again_;
  std::list<std::unique_ptr<Client>> clients_;
};

}  // namespace modal::lifecycle
