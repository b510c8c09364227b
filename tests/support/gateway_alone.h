// The gateway process by itself: the real binary as the supervisor starts it, with the supervisor's
// ends of everything in the test's hands.
//
// Listeners are on 127.0.0.1 at ports that the kernel chose, and only the gateway holds them: if it
// dies, a test that connects is refused, and does not wait. The process ends with the object.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/exit_status.h"
#include "agent/base/status_board.h"
#include "agent/base/unique_fd.h"
#include "agent/policy/gateway_config.h"
#include "healthcheck/gateway_channel.h"
#include "healthcheck/status.h"
#include "tests/support/agent_process.h"

namespace modal::test {

int DeadlineMs();
// False if there is nothing to read at the deadline.
bool WaitReadable(int fd);

// A listening socket at a port that is free; empty if there is no such address here.
UniqueFd ListenAnywhere(const char* host = "127.0.0.1", bool reuse_port = false);
uint16_t PortOf(const UniqueFd& fd);
UniqueFd ConnectTo(uint16_t port);

// Starts the agent's binary with `fds` as its descriptors 3, 4, 5 ...
pid_t StartGateway(const std::vector<std::string>& arguments, const std::vector<int>& fds,
                   int standard_error, rlim_t descriptors);
// Nothing if it is still running at the deadline.
std::optional<ExitStatus> AwaitEnd(pid_t pid);

// A line of /proc/PID/FILE, from after its name.
std::string ProcLine(pid_t pid, const std::string& file, const std::string& name);
long PssKiB(pid_t pid);

// Settings with long times and wide limits, for one thread and a server at `upstream_port`.
policy::GatewayConfig PlainConfig(uint16_t upstream_port);
// As the gateway gets them.
UniqueFd ConfigFile(const policy::GatewayConfig& config,
                    const std::vector<policy::TokenRecord>& tokens = {});

class GatewayAlone {
 public:
  struct Options {
    rlim_t descriptors = 1'024;
    UniqueFd second_admin_listener;
    // There is a data plane, with as many listeners as it has threads.
    std::optional<policy::GatewayConfig> config;
    std::vector<policy::TokenRecord> tokens;
    bool ready = true;        // else the server is yet to come
    UniqueFd access_log;      // else /dev/null
    UniqueFd standard_error;  // else the test's own
  };

  GatewayAlone() : GatewayAlone(Options()) {}
  // Where the server is ready it has been told to carry.
  explicit GatewayAlone(Options options);
  ~GatewayAlone();
  GatewayAlone(const GatewayAlone&) = delete;
  GatewayAlone& operator=(const GatewayAlone&) = delete;

  pid_t pid() const { return pid_; }
  uint16_t port() const { return port_; }            // of the admin endpoints
  uint16_t data_port() const { return data_port_; }  // of the data plane
  std::string url() const;

  // What the supervisor says about itself.
  health::AgentStatus status = health::NewAgentStatus();
  void Publish() { agent_board_.Publish(status); }
  health::GatewayStatus Seen() const;

  // Orders, and what comes back.
  void AskProbe(uint32_t id, uint16_t port, const std::string& path, uint32_t timeout_ms = 60'000);
  void SetCarriage(health::Carriage carriage, uint32_t id);
  void Configure(const policy::GatewayConfig& config,
                 const std::vector<policy::TokenRecord>& tokens = {});
  health::GatewayReply Reply();
  bool HasReplied() const;

  void CloseChannel() { channel_.Reset(); }
  std::optional<ExitStatus> WaitForEnd();

  UniqueFd Connect() const { return ConnectTo(port()); }
  int Get(const std::string& path) const;

 private:
  uint16_t port_ = 0;
  uint16_t data_port_ = 0;
  UniqueFd channel_;
  BoardWriter<health::AgentStatus> agent_board_;
  BoardMapping own_board_;
  BoardReader<health::GatewayStatus> seen_;
  pid_t pid_ = 0;
};

}  // namespace modal::test
