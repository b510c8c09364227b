#include "snapshot/manifest.h"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/unit/snapshot/resealed.h"

namespace modal::snapshot {
namespace {

using Json = nlohmann::json;

Manifest Full() {
  Manifest manifest;
  manifest.key = std::string(32, 'b');
  manifest.created_unix_ms = 1'700'000'000'123;
  manifest.agent_version = "0.1.0";
  manifest.criu_version = "4.1.1";
  manifest.criu_build = "beef";
  manifest.kernel = "6.1.0";
  manifest.image_identity = "key:x";
  manifest.command = {"sh", "-c", "a\n\"b\" \x1b[1m"};
  manifest.variables = {"HOME", "LANG"};
  manifest.root = 1000;
  manifest.workload = 1001;
  manifest.capabilities = std::numeric_limits<uint64_t>::max() - 1;
  manifest.uid = std::numeric_limits<uid_t>::max();
  manifest.gid = 7;
  manifest.listening = "0.0.0.0:8000";
  manifest.uptime_ms = 12345;
  manifest.descriptors = {{1, "pipe:[77]"}, {2, "pipe:[78]"}};
  manifest.sockets = {"/run/app.sock"};
  manifest.touches_files = false;
  manifest.processes = {{1000,
                         1,
                         "keeper",
                         4096,
                         2048,
                         1,
                         {"wait4"},
                         "/modal-agent (deleted)",
                         {"modal-agent-keeper", "\xff\n"},
                         {1, 2, 3, 4, 5, 6}},
                        {1001, 1000, "py", 9, 8, 2, {}}};
  manifest.times = {1200, -1, 30, 90};
  manifest.files = {{"images/pages-1.img", uint64_t{1} << 40, std::string(32, '0')},
                    {"criu.kdat", 0, std::string(32, 'f')}};
  manifest.carried_files = 3;
  manifest.carried_bytes = 4444;
  return manifest;
}

std::string ProblemOf(std::string_view text) {
  const Result<Manifest> manifest = ParseManifest(text);
  return manifest ? "" : manifest.error().message();
}

// The full one with one field changed.
template <class T>
std::string ProblemWith(const char* pointer, const T& value) {
  Json json = Json::parse(ToJson(Full()));
  json[Json::json_pointer(pointer)] = value;
  return ProblemOf(json.dump());
}

TEST_CASE("a manifest comes back as it was written, every field of it") {
  const Manifest full = Full();
  const std::string text = ToJson(full);
  const Result<Manifest> read = ParseManifest(text);
  REQUIRE(read);
  CHECK(ToJson(*read) == text);
  CHECK(read->key == full.key);
  CHECK(read->created_unix_ms == full.created_unix_ms);
  CHECK(read->command == full.command);
  CHECK(read->variables == full.variables);
  CHECK(read->capabilities == full.capabilities);
  CHECK(read->uid == full.uid);
  CHECK(read->uptime_ms == full.uptime_ms);
  REQUIRE(read->descriptors.size() == 2);
  CHECK(read->descriptors[1].id == "pipe:[78]");
  CHECK(read->sockets == full.sockets);
  CHECK_FALSE(read->touches_files);
  REQUIRE(read->processes.size() == 2);
  CHECK(read->processes[0].stack == std::vector<std::string>{"wait4"});
  CHECK(read->processes[1].parent == 1000);
  CHECK(read->times.hooks_ms == -1);
  CHECK(read->times.dump_ms == 90);
  REQUIRE(read->files.size() == 2);
  CHECK(read->files[0].size == uint64_t{1} << 40);
  CHECK(read->TotalBytes() == uint64_t{1} << 40);
  CHECK(read->carried_bytes == 4444);
  // Nothing was left out: an empty one differs from it in every top-level field but the format.
  const Json empty = Json::parse(ToJson(Manifest()));
  const Json json = Json::parse(text);
  for (const auto& row : json.items()) {
    const auto& [name, value] = row;
    CAPTURE(row.key());
    CHECK((name == "format" || empty[name] != value));
  }
}

TEST_CASE(
    "a manifest that is cut off anywhere is an error, and so is one without any of its fields") {
  const std::string text = ToJson(Full());
  for (size_t size = 0; size + 2 < text.size(); ++size) {
    REQUIRE_FALSE(ProblemOf(text.substr(0, size)).empty());
  }
  const Json full = Json::parse(text);
  for (const auto& [name, value] : full.items()) {
    Json json = full;
    json.erase(name);
    CHECK(ProblemOf(json.dump()) == name + ": is missing");
  }
}

TEST_CASE("a field that is not known is passed over") {
  Json json = Json::parse(ToJson(Full()));
  json["something_new"] = 1;
  CHECK(ProblemOf(Resealed(json)) == "");
}

TEST_CASE("a manifest in which any byte was changed is an error, whatever it still says") {
  const std::string text = ToJson(Full());
  for (size_t i = 0; i < text.size(); ++i) {
    CAPTURE(i);
    std::string changed = text;
    changed[i] ^= 1;
    REQUIRE_FALSE(ProblemOf(changed).empty());
  }
  CHECK(ProblemWith("/workload", 1002) == "its text is not what was written: the checksum differs");
}

TEST_CASE("what is wrong with a field is said with its place") {
  CHECK(ProblemWith("/key", "ABC") == "key: must be 32 hex digits");
  CHECK(ProblemWith("/key", 12) == "key: must be a text");
  CHECK(ProblemWith("/format", 2) == "format: is 2, and this agent knows 1");
  CHECK(ProblemWith("/uid", -1) == "uid: must be a whole number from 0 to 4294967295");
  CHECK(ProblemWith("/uid", uint64_t{1} << 32) ==
        "uid: must be a whole number from 0 to 4294967295");
  CHECK(ProblemWith("/root", 1.5) == "root: must be a whole number from 0 to 2147483647");
  CHECK(ProblemWith("/uptime_ms", uint64_t{1} << 63) ==
        "uptime_ms: must be a whole number from 0 to 9223372036854775807");
  CHECK(ProblemWith("/capabilities", "zz") == "capabilities: must be 16 hex digits");
  CHECK(ProblemWith("/command", "sh") == "command: must be a list of texts");
  CHECK(ProblemWith("/command/1", 5) == "command: must be a list of texts");
  CHECK(ProblemWith("/descriptors/1/fd", 3) == "descriptors[1].fd: must be 0, 1 or 2");
  CHECK(ProblemWith("/processes/0", 3) == "processes: [0] must be an object");
  CHECK(ProblemWith("/processes/0/pid", 0) ==
        "processes[0].pid: must be a whole number from 1 to 2147483647");
  CHECK(ProblemWith("/times/cold_ms", -2) ==
        "times.cold_ms: must be a whole number from -1 to 9223372036854775807");
  CHECK(ProblemWith("/files/0/checksum", "12") == "files[0].checksum: must be 32 hex digits");
  CHECK(ProblemWith("/files", Json::object()) == "files: must be a list");
}

TEST_CASE("no name of a file leads out of the folder, or to the manifest") {
  for (const char* name : {"/etc/passwd", "../x", "images/../x", "images/..", "..", ".", "", "a/",
                           "/a", "a//b", "a/b/c", "images/.", "manifest.json", "a\nb", "\x7f"}) {
    CAPTURE(name);
    CHECK_FALSE(IsFileName(name));
    CHECK(ProblemWith("/files/0/name", name) ==
          "files[0].name: is no name of a file in a snapshot");
  }
  CHECK_FALSE(IsFileName(std::string_view("a\0b", 3)));
  CHECK_FALSE(IsFileName("not \xff utf-8"));
  CHECK_FALSE(IsFileName(std::string(256, 'x')));
  CHECK(IsFileName("images/pages-1.img"));
  CHECK(IsFileName("..images/...x"));
  CHECK(IsFileName("images/manifest.json"));
  CHECK(ProblemWith("/files/1/name", "images/pages-1.img") == "files[1].name: stands there twice");
}

TEST_CASE("sizes that together are more than a number holds are an error") {
  CHECK(ProblemWith("/files/1/size", std::numeric_limits<int64_t>::max()) ==
        "files[1].size: is too large");
}

TEST_CASE("giant and deep texts are refused before they cost memory") {
  CHECK(ProblemOf(std::string(kLargestManifest + 1, ' ')) == "is too large to be a manifest");
  CHECK(ProblemOf(std::string(1'000'000, '[')) == "is nested too deeply");
  CHECK(ProblemOf("{\"a\":\"" + std::string(100, '[') + "\"}") == "format: is missing");
  CHECK(ProblemOf("[]") == "is no JSON object");
  CHECK(ProblemOf("{\"format\":1e999}").find('\n') == std::string::npos);
  CHECK(ProblemOf("not json") == "is not valid JSON at byte 2");
}

TEST_CASE("the format of a manifest that is not ours can be told") {
  CHECK(*ParseFormat("{\"format\":7,\"else\":[]}") == 7);
  CHECK_FALSE(ParseFormat("{}"));
  CHECK_FALSE(ParseFormat("garbage"));
}

TEST_CASE("a key is 32 lower-case hex digits") {
  CHECK(IsKey("0123456789abcdef0123456789abcdef"));
  CHECK_FALSE(IsKey("0123456789ABCDEF0123456789abcdef"));
  CHECK_FALSE(IsKey("0123456789abcdef0123456789abcde"));
  CHECK_FALSE(IsKey("../3456789abcdef0123456789abcdef"));
}

}  // namespace
}  // namespace modal::snapshot
