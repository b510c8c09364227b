// `modal-agent snapshot …` and the trial of `modal-agent check`, by the real binary, on folders
// that the tests have made. No CRIU is needed.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/support/agent_process.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::test {
namespace {

using nlohmann::json;
using snapshot::kKey;
using snapshot::kOtherKey;
using snapshot::Make;
using snapshot::NamesOf;
using snapshot::Problem;
using snapshot::ReadAll;

struct Ended {
  int code = -1;
  std::string output;
  std::string complaints;
};

struct Fixture : snapshot::StoreFixture {
  Fixture() {
    REQUIRE(Problem(Make(*store, kKey)) == "");
    REQUIRE(Problem(Make(*store, kOtherKey)) == "");
  }

  // Standard input comes from the file `input`; standard output goes to `output_fd`, if that is
  // given, or else into the result.
  Ended Run(std::vector<std::string> words, const std::string& input = "/dev/null",
            int output_fd = -1) const {
    words.insert(words.begin(), Settings().agent);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::string folder_variable = "MODAL_AGENT_SNAPSHOT_DIR=" + folder;
    std::string path_variable = "PATH=/usr/bin:/bin";
    char* environment[] = {folder_variable.data(), path_variable.data(), nullptr};
    const std::string out = temp.path() + "/stdout";
    const std::string err = temp.path() + "/stderr";
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, input.c_str(), O_RDONLY, 0);
    constexpr int kNew = O_WRONLY | O_CREAT | O_TRUNC;
    if (output_fd < 0) {
      ::posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), kNew, 0600);
    } else {
      ::posix_spawn_file_actions_adddup2(&actions, output_fd, 1);
    }
    ::posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), kNew, 0600);
    pid_t pid = -1;
    const int failed = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environment);
    ::posix_spawn_file_actions_destroy(&actions);
    REQUIRE(failed == 0);
    int status = -1;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    Ended ended;
    if (WIFEXITED(status)) ended.code = WEXITSTATUS(status);
    if (output_fd < 0) ended.output = ReadAll(out);
    ended.complaints = ReadAll(err);
    return ended;
  }

  std::string Other() const { return temp.path() + "/other"; }
};

TEST_CASE_FIXTURE(Fixture, "the commands end with 0, with 122 if they fail, with 125 if misspelt") {
  const Ended list = Run({"snapshot", "list"});
  CHECK(list.code == 0);
  CHECK(list.complaints == "");
  CHECK(list.output.find("\naaaaaaaaaaaa  ") != std::string::npos);
  CHECK(list.output.find("python3 app.py\n") != std::string::npos);
  CHECK(list.output.find("\n2 snapshots, ") != std::string::npos);

  const Ended nowhere = Run({"snapshot", "list", "--snapshot-dir", Other()});
  CHECK(nowhere.code == 122);
  CHECK(nowhere.complaints ==
        "modal-agent: snapshot folder " + Other() + ": No such file or directory\n");
  const Ended misspelt = Run({"snapshot", "lst"});
  CHECK(misspelt.code == 125);
  CHECK(misspelt.complaints.find("did you mean list?") != std::string::npos);
  CHECK(Run({"snapshot", "inspect", "b"}).code == 122);
  CHECK(Run({"snapshot", "inspect", "--help"}).code == 0);
}

