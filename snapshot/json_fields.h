// Takes the fields of a JSON object (RFC 8259) that somebody else may have written, one line for
// each field. The first thing that is wrong is kept and what follows is passed over, so that it is
// asked for once, at the end:
//
//   Result<Json> json = ParseJsonObject(text);
//   std::optional<Error> problem;
//   JsonFields fields(*json, problem);
//   fields.Text("key", manifest.key);
//   fields.Number("uid", manifest.uid);
//   if (problem) return *problem;     ->  "uid: must be a whole number from 0 to 4294967295"
//
// A field that is missing, of another type or out of the range of what it goes to is wrong.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace modal::snapshot {

using Json = nlohmann::json;

// An Error: it is no JSON, no object, or nested deeper than anything of ours.
Result<Json> ParseJsonObject(std::string_view text);

class JsonFields {
 public:
  JsonFields(const Json& object, std::optional<Error>& problem) : JsonFields(object, "", problem) {}

  void Text(const char* name, std::string& to);
  void Texts(const char* name, std::vector<std::string>& to);
  void Flag(const char* name, bool& to);
  // Numbers beyond the range of int64_t are not ours.
  template <class Integer>
  void Number(const char* name, Integer& to,
              int64_t least = static_cast<int64_t>(std::numeric_limits<Integer>::min())) {
    constexpr uint64_t kMost = std::numeric_limits<Integer>::max();
    constexpr uint64_t kWidest = std::numeric_limits<int64_t>::max();
    constexpr int64_t most = static_cast<int64_t>(kMost < kWidest ? kMost : kWidest);
    if (const std::optional<int64_t> number = Whole(name, least, most)) {
      to = static_cast<Integer>(*number);
    }
  }
  void Object(const char* name, const std::function<void(JsonFields&)>& read);
  void Objects(const char* name, const std::function<void(JsonFields&)>& each);

  // What was read is wrong in a way of its own.
  void Wrong(const char* name, std::string_view why);
  bool ok() const { return !problem_; }

 private:
  JsonFields(const Json& object, std::string place, std::optional<Error>& problem)
      : object_(object), place_(std::move(place)), problem_(problem) {}

  const Json* Find(const char* name);
  std::optional<int64_t> Whole(const char* name, int64_t least, int64_t most);

  const Json& object_;
  const std::string place_;  // of the object, with a dot at its end
  std::optional<Error>& problem_;
};

}  // namespace modal::snapshot
