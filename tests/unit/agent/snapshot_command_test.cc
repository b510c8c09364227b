#include "agent/snapshot_command.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/snapshot/store_fixture.h"

namespace modal {
namespace {

using nlohmann::json;
using snapshot::kKey;
using snapshot::kOtherKey;
using snapshot::Make;
using snapshot::NamesOf;
using snapshot::Problem;
using snapshot::Put;

constexpr int64_t kNow = 1'700'000'100'000;
const std::string kSimilar = "01234" + std::string(27, '0');

struct CommandFixture : snapshot::StoreFixture {
  CommandFixture() {
    REQUIRE(Problem(Make(*store, kKey)) == "");
    REQUIRE(Problem(Make(*store, kOtherKey)) == "");
  }
  SnapshotRequest Request(SnapshotAction action, std::vector<std::string> keys = {}) const {
    SnapshotRequest request;
    request.action = action;
    request.folder = folder;
    request.keys = std::move(keys);
    return request;
  }
  static json Json(const SnapshotRequest& request) {
    const SnapshotOutcome outcome = RunSnapshotCommand(request, true, kNow);
    return json::parse(outcome.text);
  }
  static std::string Complaint(const SnapshotRequest& request) {
    const SnapshotOutcome outcome = RunSnapshotCommand(request, false, kNow);
    return outcome.complaints.empty() ? "" : outcome.complaints.front();
  }
  bool IsThere(const std::string& key) const { return (*store->Find(key)).has_value(); }
};

TEST_CASE_FIXTURE(CommandFixture, "a key may be abbreviated as long as it is the only one") {
  REQUIRE(Problem(Make(*store, kSimilar)) == "");
  CHECK(Json(Request(SnapshotAction::kInspect, {"a"}))["key"] == kKey);
  CHECK(Json(Request(SnapshotAction::kInspect, {"012345"}))["key"] == kOtherKey);
  CHECK(Json(Request(SnapshotAction::kInspect, {kSimilar}))["key"] == kSimilar);
  const std::string both = Complaint(Request(SnapshotAction::kInspect, {"01234"}));
  CHECK(both.find("2 snapshots' keys begin with 01234: ") != std::string::npos);
  CHECK(both.find(kOtherKey) != std::string::npos);
  CHECK(Complaint(Request(SnapshotAction::kInspect, {"b"})) ==
        folder + ": no snapshot's key begins with b");
}

TEST_CASE_FIXTURE(CommandFixture, "inspect says why a snapshot cannot be restored here") {
  const json reasons = Json(Request(SnapshotAction::kInspect, {"a"}))["reasons"];
  // Whether there is a CRIU here, and what it may do, is another matter.
  const auto is_told = [&reasons](std::string_view start) {
    return std::any_of(reasons.begin(), reasons.end(), [start](const json& reason) {
      return reason.get<std::string>().starts_with(start);
    });
  };
  CHECK(is_told("it was taken with Linux 6.1.0, and here is "));
  CHECK(is_told("it was taken with modal-agent 1.2.3, and here is "));
  REQUIRE(Put(PathOf("images/core-1.img"), "short"));
  const json damaged = Json(Request(SnapshotAction::kInspect, {"a"}))["reasons"];
  CHECK(damaged.size() == reasons.size() + 1);
  CHECK(damaged.back().get<std::string>().find("images/core-1.img") != std::string::npos);
}

TEST_CASE_FIXTURE(CommandFixture, "verify reads all, and names what is damaged") {
  CHECK(RunSnapshotCommand(Request(SnapshotAction::kVerify), false, kNow).complaints.empty());
  REQUIRE(Put(PathOf("images/pages-1.img"), std::string(9000, 'q')));
  const SnapshotOutcome all = RunSnapshotCommand(Request(SnapshotAction::kVerify), false, kNow);
  REQUIRE(all.complaints.size() == 1);
  CHECK(all.complaints[0].find("images/pages-1.img (checksum)") != std::string::npos);
  CHECK(all.text == kOtherKey + "  verified\n");
  CHECK(Complaint(Request(SnapshotAction::kVerify, {"0"})) == "");
  CHECK(Complaint(Request(SnapshotAction::kVerify, {"a"})) == all.complaints[0]);
  const json seen = Json(Request(SnapshotAction::kVerify, {"a"}));
  CHECK(seen["snapshots"][0]["verified"] == false);
}

TEST_CASE_FIXTURE(CommandFixture, "delete removes what it can, and says what is in use") {
  const auto used = store->Find(kKey);
  REQUIRE((used.ok() && *used));
  const SnapshotOutcome outcome =
      RunSnapshotCommand(Request(SnapshotAction::kDelete, {"a", "01", kOtherKey}), false, kNow);
  CHECK(outcome.complaints == std::vector<std::string>{"snapshot " + kKey + ": is in use"});
  CHECK(outcome.text == kOtherKey + "  deleted\n");
  CHECK(IsThere(kKey));
  CHECK_FALSE(IsThere(kOtherKey));
}

TEST_CASE_FIXTURE(CommandFixture, "a delete with a key that is wrong deletes nothing") {
  CHECK(Complaint(Request(SnapshotAction::kDelete, {"a", "b"})) != "");
  CHECK(IsThere(kKey));
}

TEST_CASE_FIXTURE(CommandFixture, "prune does what its dry run says") {
  SnapshotRequest request = Request(SnapshotAction::kPrune);
  request.rules.keep = 1;
  request.dry_run = true;
  const json would = Json(request);
  REQUIRE(would["removed"].size() == 1);
  CHECK(NamesOf(folder).size() >= 2);
  CHECK((IsThere(kKey) && IsThere(kOtherKey)));
  request.dry_run = false;
  CHECK(Json(request)["removed"][0]["key"] == would["removed"][0]["key"]);
  CHECK(IsThere(kKey) != IsThere(kOtherKey));
}

TEST_CASE_FIXTURE(CommandFixture, "what is packed can be unpacked elsewhere, and says its key") {
  SnapshotRequest pack = Request(SnapshotAction::kPack, {"a"});
  pack.file = temp.path() + "/one.tar.zst";
  const SnapshotOutcome packed = RunSnapshotCommand(pack, false, kNow);
  CHECK(packed.complaints.empty());
  CHECK(packed.text == "");
  SnapshotRequest unpack = Request(SnapshotAction::kUnpack);
  unpack.folder = temp.path() + "/other";
  unpack.file = pack.file;
  CHECK(RunSnapshotCommand(unpack, false, kNow).text == kKey + "  unpacked\n");
  CHECK(Problem(snapshot::OpenStore(unpack.folder)->Verify(kKey)) == "");
  // A second time it is there already.
  CHECK(Complaint(unpack).find(kKey) != std::string::npos);
}

TEST_CASE_FIXTURE(CommandFixture, "a pack that fails leaves neither a file nor half of one") {
  REQUIRE(Put(PathOf("images/pages-1.img"), std::string(9000, 'q')));
  SnapshotRequest pack = Request(SnapshotAction::kPack, {"a"});
  const std::string out = temp.path() + "/out";
  REQUIRE(std::filesystem::create_directory(out));
  pack.file = out + "/one.tar.zst";
  CHECK(Complaint(pack).find("images/pages-1.img") != std::string::npos);
  CHECK(NamesOf(out).empty());
  REQUIRE(Put(pack.file, "old"));
  CHECK(Complaint(pack) != "");
  CHECK(snapshot::ReadAll(pack.file) == "old");
  CHECK(NamesOf(out).size() == 1);
  pack.file = out;
  CHECK(Complaint(pack) == out + ": Is a directory");
}

TEST_CASE_FIXTURE(CommandFixture, "an archive that is none leaves no snapshot") {
  SnapshotRequest unpack = Request(SnapshotAction::kUnpack);
  unpack.folder = temp.path() + "/other";
  unpack.file = temp.Write("noise", "this is no archive");
  CHECK(Complaint(unpack).starts_with("unpack " + unpack.file));
  CHECK(Json(Request(SnapshotAction::kList))["snapshots"].size() == 2);
  SnapshotRequest list = Request(SnapshotAction::kList);
  list.folder = unpack.folder;
  CHECK(Json(list)["snapshots"].empty());
}

TEST_CASE("a folder that is not there is an error of one line") {
  SnapshotRequest request;
  request.folder = "/no/such/folder";
  const SnapshotOutcome outcome = RunSnapshotCommand(request, false, kNow);
  CHECK(outcome.text == "");
  CHECK(outcome.complaints ==
        std::vector<std::string>{"snapshot folder /no/such/folder: No such file or directory"});
}

}  // namespace
}  // namespace modal
