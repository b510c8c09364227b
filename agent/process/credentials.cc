#include "agent/process/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string_view>

#include "agent/base/exit_status.h"
#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal::process {
namespace {

struct Line {
  std::vector<std::string> fields;
  size_t number;  // from 1
};

// One of the two files: lines of fields with ':' between them. A missing file is an empty one;
// then `missing` says so, for the error about a name that cannot be found.
struct Table {
  std::string path;
  std::vector<Line> lines;
  bool missing = false;

  Error ErrorAt(const Line& line, std::string_view problem) const {
    return Error(Concat(path, ":", line.number, ": ", problem));
  }
};

Result<std::string> ReadFile(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::FromErrno("open " + path, errno);
  std::string text;
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Error::FromErrno("read " + path, errno);
    if (size == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(size));
  }
}

Result<Table> ReadTable(const std::string& path) {
  Table table{path, {}, false};
  const Result<std::string> text = ReadFile(path);
  if (!text && text.error().code() == ENOENT) {
    table.missing = true;
    return table;
  }
  if (!text) return text.error();
  size_t number = 0;
  for (const std::string& line : Split(*text, '\n')) {
    ++number;
    // "+" and "-" lines are for the NSS module "compat".
    const std::string_view content = Trim(line);
    if (content.empty() || std::string_view("#+-").find(content[0]) != std::string_view::npos) {
      continue;
    }
    table.lines.push_back({Split(content, ':'), number});
  }
  return table;
}

std::optional<uint32_t> ParseId(std::string_view text) {
  const std::optional<uint64_t> id = ParseUnsigned(text);
  // The highest value is -1: "no change" to the kernel.
  if (!id || *id >= std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(*id);
}

bool IsNumber(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Error UnknownName(std::string_view kind, const std::string& name, const Table& table) {
  if (table.missing) {
    return Error(Concat("unknown ", kind, " '", name, "': there is no ", table.path,
                        "; give the number instead"));
  }
  std::vector<std::string> names;
  for (const Line& line : table.lines) names.push_back(line.fields[0]);
  const std::optional<std::string> nearest = Nearest(name, names);
  return Error(Concat("unknown ", kind, " '", name, "': not in ", table.path,
                      nearest ? Concat("; did you mean ", *nearest, "?") : ""));
}

Error NotAnId(std::string_view kind, const std::string& number) {
  return Error(Concat("'", number, "' is no ", kind, " id; there are 0 to 4294967294"));
}

// The line named `key`, or else the one whose field `id_field` is that number; null if none is.
const Line* FindLine(const Table& table, const std::string& key, size_t id_field) {
  for (const Line& line : table.lines) {
    if (line.fields[0] == key) return &line;
  }
  const std::optional<uint32_t> id = ParseId(key);
  if (!id) return nullptr;
  for (const Line& line : table.lines) {
    if (line.fields.size() > id_field && ParseId(line.fields[id_field]) == id) return &line;
  }
  return nullptr;
}

// uid, gid, name and home.
Result<Credentials> FindUser(const Table& passwd, const std::string& user) {
  Credentials found;
  const Line* line = FindLine(passwd, user, 2);
  if (line == nullptr) {
    if (!IsNumber(user)) return UnknownName("user", user, passwd);
    const std::optional<uint32_t> uid = ParseId(user);
    if (!uid) return NotAnId("user", user);
    found.uid = *uid;
    found.gid = ::getgid();
    found.home = '/';
    return found;
  }
  if (line->fields.size() < 6) {
    return passwd.ErrorAt(*line, "damaged: name:password:uid:gid:comment:home:shell is expected");
  }
  const std::optional<uint32_t> uid = ParseId(line->fields[2]);
  const std::optional<uint32_t> gid = ParseId(line->fields[3]);
  if (!uid) return passwd.ErrorAt(*line, Concat("'", line->fields[2], "' is no user id"));
  if (!gid) return passwd.ErrorAt(*line, Concat("'", line->fields[3], "' is no group id"));
  found.uid = *uid;
  found.gid = *gid;
  found.name = line->fields[0];
  found.home = line->fields[5];
  if (found.home.empty()) found.home = '/';
  return found;
}

Result<gid_t> FindGroup(const Table& groups, const std::string& group) {
  const Line* line = FindLine(groups, group, 2);
  if (line == nullptr) {
    if (!IsNumber(group)) return UnknownName("group", group, groups);
    const std::optional<uint32_t> gid = ParseId(group);
    if (!gid) return NotAnId("group", group);
    return gid_t{*gid};
  }
  if (line->fields.size() < 3) {
    return groups.ErrorAt(*line, "damaged: name:password:gid:members is expected");
  }
  const std::optional<uint32_t> gid = ParseId(line->fields[2]);
  if (!gid) return groups.ErrorAt(*line, Concat("'", line->fields[2], "' is no group id"));
  return gid_t{*gid};
}

// The groups that name `user` as a member.
Result<std::vector<gid_t>> GroupsOf(const Table& groups, const std::string& user) {
  std::vector<gid_t> found;
  for (const Line& line : groups.lines) {
    if (line.fields.size() < 4) continue;
    const std::vector<std::string> members = Split(line.fields[3], ',');
    if (std::find(members.begin(), members.end(), user) == members.end()) continue;
    const std::optional<uint32_t> gid = ParseId(line.fields[2]);
    if (!gid) return groups.ErrorAt(line, Concat("'", line.fields[2], "' is no group id"));
    found.push_back(*gid);
  }
  return found;
}

Result<Credentials> LookUp(const std::string& user, const std::string& group,
                           const std::string& root) {
  const Result<Table> passwd = ReadTable(root + "/etc/passwd");
  if (!passwd) return passwd.error();
  const Result<Table> groups = ReadTable(root + "/etc/group");
  if (!groups) return groups.error();

  const size_t colon = user.find(':');
  std::string user_part = user.substr(0, colon);
  std::string group_part = group;
  if (group_part.empty() && colon != std::string::npos) {
    group_part = user.substr(colon + 1);
    if (group_part.empty()) return Error(Concat("'", user, "' names no group after the colon"));
  }
  if (user.empty() && !group.empty()) user_part = std::to_string(::getuid());
  if (user_part.empty()) return Error(Concat("'", user, "' names no user"));

  Result<Credentials> found = FindUser(*passwd, user_part);
  if (!found) return found;
  // As with an image's USER line: a group that is asked for is the only one.
  if (!group_part.empty()) {
    const Result<gid_t> gid = FindGroup(*groups, group_part);
    if (!gid) return gid.error();
    found->gid = *gid;
  } else if (!found->name.empty()) {
    Result<std::vector<gid_t>> supplementary = GroupsOf(*groups, found->name);
    if (!supplementary) return supplementary.error();
    found->groups = *std::move(supplementary);
  }
  found->groups.push_back(found->gid);
  std::sort(found->groups.begin(), found->groups.end());
  found->groups.erase(std::unique(found->groups.begin(), found->groups.end()), found->groups.end());
  return found;
}

}  // namespace

Result<Credentials> LookUpUser(const std::string& user, const std::string& group,
                               const std::string& root) {
  Result<Credentials> found = LookUp(user, group, root);
  if (!found) return std::move(found.error()).WithExitCode(kExitAgentError);
  return found;
}

}  // namespace modal::process
