#include "agent/process/resource_limits.h"

#include <array>
#include <cctype>
#include <optional>
#include <utility>
#include <vector>

#include "agent/base/strings.h"

namespace modal::process {
namespace {

struct Resource {
  std::string_view name;
  int number;
};

constexpr std::array kResources{
    Resource{"as", RLIMIT_AS},
    Resource{"core", RLIMIT_CORE},
    Resource{"cpu", RLIMIT_CPU},
    Resource{"data", RLIMIT_DATA},
    Resource{"fsize", RLIMIT_FSIZE},
    Resource{"locks", RLIMIT_LOCKS},
    Resource{"memlock", RLIMIT_MEMLOCK},
    Resource{"msgqueue", RLIMIT_MSGQUEUE},
    Resource{"nice", RLIMIT_NICE},
    Resource{"nofile", RLIMIT_NOFILE},
    Resource{"nproc", RLIMIT_NPROC},
    Resource{"rss", RLIMIT_RSS},
    Resource{"rtprio", RLIMIT_RTPRIO},
    Resource{"rttime", RLIMIT_RTTIME},
    Resource{"sigpending", RLIMIT_SIGPENDING},
    Resource{"stack", RLIMIT_STACK},
};

std::string BareName(std::string_view name) {
  std::string bare;
  for (const char c : name) bare += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return bare.starts_with("rlimit_") ? bare.substr(7) : bare;
}

Result<int> ResourceNumber(std::string_view name) {
  const std::string bare = BareName(name);
  std::vector<std::string> names;
  for (const Resource& resource : kResources) {
    if (resource.name == bare) return resource.number;
    names.emplace_back(resource.name);
  }
  const std::optional<std::string> nearest = Nearest(bare, names);
  return Error(Concat(
      "unknown resource '", name, "'; ",
      nearest ? Concat("did you mean ", *nearest, "?") : Concat("there are ", Join(names, ", "))));
}

std::optional<rlim_t> ParseValue(std::string_view text) {
  if (text == "unlimited" || text == "-1") return RLIM_INFINITY;
  return ParseUnsigned(text);
}

std::string ValueToString(rlim_t value) {
  return value == RLIM_INFINITY ? "unlimited" : std::to_string(value);
}

}  // namespace

Result<ResourceLimit> ParseResourceLimit(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return Error(Concat("'", text, "' is not NAME=SOFT[:HARD], as in nofile=1024:65536"));
  }
  const Result<int> number = ResourceNumber(Trim(text.substr(0, equals)));
  if (!number) return number.error();

  const std::string_view values = Trim(text.substr(equals + 1));
  const size_t colon = values.find(':');
  const std::optional<rlim_t> soft = ParseValue(values.substr(0, colon));
  const std::optional<rlim_t> hard =
      colon == std::string_view::npos ? soft : ParseValue(values.substr(colon + 1));
  if (!soft || !hard) {
    return Error(Concat("'", values, "' is not SOFT[:HARD]: each is a number or 'unlimited'"));
  }
  if (*soft > *hard) {
    return Error(Concat("the soft limit ", ValueToString(*soft), " is above the hard limit ",
                        ValueToString(*hard)));
  }
  return ResourceLimit{*number, {*soft, *hard}};
}

std::string ResourceName(int resource) {
  for (const Resource& known : kResources) {
    if (known.number == resource) return std::string(known.name);
  }
  return Concat("resource ", resource);
}

std::string ResourceLimitToString(const rlimit& limit) {
  return Concat(ValueToString(limit.rlim_cur), ":", ValueToString(limit.rlim_max));
}

}  // namespace modal::process
