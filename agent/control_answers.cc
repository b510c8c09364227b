#include "agent/control_answers.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "agent/base/strings.h"
#include "agent/readable.h"
#include "agent/timeline_picture.h"

namespace modal {
namespace {

// Keeps the order of keys, which is the order in which phases were entered.
using Json = nlohmann::ordered_json;

// A JSON object whose members are looked up by name, with what stands in for a missing one.
class Answer {
 public:
  static Result<Answer> Parse(std::string_view text) {
    Json object = Json::parse(text, nullptr, false);
    if (!object.is_object()) {
      return Error(Concat("the agent's answer is not a JSON object: ", text.substr(0, 100)));
    }
    return Answer(std::move(object));
  }

  std::string Text(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && found->is_string() ? Printable(found->get<std::string>()) : "";
  }
  std::optional<int64_t> Number(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_number_integer()) return std::nullopt;
    return found->get<int64_t>();
  }
  // Milliseconds with or without a fraction, as microseconds.
  std::optional<int64_t> Microseconds(const char* key) const {
    constexpr double kMost = 1e18;
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_number()) return std::nullopt;
    return static_cast<int64_t>(std::clamp(std::round(found->get<double>() * 1000), -kMost, kMost));
  }
  bool True(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && found->is_boolean() && found->get<bool>();
  }
  std::optional<Answer> Object(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_object()) return std::nullopt;
    return Answer(*found);
  }
  std::vector<std::string> Texts(const char* key) const {
    std::vector<std::string> texts;
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_array()) return texts;
    for (const Json& one : *found) {
      if (one.is_string()) texts.push_back(Printable(one.get<std::string>()));
    }
    return texts;
  }
  std::vector<Answer> Objects(const char* key) const {
    std::vector<Answer> objects;
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_array()) return objects;
    for (const Json& one : *found) {
      if (one.is_object()) objects.push_back(Answer(one));
    }
    return objects;
  }
  // An object of numbers, by value.
  std::vector<std::pair<std::string, int64_t>> Numbers(const char* key) const {
    std::vector<std::pair<std::string, int64_t>> numbers;
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_object()) return numbers;
    for (const auto& [name, value] : found->items()) {
      if (value.is_number_integer()) numbers.emplace_back(Printable(name), value.get<int64_t>());
    }
    std::stable_sort(numbers.begin(), numbers.end(),
                     [](const auto& a, const auto& b) { return a.second < b.second; });
    return numbers;
  }

 private:
  explicit Answer(Json object) : object_(std::move(object)) {}

  // Names of commands and errors of servers are shown here; they move no cursor and set no colour.
  static std::string Printable(std::string text) {
    const auto is_control = [](char c) {
      return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    };
    std::replace_if(text.begin(), text.end(), is_control, ' ');
    return text;
  }

  Json object_;
};

// An answer that says that it was done.
Result<Answer> ParseDone(std::string_view json) {
  Result<Answer> answer = Answer::Parse(json);
  if (!answer || answer->True("ok")) return answer;
  const std::string error = answer->Text("error");
  return Error(error.empty() ? "the agent refused and did not say why" : error);
}

class Table {
 public:
  void Add(std::string_view name, std::string_view value) {
    if (value.empty()) return;
    text_ += name;
    text_.append(name.size() < kColumn ? kColumn - name.size() : 1, ' ');
    text_ += value;
    text_ += '\n';
  }
  std::string Take() { return std::move(text_); }

 private:
  static constexpr size_t kColumn = 14;
  std::string text_;
};

std::string Readiness(const Answer& status) {
  if (status.True("drain_requested")) return "no: a drain was asked for";
  if (!status.True("ready")) return "no";
  const std::optional<int64_t> after = status.Number("ready_ms");
  return after ? Concat("yes, for the first time after ", ReadableTime(*after)) : "yes";
}

std::string Port(const Answer& status) {
  const std::optional<int64_t> port = status.Number("port");
  if (!port) return "";
  const std::string listening = status.Text("listening");
  // A server that is at no port of this host.
  if (*port == 0) return listening.empty() ? status.Text("waiting_note") : "at " + listening;
  if (!listening.empty()) return Concat(*port, ", listening on ", listening);
  const std::string note = status.Text("waiting_note");
  return Concat(*port, note.empty() ? ", not listening" : ", " + note);
}

