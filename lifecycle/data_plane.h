// The data plane (--listen) as the settings say it, and what of it a gateway process is handed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/event/name_files.h"
#include "agent/policy/gateway_config.h"

namespace modal::lifecycle {

// Where the server is, which requests are carried to.
struct Upstream {
  enum class Kind {
    kPort,        // a port of this host
    kUnixSocket,  // `path`
    kElsewhere,   // another host, or one by name: whether it listens cannot be seen from here
  };
  Kind kind = Kind::kPort;
  bool is_default = true;  // nobody chose it: --port, on loopback or wherever the server listens
  std::string address = "127.0.0.1";  // numeric; unless there is a name
  std::string name;                   // of the host, for the gateway to look up
  uint16_t port = 0;
  std::string path;

  // "127.0.0.1:8000", "[::1]:8000", "db.internal:8000", "unix:/run/app.sock"
  std::string ToString() const;
};

struct DataPlane {
  policy::GatewayConfig config{};
  std::vector<policy::TokenRecord> tokens;
  std::string access_log;  // a file, or "-" for our stdout; empty: none
};

// Puts the address into the config as its upstream.
void SetUpstream(const Upstream& upstream, policy::GatewayConfig& config);

// Whether the user nobody, as whom the gateway runs, may connect to the unix socket by its mode
// (that of its folders is not looked at). Yes where nobody can tell.
bool NobodyMayConnect(const std::string& path);

// A memfd that holds the config, behind it the tokens, and what is known about names, and that
// nobody can change any more.
Result<UniqueFd> SealConfig(const policy::GatewayConfig& config,
                            std::span<const policy::TokenRecord> tokens,
                            const event::NameFiles& names = {});

// What the access log is appended to; the file is made if it is missing (0640). Nothing in it is
// cut off. A folder, a full disk and the like are errors that name the file.
Result<UniqueFd> OpenAccessLog(const std::string& access_log);

}  // namespace modal::lifecycle
