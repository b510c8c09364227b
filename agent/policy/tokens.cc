#include "agent/policy/tokens.h"

#include <nettle/memops.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "agent/base/strings.h"

namespace modal::policy {
namespace {

constexpr std::string_view kForm = "KEY:SHA256[:ENVIRONMENT]";

bool IsWordCharacter(char c) { return c > ' ' && c < 0x7f && c != ':'; }

bool IsKey(std::string_view text) {
  return !text.empty() && text.size() <= kLongestKey && text.front() != '#' &&
         std::all_of(text.begin(), text.end(), IsWordCharacter);
}

Result<TokenRecord> ParseLine(std::string_view line) {
  const std::vector<std::string> fields = Split(line, ':');
  if (fields.size() < 2 || fields.size() > 3) {
    return Error(Concat("write ", kForm, ", as `modal-agent token new` prints it"));
  }
  if (!IsKey(fields[0])) {
    return Error(Concat("the key must be 1 to ", kLongestKey,
                        " printable ASCII characters without blanks; write ", kForm));
  }
  const std::optional<Sha256Digest> secret = DigestFromHex(fields[1]);
  if (!secret) {
    return Error(
        Concat("behind the key must stand the SHA-256 of the secret, 64 hex digits, and not ",
               "the secret itself; `printf %s SECRET | sha256sum` tells it"));
  }
  TokenRecord record{};
  if (fields.size() == 3) {
    if (!IsEnvironmentName(fields[2])) {
      return Error(Concat("the environment must be 1 to ", sizeof record.environment - 1,
                          " printable ASCII characters without blanks and '#'; "
                          "leave it out, and its colon, for a token that is good in all"));
    }
    std::copy(fields[2].begin(), fields[2].end(), record.environment);
  }
  const Sha256Digest key = Sha256(fields[0]);
  std::copy(key.begin(), key.end(), record.key_sha256);
  std::copy(secret->begin(), secret->end(), record.secret_sha256);
  return record;
}

int CompareKeys(const TokenRecord& a, const TokenRecord& b) {
  return std::memcmp(a.key_sha256, b.key_sha256, sizeof a.key_sha256);
}

std::string_view EnvironmentOf(const TokenRecord& record) {
  return {record.environment, ::strnlen(record.environment, sizeof record.environment)};
}

// The first 32 bits of a hash, as a number that sorts as the hash does.
uint32_t FirstBits(const uint8_t* hash) {
  return static_cast<uint32_t>(hash[0]) << 24 | static_cast<uint32_t>(hash[1]) << 16 |
         static_cast<uint32_t>(hash[2]) << 8 | hash[3];
}

// A record and the number of its line, to find what stands twice.
struct Numbered {
  const TokenRecord* record;
  size_t line;
};

Result<void> CheckUnique(const std::vector<TokenRecord>& records, const std::vector<size_t>& lines,
                         const std::string& name) {
  std::vector<Numbered> sorted;
  sorted.reserve(records.size());
  for (size_t i = 0; i < records.size(); ++i) sorted.push_back({&records[i], lines[i]});
  const auto compare = [](const Numbered& a, const Numbered& b) {
    if (const int keys = CompareKeys(*a.record, *b.record); keys != 0) return keys;
    return EnvironmentOf(*a.record).compare(EnvironmentOf(*b.record));
  };
  std::sort(sorted.begin(), sorted.end(), [&compare](const Numbered& a, const Numbered& b) {
    const int order = compare(a, b);
    return order != 0 ? order < 0 : a.line < b.line;
  });
  const auto twice = std::adjacent_find(
      sorted.begin(), sorted.end(),
      [&compare](const Numbered& a, const Numbered& b) { return compare(a, b) == 0; });
  if (twice == sorted.end()) return {};
  return Error(Concat(name, ":", std::next(twice)->line, ": the key of line ", twice->line,
                      " again, for the same environment; remove one of them"));
}

}  // namespace

bool IsEnvironmentName(std::string_view name) {
  return !name.empty() && name.size() < sizeof(TokenRecord::environment) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return IsWordCharacter(c) && c != '#'; });
}

Result<std::vector<TokenRecord>> ParseTokens(std::string_view text, const std::string& name) {
  std::vector<TokenRecord> records;
  std::vector<size_t> lines;
  if (constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
      text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#') continue;
    Result<TokenRecord> record = ParseLine(line);
    if (!record) return std::move(record.error()).While(Concat(name, ":", number));
    records.push_back(*record);
    lines.push_back(number);
  }
  if (records.empty()) {
    return Error(name +
                 ": there is no token in it, so that nobody could come in; "
                 "`modal-agent token new` makes one and prints its line");
  }
  if (records.size() > std::numeric_limits<uint32_t>::max()) {
    return Error(name + ": more tokens than can be counted");
  }
  if (Result<void> unique = CheckUnique(records, lines, name); !unique) {
    return std::move(unique.error());
  }
  return records;
}

TokenTable::TokenTable(std::span<const TokenRecord> records)
    : records_(records.begin(), records.end()) {
  std::stable_sort(
      records_.begin(), records_.end(),
      [](const TokenRecord& a, const TokenRecord& b) { return CompareKeys(a, b) < 0; });
  bits_ = static_cast<int>(std::bit_width(records_.size() | 1));
  begins_.resize((size_t{1} << bits_) + 1);
  uint32_t at = 0;
  for (size_t bucket = 0; bucket < begins_.size(); ++bucket) {
    while (at < records_.size() && FirstBits(records_[at].key_sha256) >> (32 - bits_) < bucket)
      ++at;
    begins_[bucket] = at;
  }
}

std::span<const TokenRecord> TokenTable::RecordsOf(const Sha256Digest& key) const {
  const uint32_t bucket = FirstBits(key.data()) >> (32 - bits_);
  const auto is_key = [&key](const TokenRecord& record) {
    return std::equal(key.begin(), key.end(), record.key_sha256);
  };
  const auto end = records_.begin() + begins_[bucket + 1];
  const auto first = std::find_if(records_.begin() + begins_[bucket], end, is_key);
  return {first, std::find_if_not(first, end, is_key)};
}

TokenVerdict TokenTable::Check(std::string_view key, std::string_view secret,
                               std::string_view our_environment) const {
  if (key.size() > kLongestKey || secret.size() > kLongestSecret) return TokenVerdict::kUnknown;
  const Sha256Digest key_digest = Sha256(key);
  const Sha256Digest secret_digest = Sha256(secret);
  bool known = false;
  bool good = false;
  for (const TokenRecord& record : RecordsOf(key_digest)) {
    const bool same =
        memeql_sec(record.secret_sha256, secret_digest.data(), secret_digest.size()) != 0;
    const std::string_view environment = EnvironmentOf(record);
    const bool ours =
        our_environment.empty() || environment.empty() || environment == our_environment;
    known |= same;
    good |= same && ours;
  }
  if (good) return TokenVerdict::kGood;
  return known ? TokenVerdict::kWrongEnvironment : TokenVerdict::kUnknown;
}

}  // namespace modal::policy
