// Proxy tokens: who may send requests here. Pure.
//
// The tokens file has one token a line, KEY:SHA256[:ENVIRONMENT], with the SHA-256 of the secret in
// hex; lines that are empty or begin with # say nothing. The secret itself stands nowhere, and of
// the key too only the SHA-256 is kept.
//
// A key may stand once for each environment, and once without one (good in every environment);
// these are tokens of their own, each with its secret.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/gateway_config.h"
#include "agent/policy/sha256.h"

namespace modal::policy {

// Keys, and secrets, that are longer than this are nobody's.
inline constexpr size_t kLongestKey = 128;
inline constexpr size_t kLongestSecret = 1024;

// An Error is "NAME:LINE: what is wrong, and what to write", or "NAME: there is no token in it
// ..."; `name` is the file's. It never quotes a line: someone may have put a secret there.
Result<std::vector<TokenRecord>> ParseTokens(std::string_view text, const std::string& name);

// Whether `name` can stand for an environment: 1 to 63 printable ASCII characters, no blank, colon
// or '#'.
bool IsEnvironmentName(std::string_view name);
inline constexpr std::string_view kEnvironmentNames =
    "write 1 to 63 printable ASCII characters without blanks, ':' and '#'";

enum class TokenVerdict {
  kGood,
  kUnknown,           // 401
  kWrongEnvironment,  // 403: the key and its secret are right, but for another environment
};

// The tokens, found by the hash of their key. Never changes: any number of threads may check at
// once. A check allocates nothing, costs two SHA-256 whatever there is in the table, and neither
// the key's nor the secret's bytes show in the time that it takes.
class TokenTable {
 public:
  explicit TokenTable(std::span<const TokenRecord> records);

  // `our_environment` empty: a token for any environment is good.
  TokenVerdict Check(std::string_view key, std::string_view secret,
                     std::string_view our_environment) const;

  size_t size() const { return records_.size(); }

 private:
  std::span<const TokenRecord> RecordsOf(const Sha256Digest& key) const;

  std::vector<TokenRecord> records_;  // sorted by the hash of the key
  // The first bits of a hash are where to look: records_[begins_[bits]] to records_[begins_[bits +
  // 1]], which on the average is one record or none.
  int bits_ = 0;
  std::vector<uint32_t> begins_;
};

}  // namespace modal::policy