TEST_CASE_FIXTURE(Fixture, "a damaged snapshot is found, told, and deleted") {
  CHECK(Run({"snapshot", "verify"}).code == 0);
  REQUIRE(snapshot::Put(PathOf("images/pages-1.img"), std::string(9000, 'q')));
  const Ended verify = Run({"snapshot", "verify", "--json"});
  CHECK(verify.code == 122);
  CHECK(json::parse(verify.output)["snapshots"].size() == 2);
  CHECK(verify.complaints.find("images/pages-1.img (checksum)") != std::string::npos);
  CHECK(Run({"snapshot", "delete", "aaaa"}).code == 0);
  CHECK(Run({"snapshot", "verify"}).code == 0);
  CHECK(json::parse(Run({"snapshot", "list", "--json"}).output)["snapshots"].size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "names in a folder that no terminal should obey are escaped") {
  REQUIRE(snapshot::Put(PathOf("images/\x1b[2J"), ""));
  const Ended verify = Run({"snapshot", "verify", "a"});
  CHECK(verify.code == 122);
  CHECK(verify.complaints.find('\x1b') == std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "a snapshot goes through a pipe into another folder") {
  const std::string archive = temp.path() + "/archive";
  {
    const UniqueFd file(::open(archive.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(file);
    const Ended pack = Run({"snapshot", "pack", "a", "-"}, "/dev/null", file.get());
    CHECK(pack.code == 0);
    CHECK(pack.complaints == "");
  }
  const Ended unpack = Run({"snapshot", "unpack", "-", "--snapshot-dir", Other()}, archive);
  CHECK(unpack.code == 0);
  CHECK(unpack.output == kKey + "  unpacked\n");
  CHECK(Problem(snapshot::OpenStore(Other())->Verify(kKey)) == "");

  // Cut off, it is nothing.
  std::filesystem::resize_file(archive, std::filesystem::file_size(archive) / 2);
  REQUIRE(Run({"snapshot", "delete", kKey, "--snapshot-dir", Other()}).code == 0);
  CHECK(Run({"snapshot", "unpack", archive, "--snapshot-dir", Other()}).code == 122);
  for (const std::string& name : NamesOf(Other())) {
    CAPTURE(name);
    CHECK((name == "README" || name == ".lock"));
  }
}

TEST_CASE_FIXTURE(Fixture, "an archive is not written to a terminal, nor read from one") {
  const UniqueFd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(master);
  REQUIRE(::grantpt(master.get()) == 0);
  REQUIRE(::unlockpt(master.get()) == 0);
  const std::string name = ::ptsname(master.get());
  const UniqueFd terminal(::open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(terminal);
  const Ended pack = Run({"snapshot", "pack", "a", "-"}, "/dev/null", terminal.get());
  CHECK(pack.code == 122);
  CHECK(pack.complaints.find("nothing for a terminal") != std::string::npos);
  CHECK(Run({"snapshot", "pack", "a", name}).code == 122);
  CHECK(Run({"snapshot", "unpack", "-"}, name).code == 122);
}

TEST_CASE_FIXTURE(Fixture, "prune removes what its dry run has listed") {
  const Ended dry = Run({"snapshot", "prune", "--keep", "1", "--dry-run", "--json"});
  CHECK(dry.code == 0);
  const json would = json::parse(dry.output)["removed"];
  REQUIRE(would.size() == 1);
  CHECK(json::parse(Run({"snapshot", "list", "--json"}).output)["snapshots"].size() == 2);
  const Ended prune = Run({"snapshot", "prune", "--keep", "1", "--json"});
  CHECK(prune.code == 0);
  CHECK(json::parse(prune.output)["removed"] == would);
  CHECK(json::parse(Run({"snapshot", "list", "--json"}).output)["snapshots"].size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "check tells that a CRIU cannot dump here, and what it has said") {
  const std::string criu = temp.Write(
      "criu", "#!/bin/sh\ncase $1 in --version) echo Version: 9.8;; *) echo 'no way' >&2;; esac\n");
  REQUIRE(::chmod(criu.c_str(), 0755) == 0);
  const Ended check = Run({"check", "--criu", criu, "--json"});
  const json findings = json::parse(check.output)["findings"];
  std::map<std::string, json> by_name;
  for (const json& one : findings) by_name[one["name"]] = one;
  CHECK(by_name["criu"]["value"] == "9.8, " + criu);
  CHECK(by_name["snapshots"]["verdict"] == "no");
  CHECK(by_name["snapshots"]["meaning"].get<std::string>().find("no way") != std::string::npos);
}

}  // namespace
}  // namespace modal::test
