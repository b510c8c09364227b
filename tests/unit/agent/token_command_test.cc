#include "agent/token_command.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "agent/policy/tokens.h"

namespace modal {
namespace {

using policy::TokenVerdict;

NewToken Made(std::string_view environment = {}) {
  Result<NewToken> token = MakeToken(environment);
  REQUIRE(token.ok());
  return *std::move(token);
}

bool IsUrlSafe(std::string_view text) {
  return text.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
         std::string_view::npos;
}

TEST_CASE("a new token's line lets its key and secret in") {
  const NewToken token = Made("main");
  const auto records = policy::ParseTokens(token.line + "\n", "tokens");
  REQUIRE(records.ok());
  const policy::TokenTable table(*records);
  CHECK(table.Check(token.key, token.secret, "main") == TokenVerdict::kGood);
  CHECK(table.Check(token.key, token.secret, "dev") == TokenVerdict::kWrongEnvironment);
  CHECK(table.Check(token.key, Made().secret, "main") == TokenVerdict::kUnknown);
}

TEST_CASE("a token without an environment says so by having none") {
  const NewToken token = Made();
  CHECK(token.line.starts_with(token.key + ":"));
  CHECK(token.line.size() == token.key.size() + 1 + 64);
}

TEST_CASE("keys and secrets can be told apart, need no quoting, and are never the same twice") {
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    const NewToken token = Made();
    CHECK(token.key.starts_with("wk-"));
    CHECK(token.key.size() == 3 + 22);
    CHECK(token.secret.starts_with("ws-"));
    CHECK(token.secret.size() == 3 + 43);
    CHECK(IsUrlSafe(token.key));
    CHECK(IsUrlSafe(token.secret));
    seen.insert(token.key.substr(3));
    seen.insert(token.secret.substr(3));
  }
  CHECK(seen.size() == 400);
}

TEST_CASE("the secret does not stand in the line") {
  const NewToken token = Made();
  CHECK(token.line.find(token.secret.substr(3)) == std::string::npos);
}

TEST_CASE("a name that cannot be an environment's is refused") {
  for (const char* bad : {"a b", "a:b", "#a", "\n"}) CHECK_FALSE(MakeToken(bad).ok());
  CHECK_FALSE(MakeToken(std::string(64, 'e')).ok());
  CHECK(MakeToken(std::string(63, 'e')).ok());
}

TEST_CASE("a token is printed for people and for programs") {
  const NewToken token{"wk-1", "ws-2", "wk-1:abc"};
  CHECK(TokenText(token).starts_with("key     wk-1\nsecret  ws-2\nline    wk-1:abc\n\n"));
  const auto json = nlohmann::json::parse(TokenJson(token));
  CHECK(json == nlohmann::json{{"key", "wk-1"}, {"secret", "ws-2"}, {"line", "wk-1:abc"}});
}

}  // namespace
}  // namespace modal
