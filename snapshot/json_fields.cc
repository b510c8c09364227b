#include "snapshot/json_fields.h"

#include <algorithm>
#include <exception>

#include "agent/base/strings.h"

namespace modal::snapshot {
namespace {

constexpr size_t kDeepest = 16;

// Each open bracket costs the parser memory, so they are counted before it sees them.
bool IsDeep(std::string_view text) {
  size_t depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_text) {
      if (c == '\\') ++i;
      if (c == '"') in_text = false;
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

}  // namespace

Result<Json> ParseJsonObject(std::string_view text) {
  if (IsDeep(text)) return Error("is nested too deeply");
  try {
    Json json = Json::parse(text.begin(), text.end());
    if (!json.is_object()) return Error("is no JSON object");
    return json;
  } catch (const Json::parse_error& error) {
    return Error(Concat("is not valid JSON at byte ", error.byte));
  } catch (const std::exception&) {
    return Error("is not valid JSON");  // a number that no type holds
  }
}

void JsonFields::Wrong(const char* name, std::string_view why) {
  if (!problem_) problem_ = Error(Concat(place_, name, ": ", why));
}

const Json* JsonFields::Find(const char* name) {
  if (problem_) return nullptr;
  const auto found = object_.find(name);
  if (found != object_.end()) return &*found;
  Wrong(name, "is missing");
  return nullptr;
}

void JsonFields::Text(const char* name, std::string& to) {
  const Json* value = Find(name);
  if (!value) return;
  if (!value->is_string()) return Wrong(name, "must be a text");
  to = value->get<std::string>();
}

void JsonFields::Flag(const char* name, bool& to) {
  const Json* value = Find(name);
  if (!value) return;
  if (!value->is_boolean()) return Wrong(name, "must be true or false");
  to = value->get<bool>();
}

void JsonFields::Texts(const char* name, std::vector<std::string>& to) {
  const Json* value = Find(name);
  if (!value) return;
  const auto is_text = [](const Json& item) { return item.is_string(); };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_text)) {
    return Wrong(name, "must be a list of texts");
  }
  to = value->get<std::vector<std::string>>();
}

std::optional<int64_t> JsonFields::Whole(const char* name, int64_t least, int64_t most) {
  const Json* value = Find(name);
  if (!value) return std::nullopt;
  const bool fits = value->is_number_unsigned()
                        ? value->get<uint64_t>() <= static_cast<uint64_t>(most)
                        : value->is_number_integer();
  if (fits) {
    const auto number = value->get<int64_t>();
    if (number >= least && number <= most) return number;
  }
  Wrong(name, Concat("must be a whole number from ", least, " to ", most));
  return std::nullopt;
}

void JsonFields::Object(const char* name, const std::function<void(JsonFields&)>& read) {
  const Json* value = Find(name);
  if (!value) return;
  if (!value->is_object()) return Wrong(name, "must be an object");
  JsonFields fields(*value, Concat(place_, name, "."), problem_);
  read(fields);
}

void JsonFields::Objects(const char* name, const std::function<void(JsonFields&)>& each) {
  const Json* value = Find(name);
  if (!value) return;
  if (!value->is_array()) return Wrong(name, "must be a list");
  for (size_t i = 0; i < value->size() && !problem_; ++i) {
    const Json& item = (*value)[i];
    if (!item.is_object()) return Wrong(name, Concat("[", i, "] must be an object"));
    JsonFields fields(item, Concat(place_, name, "[", i, "]."), problem_);
    each(fields);
  }
}

}  // namespace modal::snapshot
