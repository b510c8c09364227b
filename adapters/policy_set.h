// The policy of the moment, shared by all threads and never changed: a reload makes another one.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "agent/event/name_files.h"
#include "agent/policy/gateway_config.h"
#include "agent/policy/rate_limiter.h"
#include "agent/policy/tokens.h"

namespace modal::adapters {

struct PolicySet {
  PolicySet(const policy::GatewayConfig& its_config, std::span<const policy::TokenRecord> records,
            event::NameFiles its_names = {})
      : config(its_config),
        tokens(records),
        names(std::move(its_names)),
        limiter(std::make_shared<policy::RateLimiter>(config.rate_limit, config.rate_burst)) {}

  policy::GatewayConfig config;
  policy::TokenTable tokens;
  event::NameFiles names;  // where the server has a name
  // The bucket stays as full as it is if the rate does not change.
  std::shared_ptr<policy::RateLimiter> limiter;

  std::span<const policy::Network> trusted() const {
    return {config.trusted, config.trusted_count};
  }
};

}  // namespace modal::adapters
