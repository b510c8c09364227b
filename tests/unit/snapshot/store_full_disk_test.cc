// Disks that are full at every stage: small tmpfs of every size, in a mount namespace.
#include <sys/statvfs.h>

#include "snapshot/archive.h"
#include "snapshot/store.h"
#include "tests/unit/snapshot/child_process.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

constexpr const char* kFull = "No space left on device";

struct FullDiskFixture {
  test::TempFolder temp;
  std::string disk = temp.path() + "/disk";

  FullDiskFixture() { std::filesystem::create_directory(disk); }

  // `work` on a disk of its own with this mount option: what is wrong, or "".
  std::string On(const std::string& size, const std::function<std::string()>& work) const {
    if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, (size + ",mode=0700").c_str()) != 0) {
      return kNotPermitted;
    }
    std::string problem = work();
    if (::umount2(disk.c_str(), 0) != 0 && problem.empty()) problem = "something is still open";
    return problem.empty() ? "" : Concat(size, ": ", problem);
  }
};

// One attempt: whole and verified, or none, the disk's complaint, and nothing left of it.
std::string TryToMake(const std::string& disk, int* made, int* refused) {
  const Result<std::unique_ptr<Store>> opened =
      Store::Open(disk + "/snapshots", Store::Use::kWrite);
  if (!opened) {
    ++*refused;
    return opened.error().message().find(kFull) == std::string::npos ? opened.error().message()
                                                                     : "";
  }
  Store& store = **opened;
  const Result<void> done = Make(store, kKey);
  bool is_there = false;
  if (std::string problem = WholeOrNotThere(store, kKey, &is_there); !problem.empty()) {
    return problem;
  }
  if (is_there != done.ok()) return "there although it failed: " + Problem(done);
  ++*(is_there ? made : refused);
  if (is_there) return "";
  if (done.error().message().find(kFull) == std::string::npos) return done.error().message();
  for (const std::string& name : NamesOf(store.folder())) {
    if (name != "README" && name != ".lock") return "left behind: " + name;
  }
  return "";
}

TEST_CASE_FIXTURE(FullDiskFixture,
                  "a disk that is full at any stage leaves no snapshot, and no part of one") {
  CHECK(InNamespaces([&]() -> std::string {
          int made = 0;
          int refused = 0;
          for (int kilobytes = 4; kilobytes <= 64; kilobytes += 4) {
            std::string problem = On(Concat("size=", kilobytes, "k"),
                                     [&] { return TryToMake(disk, &made, &refused); });
            if (!problem.empty()) return problem;
          }
          if (made < 2 || refused < 3) return Concat(made, " made, ", refused, " refused");
          made = refused = 0;
          for (int inodes = 2; inodes <= 20; ++inodes) {
            std::string problem =
                On(Concat("nr_inodes=", inodes), [&] { return TryToMake(disk, &made, &refused); });
            if (!problem.empty()) return problem;
          }
          return made < 2 || refused < 5 ? Concat(made, " made, ", refused, " refused") : "";
        }) == "");
}

TEST_CASE_FIXTURE(FullDiskFixture,
                  "a snapshot that fills the disk later is lost, and those that were there stay") {
  CHECK(InNamespaces([&] {
          return On("size=128k", [&]() -> std::string {
            const std::unique_ptr<Store> store = OpenStore(disk + "/snapshots");
            if (Result<void> made = Make(*store, kOtherKey); !made) return made.error().message();
            const Result<void> large =
                Make(*store, kKey, SomeManifest(), {{"images/x", std::string(200 << 10, 'x')}});
            if (large) return "it fits?";
            if (Problem(large).find(kFull) == std::string::npos) return Problem(large);
            if (store->List()->size() != 1) return "not one snapshot";
            return Problem(store->Verify(kOtherKey));
          });
        }) == "");
}

TEST_CASE_FIXTURE(FullDiskFixture, "a verdict that cannot be written stays what it was") {
  CHECK(InNamespaces([&] {
          return On("size=64k", [&]() -> std::string {
            const std::unique_ptr<Store> store = OpenStore(disk + "/snapshots");
            const auto change = [](Verdict verdict) { return AfterFailure(verdict, "x"); };
            if (!store->ChangeVerdict(kKey, change)) return "not changed at first";
            (void)Put(disk + "/filler", std::string(64 << 10, 'x'));
            const Result<Verdict> changed = store->ChangeVerdict(kKey, change);
            if (changed || Problem(changed).find(kFull) == std::string::npos) {
              return "changed? " + Problem(changed);
            }
            const Result<Verdict> verdict = store->ReadVerdict(kKey);
            if (!verdict || verdict->failures != 1) return "damaged";
            std::filesystem::remove(disk + "/filler");
            return Problem(store->ChangeVerdict(kKey, change));
          });
        }) == "");
}

TEST_CASE_FIXTURE(FullDiskFixture,
                  "an archive that does not fit is refused by its manifest, or leaves nothing") {
  const std::unique_ptr<Store> from = OpenStore(temp.path() + "/from");
  REQUIRE(Problem(Make(*from, kKey, SomeManifest(), {{"images/x", std::string(100 << 10, 'x')}})) ==
          "");
  const std::string archive = temp.path() + "/archive";
  const UniqueFd file(::open(archive.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(Problem(Pack(*from, kKey, file.get(), 1)) == "");
  CHECK(
      InNamespaces([&]() -> std::string {
        int made = 0;
        int too_small = 0;
        for (int kilobytes = 8; kilobytes <= 160; kilobytes += 4) {
          std::string problem = On(Concat("size=", kilobytes, "k"), [&]() -> std::string {
            const std::unique_ptr<Store> store = OpenStore(disk + "/snapshots");
            ::lseek(file.get(), 0, SEEK_SET);
            const Result<std::string> key = Unpack(*store, file.get());
            if (key) {
              ++made;
              return Problem(store->Verify(kKey));
            }
            if (!store->List()->empty()) return "half a snapshot";
            const bool is_refused = Problem(key).find("the disk has room for") != std::string::npos;
            too_small += is_refused;
            return is_refused || Problem(key).find(kFull) != std::string::npos ? "" : Problem(key);
          });
          if (!problem.empty()) return problem;
        }
        return made > 2 && too_small > 2 ? "" : Concat(made, " made, ", too_small, " too small");
      }) == "");
}

}  // namespace
}  // namespace modal::snapshot