std::string Listen(const Answer& status) {
  const std::string listen = status.Text("listen");
  return listen.empty() ? "" : Concat(listen, " -> ", status.Text("upstream"));
}

// "4 in flight (1 queued), 120 so far; refused: 3 (rate_limited 2, not_ready 1)".
std::string Requests(const Answer& status) {
  const std::optional<Answer> gateway = status.Object("gateway");
  const std::optional<Answer> traffic = gateway ? gateway->Object("traffic") : std::nullopt;
  if (!traffic) return "";
  std::string text = Concat(traffic->Number("in_flight").value_or(0), " in flight");
  std::vector<std::string> others;
  for (const char* name : {"queued", "held", "websockets"}) {
    const int64_t count = traffic->Number(name).value_or(0);
    if (count > 0) others.push_back(Concat(count, " ", name));
  }
  if (!others.empty()) text += Concat(" (", Join(others, ", "), ")");
  text += Concat(", ", traffic->Number("requests").value_or(0), " so far");
  int64_t refused = 0;
  std::vector<std::string> reasons;
  for (const auto& [reason, count] : traffic->Numbers("refused")) {
    refused += count;
    reasons.insert(reasons.begin(), Concat(reason, " ", count));
  }
  if (refused > 0) text += Concat("; refused: ", refused, " (", Join(reasons, ", "), ")");
  return text;
}

std::string Server(const Answer& status) {
  const std::optional<int64_t> pid = status.Number("workload_pid");
  std::string text = status.Text("command");
  if (text.empty()) text = "none of ours";
  if (pid.value_or(0) > 0) text += Concat(" (pid ", *pid, ")");
  const int64_t restarts = status.Number("restarts").value_or(0);
  if (restarts > 0) text += Concat(", restarts: ", restarts);
  return text;
}

// "restored from 65f7aa5c after 51 ms"; "cold start: there is no snapshot of this key yet".
std::string Snapshot(const Answer& status) {
  const std::optional<Answer> snapshot = status.Object("snapshot");
  if (!snapshot) return "";
  const std::string key = snapshot->Text("key").substr(0, 8);
  const std::string note = snapshot->Text("note");
  std::string text = note.empty() ? snapshot->Text("origin") : note;
  if (snapshot->Text("origin") == "restore") {
    text = "restored from " + key;
    if (const auto after = snapshot->Number("restored_ms"))
      text += " after " + ReadableTime(*after);
  } else if (!key.empty()) {
    text += Concat(" (key ", key, ")");
  }
  return text;
}

std::string Health(const Answer& status) {
  const int64_t checks = status.Number("checks").value_or(0);
  if (checks == 0) return "not checked yet";
  const int64_t failures = status.Number("check_failures").value_or(0);
  const int64_t in_a_row = status.Number("consecutive_failures").value_or(0);
  std::string text = !status.True("live") ? "unhealthy" : in_a_row > 0 ? "failing" : "healthy";
  text += Concat("; checks: ", checks, ", failures: ", failures);
  if (in_a_row > 0) {
    text += Concat(" (", in_a_row, " in a row, of ", status.Number("failure_threshold").value_or(0),
                   ")");
  }
  const std::string last = status.Text("last_failure");
  if (!last.empty()) text += "; the last: " + last;
  return text;
}

std::string Hooks(const Answer& status) {
  const int64_t run = status.Number("hooks_run").value_or(0);
  const int64_t failed = status.Number("hooks_failed").value_or(0);
  if (run == 0) return "";
  return failed == 0 ? Concat(run, " run") : Concat(run, " run, ", failed, " failed");
}

std::string Stop(const Answer& status) {
  std::string text = status.Text("stop_by");
  const std::string reason = status.Text("stop_reason");
  if (!reason.empty()) text += Concat(text.empty() ? "" : ": ", reason);
  const std::optional<int64_t> longest = status.Number("stop_longest_ms");
  if (!text.empty() && longest) text += Concat(" (takes ", ReadableTime(*longest), " at most)");
  return text;
}

std::string Agent(const Answer& status, int64_t now_unix_ms) {
  std::string text = Concat("modal-agent ", status.Text("version"));
  if (const auto pid = status.Number("agent_pid")) text += Concat(", pid ", *pid);
  const std::optional<int64_t> started = status.Number("started_unix_ms");
  // The clock may have been set since.
  if (started && *started <= now_unix_ms) text += ", up " + ReadableTime(now_unix_ms - *started);
  return text;
}

