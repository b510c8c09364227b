#include "agent/snapshot_report.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "agent/base/strings.h"
#include "agent/text_columns.h"

namespace modal {
namespace {

using nlohmann::json;
using snapshot::Entry;

constexpr int64_t kMade = 1'700'000'000'000;
constexpr int64_t kNow = kMade + 3 * 3'600'000;
const std::string kFolder = "/snapshots";

Entry SomeEntry(const std::string& key = "0123456789abcdef0123456789abcdef") {
  Entry entry;
  entry.key = key;
  entry.path = kFolder + "/" + key;
  entry.made_unix_ms = kMade;
  entry.bytes = 5 << 20;
  entry.verdict.standing = snapshot::Standing::kProven;
  entry.verdict.restores = 2;
  entry.verdict.first_restore_ms = 50;
  entry.verdict.last_restore_ms = 40;
  snapshot::Manifest manifest;
  manifest.key = key;
  manifest.created_unix_ms = kMade;
  manifest.agent_version = "1.2.3";
  manifest.criu_build = "abc";
  manifest.kernel = "6.1.0";
  manifest.image_identity = "stamp:v1";
  manifest.command = {"python3", "my app.py"};
  manifest.variables = {"HOME", "PATH"};
  manifest.listening = "0.0.0.0:8000";
  manifest.uptime_ms = 125'000;
  manifest.processes = {
      {1000, 0, "modal-agent", 1 << 20, 4096, 1, {"do_sys_poll"}},
      {1001,
       1000,
       "python3",
       30 << 20,
       20 << 20,
       3,
       {"1001 futex", "1002 ep_poll.isra.0", "1003 futex"},
       "/usr/bin/python3.11",
       {"/usr/bin/python3", "/bin/gunicorn", "a:b"},
       {4 << 20, 1 << 20, 12 << 20, 2 << 20, 1 << 20, 10 << 20}},
      {1009, 1001, "python3", 1 << 20, 4096, 1, {}, "/usr/bin/python3.11", {"worker"}, {}},
      {1003, 1001, "cat", 1 << 20, 4096, 1, {}, "/bin/cat", {"/bin/cat", "-"}, {}}};
  manifest.times = {1500, 200, 12, 30};
  manifest.files = {{"images/pages-1.img", 4096, std::string(32, '0')}};
  manifest.carried_files = 1;
  manifest.carried_bytes = 100;
  entry.manifest = manifest;
  return entry;
}

Entry Damaged() {
  Entry entry;
  entry.key = std::string(32, 'd');
  entry.made_unix_ms = kMade;
  entry.problem = "manifest.json: is missing";
  return entry;
}

bool Holds(const std::string& text, std::string_view part) {
  CAPTURE(text);
  CAPTURE(part);
  return text.find(part) != std::string::npos;
}

void CheckShowable(const std::string& text) {
  for (const std::string& line : Split(text, '\n')) {
    for (const char c : line) {
      CAPTURE(line);
      CHECK(static_cast<unsigned char>(c) >= 0x20);
      CHECK(c != 0x7f);
    }
  }
}

TEST_CASE("a list has a line for each snapshot, in columns, and a sum") {
  Entry used = SomeEntry("0123456789ab" + std::string(20, 'f'));
  used.in_use = true;
  CHECK(ListText({SomeEntry(), used, Damaged()}, kFolder, kNow, 125'000) ==
        "KEY            AGE  SIZE     UPTIME  STANDING  COMMAND\n"
        "0123456789abc  3 h  5.0 MiB  2 m     proven    python3 'my app.py'\n"
        "0123456789abf  3 h  5.0 MiB  2 m     proven *  python3 'my app.py'\n"
        "ddddddddddddd  3 h  0 B      -       damaged   manifest.json: is missing\n"
        "\n"
        "3 snapshots, 10.0 MiB in /snapshots; * is in use\n");
  CHECK(ListText({}, kFolder, kNow, 125'000) == "No snapshots in /snapshots.\n");
}

TEST_CASE("the list marks what needs a longer uptime than there is") {
  const std::string text = ListText({SomeEntry(), Damaged()}, kFolder, kNow, 124'999);
  CHECK(Holds(text, "  2 m !   proven"));
  CHECK(Holds(text, "in /snapshots; ! is more than this machine runs for\n"));
  const json list = json::parse(ListJson({SomeEntry(), Damaged()}, kFolder));
  CHECK(list["snapshots"][0]["uptime_ms"] == 125'000);
  CHECK(list["snapshots"][1]["uptime_ms"].is_null());
}

TEST_CASE("the list as JSON has whole keys and numbers") {
  const json list = json::parse(ListJson({SomeEntry(), Damaged()}, kFolder));
  CHECK(list["folder"] == kFolder);
  CHECK(list["bytes"] == 5 << 20);
  REQUIRE(list["snapshots"].size() == 2);
  const json& first = list["snapshots"][0];
  CHECK(first["key"] == "0123456789abcdef0123456789abcdef");
  CHECK(first["made_unix_ms"] == kMade);
  CHECK(first["standing"] == "proven");
  CHECK(first["problem"].is_null());
  CHECK(first["command"] == json{"python3", "my app.py"});
  CHECK(list["snapshots"][1]["standing"] == "damaged");
  CHECK(list["snapshots"][1]["problem"] == "manifest.json: is missing");
}

TEST_CASE("inspect tells everything, and why it cannot be restored here") {
  const std::string text = InspectText(SomeEntry(), {"the moon is full", "it rains"}, kNow);
  CHECK(Holds(text, "key          0123456789abcdef0123456789abcdef\n"));
  CHECK(Holds(text, "made         2023-11-14 22:13:20 UTC, 3 h ago\n"));
  CHECK(Holds(text, "image        stamp:v1\n"));
  CHECK(Holds(text, "command      python3 'my app.py'\n"));
  CHECK(Holds(text, "variables    HOME, PATH\n"));
  CHECK(Holds(text, "made by      modal-agent 1.2.3, CRIU build abc, Linux 6.1.0\n"));
  CHECK(Holds(text, "cold start   1500 ms, of it 200 ms in startup hooks\n"));
  CHECK(Holds(text, "dump         took 30 ms, the server stood still for 12 ms\n"));
  CHECK(Holds(text,
              "worth        proven; restored 2 times, the first in 50 ms, the last in 40 ms\n"));
  CHECK(Holds(text, "uptime       of the machine: 2 m 5 s or more\n"));
  CHECK(Holds(text, "restorable   no: the moon is full\nrestorable   no: it rains\n"));
  CHECK(Holds(text,
              "PID   RUNTIME          THREADS  WAITS IN           COMMAND\n"
              "1000  native           1        do_sys_poll        modal-agent\n"
              "1001  python/gunicorn  3        ep_poll, futex ×2    python3 /bin/gunicorn a:b\n"
              "1003  native           1        -                      cat -\n"
              "1009  python/gunicorn  1        -                      worker\n"));
  CHECK(Holds(text,
              "PID   MEMORY    HEAP     STACK    ANONYMOUS  WRITTEN  SHARED   FILES\n"
              "1000  1.0 MiB   0 B      0 B      0 B        0 B      0 B      0 B\n"
              "1001  30.0 MiB  4.0 MiB  1.0 MiB  12.0 MiB   2.0 MiB  1.0 MiB  10.0 MiB\n"));
  CHECK(Holds(text, "\nall   33.0 MiB  4.0 MiB  1.0 MiB  12.0 MiB   2.0 MiB  1.0 MiB  10.0 MiB\n"));
  CHECK(Holds(text, "4.0 KiB  images/pages-1.img\n"));
  CHECK(Holds(text, "with 1 file that the start had written (100 B)"));
  CHECK(Holds(InspectText(SomeEntry(), {}, kNow), "restorable   yes"));
}

TEST_CASE("inspect as JSON holds manifest and verdict as they are") {
  const json seen = json::parse(InspectJson(SomeEntry(), {"it rains"}));
  CHECK(seen["restorable"] == false);
  CHECK(seen["reasons"] == json{"it rains"});
  CHECK(seen["verdict"]["standing"] == "proven");
  CHECK(seen["manifest"]["processes"].size() == 4);
  CHECK(seen["manifest"]["processes"][1]["kinds"]["heap"] == 4 << 20);
  REQUIRE(seen["tree"].size() == 4);
  CHECK(seen["tree"][1] == json{{"pid", 1001}, {"depth", 1}, {"runtime", "python/gunicorn"}});
  CHECK(seen["tree"][2]["pid"] == 1003);
  CHECK(seen["tree"][2]["depth"] == 2);
  CHECK(seen["manifest"]["kernel"] == "6.1.0");
  const json damaged = json::parse(InspectJson(Damaged(), {"manifest.json: is missing"}));
  CHECK_FALSE(damaged.contains("manifest"));
}

TEST_CASE("processes that are nobody's, each other's or their own children are shown once each") {
  Entry entry = SomeEntry();
  entry.manifest->processes = {
      {5, 5, "own"}, {6, 7, "one"}, {7, 6, "other"}, {7, 6, "again"}, {9, 4711, "lost"}};
  const json seen = json::parse(InspectJson(entry, {}));
  CHECK(seen["tree"].size() == 5);
  CHECK(Holds(InspectText(entry, {}, kNow), "lost"));
}

TEST_CASE("a snapshot that cannot be read is inspected as far as it goes") {
  const std::string text = InspectText(Damaged(), {"manifest.json: is missing"}, kNow);
  CHECK(Holds(text, "problem      manifest.json: is missing\n"));
  CHECK_FALSE(Holds(text, "PID"));
}

TEST_CASE("what a manifest holds is shown, and never obeyed by a terminal") {
  Entry entry = SomeEntry();
  const std::string evil = "a\x1b[2J\nKEY\r\x7f\xc2\x9b";
  entry.manifest->command = {evil};
  entry.manifest->image_identity = evil;
  entry.manifest->kernel = evil;
  entry.manifest->variables = {evil};
  entry.manifest->listening = evil;
  entry.manifest->processes[0].name = evil;
  entry.manifest->processes[0].stack = {evil};
  entry.verdict.reason = evil;
  CheckShowable(ListText({entry}, kFolder + evil, kNow, 0));
  CheckShowable(InspectText(entry, {evil}, kNow));
  CheckShowable(PruneText({entry}, true, kNow));
  entry.manifest.reset();
  entry.problem = evil;
  CheckShowable(ListText({entry}, kFolder, kNow, 125'000));
  CheckShowable(InspectText(entry, {evil}, kNow));
}

TEST_CASE("lists fit a terminal") {
  Entry entry = SomeEntry();
  entry.manifest->command = {std::string(200, 'x')};
  for (const std::string& line : Split(ListText({entry}, kFolder, kNow, 125'000), '\n')) {
    CHECK(line.size() <= kTerminalWidth + std::string_view("…").size());
  }
}

TEST_CASE("what was pruned, or would be, is listed") {
  CHECK(Holds(PruneText({SomeEntry()}, false, kNow), "1 snapshot, 5.0 MiB removed\n"));
  CHECK(Holds(PruneText({SomeEntry()}, true, kNow), "1 snapshot, 5.0 MiB would be removed\n"));
  CHECK(PruneText({}, false, kNow) == "Nothing to remove.\n");
  const json pruned = json::parse(PruneJson({SomeEntry()}, true));
  CHECK(pruned["dry_run"] == true);
  CHECK(pruned["bytes"] == 5 << 20);
  CHECK(pruned["removed"][0]["key"] == SomeEntry().key);
}

}  // namespace
}  // namespace modal
