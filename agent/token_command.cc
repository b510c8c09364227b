#include "agent/token_command.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <span>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/policy/sha256.h"
#include "agent/policy/tokens.h"

namespace modal {
namespace {

constexpr size_t kKeyBytes = 16;
constexpr size_t kSecretBytes = 32;

Result<void> FillWithRandom(std::span<uint8_t> bytes) {
  // So few come whole, once the kernel has entropy.
  while (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    if (errno != EINTR) return Error::FromErrno("getrandom", errno);
  }
  return {};
}

// RFC 4648, section 5, without padding: nothing that a shell, a header or a URL treats specially.
std::string UrlSafe(std::span<const uint8_t> bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  uint32_t bits = 0;
  int count = 0;
  for (const uint8_t byte : bytes) {
    bits = bits << 8 | byte;
    for (count += 8; count >= 6; count -= 6) text += kDigits[bits >> (count - 6) & 63];
  }
  if (count > 0) text += kDigits[bits << (6 - count) & 63];
  return text;
}

}  // namespace

Result<NewToken> MakeToken(std::string_view environment) {
  if (!environment.empty() && !policy::IsEnvironmentName(environment)) {
    return Error(Concat("--environment ", environment, ": ", policy::kEnvironmentNames));
  }
  std::array<uint8_t, kKeyBytes + kSecretBytes> bytes;
  if (Result<void> filled = FillWithRandom(bytes); !filled) return std::move(filled.error());
  NewToken token;
  token.key = "wk-" + UrlSafe(std::span(bytes).first(kKeyBytes));
  token.secret = "ws-" + UrlSafe(std::span(bytes).last(kSecretBytes));
  token.line = Concat(token.key, ":", policy::ToHex(policy::Sha256(token.secret)),
                      environment.empty() ? "" : ":", environment);
  return token;
}

std::string TokenText(const NewToken& token) {
  return Concat("key     ", token.key, "\nsecret  ", token.secret, "\nline    ", token.line,
                "\n\n"
                "Clients send key and secret in the headers Modal-Key and Modal-Secret; the\n"
                "line goes into the file of --proxy-tokens. The secret is kept nowhere: what is\n"
                "not noted now cannot be shown again.\n");
}

std::string TokenJson(const NewToken& token) {
  JsonWriter json;
  json.BeginObject();
  json.Key("key").String(token.key);
  json.Key("secret").String(token.secret);
  json.Key("line").String(token.line);
  json.EndObject();
  return json.Take() + "\n";
}

}  // namespace modal
