#include "agent/snapshot_request.h"

#include <doctest/doctest.h>

#include "tests/unit/agent/command_line.h"

namespace modal::test {
namespace {

std::string ErrorOf(std::vector<std::string> words) {
  return CommandLine(std::move(words)).With("MODAL_AGENT_SNAPSHOT_DIR=/s").Error();
}

SnapshotRequest RequestOf(std::vector<std::string> words) {
  const Invocation parsed =
      CommandLine(std::move(words)).With("MODAL_AGENT_SNAPSHOT_DIR=/s").Parsed();
  CHECK(parsed.mode == Mode::kSnapshot);
  CHECK(parsed.snapshot.folder == "/s");
  return parsed.snapshot;
}

TEST_CASE("each verb takes its own words") {
  CHECK(RequestOf({"snapshot", "list"}).action == SnapshotAction::kList);
  const SnapshotRequest inspect = RequestOf({"snapshot", "inspect", "ABCD"});
  CHECK(inspect.action == SnapshotAction::kInspect);
  CHECK(inspect.keys == std::vector<std::string>{"abcd"});
  CHECK(RequestOf({"snapshot", "verify"}).keys.empty());
  CHECK(RequestOf({"snapshot", "verify", "a", "b"}).keys.size() == 2);
  CHECK(RequestOf({"snapshot", "delete", "a", "b"}).action == SnapshotAction::kDelete);
  const SnapshotRequest pack = RequestOf({"snapshot", "pack", "a", "x/y.zst"});
  CHECK(pack.keys == std::vector<std::string>{"a"});
  CHECK(pack.file == "x/y.zst");
  const SnapshotRequest unpack = RequestOf({"snapshot", "unpack", "-"});
  CHECK(unpack.keys.empty());
  CHECK(unpack.file == "-");
}

TEST_CASE("prune takes ages, counts and sizes as all settings do") {
  const SnapshotRequest prune = RequestOf(
      {"snapshot", "prune", "--older-than", "7d", "--keep=3", "--max-size", "10GiB", "--dry-run"});
  CHECK(prune.rules.older_than == Milliseconds{7 * 86'400'000});
  CHECK(prune.rules.keep == 3);
  CHECK(prune.rules.max_bytes == uint64_t{10} << 30);
  CHECK(prune.dry_run);
  CHECK(RequestOf({"snapshot", "prune", "--keep", "0"}).rules.keep == 0);
  CHECK_FALSE(RequestOf({"snapshot", "prune", "--keep", "0"}).dry_run);

  CHECK(ErrorOf({"snapshot", "prune"}) ==
        "`modal-agent snapshot prune` needs to be told what may go: --older-than, --keep or "
        "--max-size");
  CHECK(ErrorOf({"snapshot", "prune", "--dry-run"}) == ErrorOf({"snapshot", "prune"}));
  CHECK(ErrorOf({"snapshot", "prune", "--keep", "few"}) == "--keep few: not a number of snapshots");
  CHECK(ErrorOf({"snapshot", "prune", "--older-than", "old"})
            .starts_with("--older-than old: not a duration"));
  CHECK(ErrorOf({"snapshot", "prune", "--max-size", "big"}).starts_with("--max-size big: "));
  CHECK(ErrorOf({"snapshot", "prune", "--kep", "3"}) ==
        "unknown option --kep; did you mean --keep?");
  CHECK(ErrorOf({"snapshot", "prune", "--keep"}) == "--keep needs a value");
}

TEST_CASE("a wrong word is named with the nearest that is right") {
  CHECK(ErrorOf({"snapshot", "lst"}) ==
        "`modal-agent snapshot lst` is nothing it can do; did you mean list?");
  CHECK(ErrorOf({"snapshot", "lst", "--json"}) == ErrorOf({"snapshot", "lst"}));
  CHECK(
      ErrorOf({"snapshot"}) ==
      "`modal-agent snapshot` needs to be told what to do: create, list, inspect, verify, delete, "
      "prune, pack, unpack");
  CHECK(ErrorOf({"snapshot", "inspect", "xyz"}) ==
        "'xyz' is no key of a snapshot, nor the beginning of one: those are 32 hex digits");
  CHECK(ErrorOf({"snapshot", "inspect", std::string(33, 'a')}).starts_with("'aaa"));
  CHECK(ErrorOf({"snapshot", "inspect"}) ==
        "`modal-agent snapshot inspect` takes KEY, and got none");
  CHECK(ErrorOf({"snapshot", "list", "ab"}) ==
        "`modal-agent snapshot list` takes no more words, and got ab");
  CHECK(ErrorOf({"snapshot", "delete"}) ==
        "`modal-agent snapshot delete` takes KEY..., and got none");
  CHECK(ErrorOf({"snapshot", "pack", "ab"}) ==
        "`modal-agent snapshot pack` takes KEY FILE|-, and got ab");
  CHECK(ErrorOf({"snapshot", "pack", "ab", "-", "--json"}) ==
        "`modal-agent snapshot pack` takes no --json; see modal-agent snapshot pack --help");
  CHECK(ErrorOf({"snapshot", "list", "--port", "1"}) ==
        "`modal-agent snapshot list` takes no --port; see modal-agent snapshot list --help");
}

TEST_CASE("the folder is the setting's, wherever that stands, and there is none without it") {
  CHECK(CommandLine({"snapshot", "list", "--snapshot-dir", "/f"}).Parsed().snapshot.folder == "/f");
  CommandLine with_file({"snapshot", "list"});
  with_file.WithFile("etc/modal-agent/config", "snapshot-dir = /c\n");
  CHECK(with_file.Parsed().snapshot.folder == "/c");
  const std::string none =
      "`modal-agent snapshot list` needs a folder: --snapshot-dir DIR, or MODAL_AGENT_SNAPSHOT_DIR";
  CHECK(CommandLine({"snapshot", "list"}).Error() == none);
  CHECK(ErrorOf({"snapshot", "list", "--snapshot-dir", "off"}) == none);
  // Whatever else stands in the environment is for the agent.
  CHECK(CommandLine({"snapshot", "list"})
            .With("MODAL_AGENT_SNAPSHOT_DIR=/s")
            .With("MODAL_AGENT_PORT=damaged")
            .Error() == "");
}

TEST_CASE("help is there for all of it and for each verb") {
  const Invocation all = CommandLine({"snapshot", "--help"}).Parsed();
  CHECK(all.mode == Mode::kHelp);
  CHECK(all.text.starts_with("modal-agent snapshot VERB"));
  CHECK(CommandLine({"snapshot", "prune", "-h"})
            .Parsed()
            .text.starts_with("modal-agent snapshot prune [OPTIONS]\n"));
}

TEST_CASE("`snapshot create` serves, with a mode that nothing else can change") {
  CommandLine line({"snapshot", "create", "--port", "9000", "--", "./server", "--json"});
  line.With("MODAL_AGENT_SNAPSHOT_DIR=/s").With("MODAL_AGENT_SNAPSHOT=off");
  const Invocation create = line.Parsed();
  CHECK(create.mode == Mode::kServe);
  CHECK(create.options.snapshots.mode == lifecycle::SnapshotMode::kCreate);
  CHECK(create.options.snapshots.folder == "/s");
  CHECK(create.options.port == 9000);
  CHECK(create.options.command == std::vector<std::string>{"./server", "--json"});
  CHECK_FALSE(create.options.is_local_run);
  CHECK(CommandLine({"snapshot", "create", "./server"}).Error() ==
        "`modal-agent snapshot create` needs a folder: --snapshot-dir DIR, or "
        "MODAL_AGENT_SNAPSHOT_DIR");
  CHECK(CommandLine({"--snapshot", "create", "./server"}).Error() ==
        "--snapshot create needs a folder: --snapshot-dir DIR, or MODAL_AGENT_SNAPSHOT_DIR");
  CHECK(ErrorOf({"snapshot", "create", "--snapshot", "auto", "./server"}) ==
        "`modal-agent snapshot create` takes no --snapshot; see modal-agent snapshot create "
        "--help");
}

TEST_CASE("`check` takes the CRIU that is meant") {
  CHECK(CommandLine({"check", "--criu", "/c/criu"}).Parsed().options.snapshots.criu == "/c/criu");
}

}  // namespace
}  // namespace modal::test
