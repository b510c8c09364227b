// Which variables of the workload's environment are part of the key. Pure.
//
// Every one is, since a program may have read any of them, except:
//   MODAL_AGENT_*            the agent's own: what of it reaches the workload's memory (user, port,
//                            limits, hooks ...) is in the key by itself, and log levels, timeouts
//                            and snapshot flags do not
//   HOSTNAME, container_uuid what names the one container
//   TERM, container          what some runtimes say, terminal or not, and builds of images do not
//   INVOCATION_ID ...        what systemd passes to one run of a service
//   _, SHLVL, OLDPWD         what the shell that started us leaves behind
//   Kubernetes' services     for each service it injects a whole group: NAME_SERVICE_HOST with an
//                            address, NAME_SERVICE_PORT with a number, NAME_PORT with
//                            PROTOCOL://HOST:PORT of both, and others that begin with these. Only
//                            what belongs to a whole group is left out: a DB_SERVICE_HOST that
//                            somebody has set by hand counts. (Services come and go with the
//                            namespace; a program that wants to see a new address asks DNS.)
//   `ignored`                names, or beginnings with a star ("ECS_*"): for ids and addresses that
//                            other platforms give to each container
#pragma once

#include <string>
#include <vector>

namespace modal::snapshot {

// By name; what has the same name stays in its order (the first one is what getenv(3) finds).
std::vector<std::string> CountedVariables(const std::vector<std::string>& environment,
                                          const std::vector<std::string>& ignored);

}  // namespace modal::snapshot
