// What the admin port answers. Pure: a request and the status go in, a response comes out.
//
//   /livez     200 unless the workload was found unhealthy
//   /startupz  200 once it has been serving
//   /readyz    200 while requests are welcome
//   /status    the status as JSON
//   /metrics   the status in Prometheus' text format
//   /          what is here
//
// GET and HEAD only (405 with Allow otherwise); queries are ignored; an unknown path is 404. Errors
// have a small JSON body: {"error":"not_ready","message":"WaitingForPort: nothing listens yet"}.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "healthcheck/status.h"

namespace modal::health {

struct AdminRequest {
  std::string_view method;
  std::string_view target;  // as on the request line
};

// Besides these headers, every response has "Cache-Control: no-store".
struct AdminResponse {
  int status = 200;
  std::string_view content_type;
  std::string_view allow;  // the Allow header; empty: none
  std::string body;        // the answer to HEAD has it too: only its size is sent
};

// `status` is null where the board cannot be read (503), `gateway` where there is nothing to say.
AdminResponse AnswerAdmin(const AdminRequest& request, const AgentStatus* status,
                          const GatewayStatus* gateway, int64_t now_unix_ms);

}  // namespace modal::health
