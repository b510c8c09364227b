// `modal-agent token new`: makes a key and a secret for a client, and the line for the file of
// --proxy-tokens. The secret is in what is printed, and nowhere else.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace modal {

struct NewToken {
  std::string key;     // "wk-" and 128 random bits: the client's Modal-Key
  std::string secret;  // "ws-" and 256 random bits: its Modal-Secret
  std::string line;    // for the file (agent/policy/tokens.h)
};

// `environment`: where the token is to be good; empty: everywhere. An Error says what a name may
// be, or that the kernel gave no random bytes.
Result<NewToken> MakeToken(std::string_view environment);

// What is printed.
std::string TokenText(const NewToken& token);
std::string TokenJson(const NewToken& token);

}  // namespace modal
