#include "agent/policy/tokens.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "agent/base/strings.h"
#include "agent/policy/sha256.h"

namespace modal::policy {
namespace {

std::string LineOf(std::string_view key, std::string_view secret,
                   std::string_view environment = {}) {
  return Concat(key, ":", ToHex(Sha256(secret)), environment.empty() ? "" : ":", environment, "\n");
}

std::string ErrorOf(std::string_view text) {
  const auto parsed = ParseTokens(text, "tokens");
  return parsed ? "" : parsed.error().message();
}

TokenTable TableOf(std::string_view text) {
  const auto parsed = ParseTokens(text, "tokens");
  REQUIRE(parsed.ok());
  return TokenTable(*parsed);
}

TEST_CASE("SHA-256 is that of FIPS 180-4") {
  CHECK(ToHex(Sha256("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(ToHex(Sha256("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string upper = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
  CHECK(DigestFromHex(upper) == Sha256("abc"));
  CHECK_FALSE(DigestFromHex(upper.substr(1)));
  CHECK_FALSE(DigestFromHex("G" + upper.substr(1)));
}

TEST_CASE("a tokens file has keys, hashes and environments, comments and empty lines") {
  const std::string text = "# ours\n\n" + LineOf("wk-a", "s1") + "  " +
                           LineOf("wk-b", "s2", "main") + "\r\n\t# end\n" + LineOf("wk-c", "s3");
  const auto records = ParseTokens(text, "tokens");
  REQUIRE(records.ok());
  REQUIRE(records->size() == 3);
  CHECK(std::string_view((*records)[0].environment).empty());
  CHECK(std::string_view((*records)[1].environment) == "main");
  const Sha256Digest key = Sha256("wk-c");
  const Sha256Digest secret = Sha256("s3");
  CHECK(std::equal(key.begin(), key.end(), (*records)[2].key_sha256));
  CHECK(std::equal(secret.begin(), secret.end(), (*records)[2].secret_sha256));
}

TEST_CASE(
    "the last line may lack its newline, and lines may end, and the file begin, as in Windows") {
  std::string text = LineOf("a", "s");
  text.pop_back();
  CHECK(ErrorOf(text).empty());
  CHECK(ErrorOf(text + "\r\n" + LineOf("b", "s")).empty());
  CHECK(TableOf("\xef\xbb\xbf" + text).Check("a", "s", "") == TokenVerdict::kGood);
}

TEST_CASE("a bad line is refused with its number and what to write, and is not quoted") {
  const std::string good = LineOf("a", "s");
  CHECK(ErrorOf("\n" + good + "wk-b\n") ==
        "tokens:3: write KEY:SHA256[:ENVIRONMENT], as `modal-agent token new` prints it");
  CHECK(ErrorOf("a:b:c:d").starts_with("tokens:1: write KEY:SHA256[:ENVIRONMENT]"));
  const std::string secret = ErrorOf(good + "\nwk-b:ws-my-secret\n");
  CHECK(secret.starts_with("tokens:3: behind the key must stand the SHA-256 of the secret"));
  CHECK(secret.find("ws-my-secret") == std::string::npos);
  CHECK(ErrorOf(":" + std::string(64, '0')).starts_with("tokens:1: the key must be 1 to 128"));
  CHECK(ErrorOf("a b:" + std::string(64, '0')).starts_with("tokens:1: the key must be"));
  CHECK(ErrorOf(std::string(129, 'k') + ":" + std::string(64, '0'))
            .starts_with("tokens:1: the key must be"));
  const std::string hash = "a:" + std::string(64, '0');
  CHECK(ErrorOf(hash + ":").starts_with("tokens:1: the environment must be 1 to 63"));
  CHECK(ErrorOf(hash + ":" + std::string(64, 'e')).starts_with("tokens:1: the environment"));
  CHECK(ErrorOf(hash + ":main # ours").starts_with("tokens:1: the environment"));
  CHECK(ErrorOf(hash + ":" + std::string(63, 'e')).empty());
}

TEST_CASE("a file without any token is refused: nobody could come in") {
  CHECK(ErrorOf("").starts_with("tokens: there is no token in it"));
  CHECK(ErrorOf("# none\n\n").starts_with("tokens: there is no token in it"));
}

TEST_CASE("a key may stand once for each environment") {
  CHECK(ErrorOf(LineOf("a", "1") + LineOf("a", "2", "main") + LineOf("a", "3", "dev")).empty());
  CHECK(ErrorOf(LineOf("b", "1") + LineOf("a", "1") + "\n" + LineOf("a", "2")) ==
        "tokens:4: the key of line 2 again, for the same environment; remove one of them");
  CHECK(ErrorOf(LineOf("a", "1", "main") + LineOf("a", "1", "main")).starts_with("tokens:2: "));
}

TEST_CASE("a token is good with its own secret only") {
  const TokenTable table = TableOf(LineOf("wk-a", "one") + LineOf("wk-b", "two"));
  CHECK(table.size() == 2);
  CHECK(table.Check("wk-a", "one", "") == TokenVerdict::kGood);
  CHECK(table.Check("wk-b", "two", "main") == TokenVerdict::kGood);
  CHECK(table.Check("wk-a", "two", "") == TokenVerdict::kUnknown);
  CHECK(table.Check("wk-a", "", "") == TokenVerdict::kUnknown);
  CHECK(table.Check("wk-a", "one ", "") == TokenVerdict::kUnknown);
  CHECK(table.Check("WK-A", "one", "") == TokenVerdict::kUnknown);
  CHECK(table.Check("", "", "") == TokenVerdict::kUnknown);
  CHECK(table.Check("wk-c", "one", "") == TokenVerdict::kUnknown);
  CHECK(TokenTable({}).Check("wk-a", "one", "") == TokenVerdict::kUnknown);
}

TEST_CASE("keys and secrets beyond all measure are nobody's") {
  const std::string key(kLongestKey, 'k');
  const std::string secret(kLongestSecret, 's');
  const TokenTable table = TableOf(LineOf(key, secret) + LineOf("a", secret + "s"));
  CHECK(table.Check(key, secret, "") == TokenVerdict::kGood);
  CHECK(table.Check(key + "k", secret, "") == TokenVerdict::kUnknown);
  CHECK(table.Check("a", secret + "s", "") == TokenVerdict::kUnknown);
}

TEST_CASE("a right secret for another environment is told apart from a wrong one") {
  const TokenTable table =
      TableOf(LineOf("a", "one", "main") + LineOf("a", "two", "dev") + LineOf("b", "three") +
              LineOf("c", "same", "x") + LineOf("c", "same", "y"));
  CHECK(table.Check("a", "one", "main") == TokenVerdict::kGood);
  CHECK(table.Check("a", "one", "dev") == TokenVerdict::kWrongEnvironment);
  CHECK(table.Check("a", "two", "dev") == TokenVerdict::kGood);
  CHECK(table.Check("a", "three", "dev") == TokenVerdict::kUnknown);
  CHECK(table.Check("b", "three", "dev") == TokenVerdict::kGood);
  CHECK(table.Check("c", "same", "y") == TokenVerdict::kGood);
  CHECK(table.Check("c", "same", "z") == TokenVerdict::kWrongEnvironment);
  CHECK(table.Check("a", "one", "main2") == TokenVerdict::kWrongEnvironment);
  // Without an environment of ours, all of them are good.
  CHECK(table.Check("a", "one", "") == TokenVerdict::kGood);
  CHECK(table.Check("a", "two", "") == TokenVerdict::kGood);
}

TEST_CASE("each of ten thousand tokens is found, and nobody else's") {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += LineOf(Concat("wk-", i), Concat("ws-", i));
  const TokenTable table = TableOf(text);
  bool all_good = true;
  bool others_unknown = true;
  for (int i = 0; i < 10'000; ++i) {
    all_good &= table.Check(Concat("wk-", i), Concat("ws-", i), "") == TokenVerdict::kGood;
    others_unknown &=
        table.Check(Concat("wk-", i), Concat("ws-", i + 1), "") == TokenVerdict::kUnknown &&
        table.Check(Concat("wx-", i), Concat("ws-", i), "") == TokenVerdict::kUnknown;
  }
  CHECK(all_good);
  CHECK(others_unknown);
}

TEST_CASE("keys whose hashes share their first bits are told apart") {
  // Every record in one bucket, the last one included.
  std::vector<TokenRecord> records;
  for (uint8_t i = 0; i < 9; ++i) {
    TokenRecord record{};
    std::memset(record.key_sha256, 0xff, sizeof record.key_sha256);
    record.key_sha256[31] = i;
    records.push_back(record);
  }
  const Sha256Digest key = Sha256("wk");
  const Sha256Digest secret = Sha256("ws");
  TokenRecord ours{};
  std::copy(key.begin(), key.end(), ours.key_sha256);
  std::copy(secret.begin(), secret.end(), ours.secret_sha256);
  records.push_back(ours);
  const TokenTable table(records);
  CHECK(table.Check("wk", "ws", "") == TokenVerdict::kGood);
  CHECK(table.Check("wk", "wt", "") == TokenVerdict::kUnknown);
  CHECK(table.Check("wl", "ws", "") == TokenVerdict::kUnknown);
}

}  // namespace
}  // namespace modal::policy
