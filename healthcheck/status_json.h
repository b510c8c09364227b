// The status as one JSON object, the same for `/status` and for `modal-agent status`.
//
// Keys are the names of the fields in status.h. What has not happened (-1) is null; `entered_ms`
// and `spent_ms` are objects that name the phases entered so far, in the order of entry; `timeline`
// lists the steps of the boot in the order of their beginnings; `gateway` is null where there is
// none. The text is valid JSON whatever the bytes on the boards are.
#pragma once

#include <string>

#include "healthcheck/status.h"

namespace modal::health {

std::string StatusJson(const AgentStatus& status, const GatewayStatus* gateway);

}  // namespace modal::health
