// What /etc/hosts and /etc/resolv.conf say about names and those who know them.
//
// The files are read once by whoever may, and handed on as text: a gateway cannot open files. All
// the rest is pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/socket_address.h"

namespace modal::event {

// The text of both files; empty where there is none, or none that can be read.
struct NameFiles {
  std::string hosts;
  std::string resolver;

  bool operator==(const NameFiles&) const = default;
};

// Of each so much as a container could want (hosts: 1 MiB), up to the end of a line.
NameFiles ReadNameFiles();

// Whether this can be the name of a host: labels of letters, digits, '-' and '_', and the last one
// is no number (RFC 1123, 2.1; "10.0.0" is somebody's mistake). A dot at the end is fine: such a
// name is asked for as it is.
bool IsHostName(std::string_view name);

// All addresses of the name, each once, without a port, in the order of the file. `localhost`, and
// whatever ends with it, is 127.0.0.1 and ::1, too, unless the file sends it to another host
// (RFC 6761, 6.3).
std::vector<SocketAddress> FindInHosts(std::string_view hosts, std::string_view name);

// resolv.conf(5), as far as it is about servers that are asked directly.
struct ResolverSettings {
  std::vector<SocketAddress> servers;  // at least one: on this host, if the file names none
  std::vector<std::string> search;
  size_t ndots = 1;
  Milliseconds timeout{1'000};  // for the first try; doubled each time all have been asked
  int attempts = 3;
};
ResolverSettings ParseResolverSettings(std::string_view text);

// What to ask the servers for, one after the other until one is known.
std::vector<std::string> NamesToAsk(std::string_view name, const ResolverSettings& settings);

}  // namespace modal::event
