#include "snapshot/verdict.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"
#include "agent/base/utf8.h"
#include "snapshot/json_fields.h"

namespace modal::snapshot {
namespace {

constexpr size_t kLongestReason = 300;

struct Named {
  Standing standing;
  std::string_view name;
};

constexpr std::array kStandings{
    Named{Standing::kUnproven, "unproven"},
    Named{Standing::kProven, "proven"},
    Named{Standing::kNotWorthIt, "not-worth-it"},
    Named{Standing::kQuarantined, "quarantined"},
};

std::optional<Standing> StandingNamed(std::string_view name) {
  for (const Named& known : kStandings) {
    if (known.name == name) return known.standing;
  }
  return std::nullopt;
}

// It stands on a terminal and in a log: one line, of a length that can be read.
std::string OneLine(std::string_view text) {
  std::string line;
  while (!text.empty() && line.size() < kLongestReason) {
    const Utf8Character character = FirstCharacter(text);
    if (character.control) {
      line += ' ';
    } else {
      line += character.valid ? text.substr(0, character.length) : kReplacementCharacter;
    }
    text.remove_prefix(character.length);
  }
  return std::string(Trim(line));
}

uint32_t OneMore(uint32_t count) {
  return count == std::numeric_limits<uint32_t>::max() ? count : count + 1;
}

}  // namespace

std::string_view StandingName(Standing standing) {
  const auto found = std::find_if(kStandings.begin(), kStandings.end(),
                                  [&](const Named& known) { return known.standing == standing; });
  MODAL_CHECK(found != kStandings.end());
  return found->name;
}

Verdict AfterRestore(Verdict verdict, Milliseconds restore, Milliseconds cold) {
  verdict.failures = 0;
  verdict.restores = OneMore(verdict.restores);
  verdict.last_restore_ms = std::max<int64_t>(0, restore.count());
  if (verdict.restores == 1) verdict.first_restore_ms = verdict.last_restore_ms;
  const bool is_known = cold.count() > 0;
  if (verdict.standing != Standing::kUnproven || !is_known) return verdict;
  const bool is_worth_it =
      static_cast<double>(restore.count()) < kWorth * static_cast<double>(cold.count());
  verdict.standing = is_worth_it ? Standing::kProven : Standing::kNotWorthIt;
  verdict.reason =
      Concat("restored in ", restore.count(), " ms, a cold start took ", cold.count(), " ms");
  return verdict;
}

Verdict AfterFailure(Verdict verdict, std::string_view why) {
  verdict.failures = OneMore(verdict.failures);
  verdict.reason = OneLine(why);
  if (verdict.failures >= kFailuresToQuarantine) verdict.standing = Standing::kQuarantined;
  return verdict;
}

std::string ToJson(const Verdict& verdict) {
  JsonWriter json;
  json.BeginObject();
  json.Key("standing").String(StandingName(verdict.standing));
  json.Key("failures").Number(verdict.failures);
  json.Key("restores").Number(verdict.restores);
  json.Key("first_restore_ms").Number(verdict.first_restore_ms);
  json.Key("last_restore_ms").Number(verdict.last_restore_ms);
  json.Key("reason").String(verdict.reason);
  json.EndObject();
  return json.Take() + "\n";
}

Result<Verdict> ParseVerdict(std::string_view text) {
  const Result<Json> json = ParseJsonObject(text);
  if (!json) return json.error();
  std::optional<Error> problem;
  JsonFields fields(*json, problem);
  Verdict verdict;
  std::string standing;
  fields.Text("standing", standing);
  if (const std::optional<Standing> known = StandingNamed(standing)) {
    verdict.standing = *known;
  } else {
    fields.Wrong("standing", "is none of unproven, proven, not-worth-it, quarantined");
  }
  fields.Number("failures", verdict.failures);
  fields.Number("restores", verdict.restores);
  fields.Number("first_restore_ms", verdict.first_restore_ms, -1);
  fields.Number("last_restore_ms", verdict.last_restore_ms, -1);
  fields.Text("reason", verdict.reason);
  verdict.reason = OneLine(verdict.reason);
  if (problem) return *problem;
  return verdict;
}

}  // namespace modal::snapshot