std::optional<int64_t> ValueOf(const std::vector<std::pair<std::string, int64_t>>& numbers,
                               const std::string& name) {
  for (const auto& [key, value] : numbers) {
    if (key == name) return value;
  }
  return std::nullopt;
}

// The last visit to each phase; after a restart of the server, how long those before it took.
void AddPhases(const Answer& status, Table& table) {
  const auto entered = status.Numbers("entered_ms");
  const auto spent = status.Numbers("spent_ms");
  const auto total = status.Numbers("total_ms");
  const std::string current = status.Text("phase");
  std::string_view name = "phases";
  for (const auto& [phase, at] : entered) {
    std::string line = Concat("at ", ReadableTime(at), "  ", phase);
    const int64_t lasted = ValueOf(spent, phase).value_or(0);
    const int64_t before = ValueOf(total, phase).value_or(0) - lasted;
    if (phase != current && ValueOf(spent, phase)) line += ", for " + ReadableTime(lasted);
    if (before > 0) line += Concat(", and ", ReadableTime(before), " before");
    table.Add(name, line);
    name = " ";
  }
}

}  // namespace

Result<HealthAnswer> ReadHealthAnswer(std::string_view json) {
  const Result<Answer> answer = Answer::Parse(json);
  if (!answer) return answer.error();
  HealthAnswer health;
  health.healthy = answer->True("healthy");
  health.line =
      Concat(health.healthy ? "healthy" : "not healthy", " (", answer->Text("phase"), ")");
  const std::string reason = answer->Text("reason");
  if (!reason.empty()) health.line += ": " + reason;
  return health;
}

Result<std::string> ReadDrainAnswer(std::string_view json) {
  const Result<Answer> answer = ParseDone(json);
  if (!answer) return answer.error();
  return std::string(
      "not ready from now on, but up until it is stopped (SIGTERM); nothing takes that back\n");
}

Result<std::string> ReadReloadAnswer(std::string_view json) {
  const Result<Answer> answer = ParseDone(json);
  if (!answer) return answer.error();
  const std::string changed = Join(answer->Texts("changed"), ", ");
  const std::string waiting = Join(answer->Texts("waiting"), ", ");
  std::string lines = changed.empty() ? "nothing that is in force has changed\n"
                                      : Concat("changed: ", changed, "\n");
  if (!waiting.empty()) lines += Concat("waiting for the next start: ", waiting, "\n");
  return lines;
}

Result<std::string> StatusTable(std::string_view json, int64_t now_unix_ms) {
  const Result<Answer> status = Answer::Parse(json);
  if (!status) return status.error();
  Table table;
  table.Add("phase", status->Text("phase"));
  table.Add("ready", Readiness(*status));
  table.Add("listen", Listen(*status));
  table.Add("port", Port(*status));
  table.Add("server", Server(*status));
  table.Add("snapshot", Snapshot(*status));
  table.Add("requests", Requests(*status));
  table.Add("health", Health(*status));
  table.Add("hooks", Hooks(*status));
  table.Add("stop", Stop(*status));
  if (const auto code = status->Number("exit_code")) table.Add("exit code", std::to_string(*code));
  AddPhases(*status, table);
  table.Add("agent", Agent(*status, now_unix_ms));
  return table.Take();
}

Result<std::string> TimelineText(std::string_view json, size_t width) {
  const Result<Answer> status = Answer::Parse(json);
  if (!status) return status.error();
  std::vector<TimelineStep> steps;
  for (const Answer& one : status->Objects("timeline")) {
    TimelineStep step{one.Text("step"), one.Microseconds("begin_ms").value_or(0),
                      one.Microseconds("ms"), one.True("failed")};
    if (!step.name.empty()) steps.push_back(std::move(step));
  }
  const std::optional<int64_t> ready = status->Number("ready_ms");
  const std::string snapshot = Snapshot(*status);
  Table head;
  head.Add("start", snapshot.empty() ? "cold" : snapshot);
  head.Add("ready", ready ? "after " + ReadableTime(*ready)
                          : Concat("not yet (", status->Text("phase"), ")"));
  std::string out = head.Take();
  if (steps.empty()) return out + "The agent says nothing of its steps.\n";
  const int64_t now_us = status->Microseconds("updated_ms").value_or(0);
  return Concat(out, "\n", DrawTimeline(steps, now_us, width));
}

}  // namespace modal
