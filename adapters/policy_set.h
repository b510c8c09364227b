// The policy of the moment, shared by all threads and never changed: a reload makes another one.
#pragma once

#include <memory>
#include <span>

#include "agent/policy/gateway_config.h"
#include "agent/policy/rate_limiter.h"
#include "agent/policy/tokens.h"

namespace modal::adapters {

struct PolicySet {
  PolicySet(const policy::GatewayConfig& its_config, std::span<const policy::TokenRecord> records)
      : config(its_config),
        tokens(records),
        limiter(std::make_shared<policy::RateLimiter>(config.rate_limit, config.rate_burst)) {}

  policy::GatewayConfig config;
  policy::TokenTable tokens;
  // The bucket stays as full as it is if the rate does not change.
  std::shared_ptr<policy::RateLimiter> limiter;

  std::span<const policy::Network> trusted() const {
    return {config.trusted, config.trusted_count};
  }
};

}  // namespace modal::adapters
