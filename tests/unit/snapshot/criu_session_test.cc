// Against a `criu swrk` that is a thread of the test, at the other end of a socket pair.
#include "snapshot/criu_session.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "agent/base/check.h"
#include "snapshot/protobuf.h"
#include "tests/unit/agent/temp_folder.h"
#include "tests/unit/snapshot/store_fixture.h"

namespace modal::snapshot {
namespace {

constexpr uint64_t kDump = 1;
constexpr uint64_t kRestore = 2;
constexpr uint64_t kNotify = 6;
constexpr uint64_t kVersion = 10;

std::map<uint32_t, ProtobufField> FieldsOf(std::string_view message) {
  std::map<uint32_t, ProtobufField> fields;
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) fields[field->number] = *field;
  return fields;
}

std::string Answer(uint64_t call, bool success) {
  return ProtobufWriter().Varint(1, call).Varint(2, success ? 1 : 0).text();
}

std::string Notify(std::string_view step, uint64_t pid) {
  const auto inner = ProtobufWriter().Bytes(1, step).Varint(2, pid);
  return ProtobufWriter().Varint(1, kNotify).Varint(2, 1).Message(5, inner).text();
}

std::string RestoredAs(uint64_t pid) {
  const auto inner = ProtobufWriter().Varint(1, pid);
  return ProtobufWriter().Varint(1, kRestore).Varint(2, 1).Message(4, inner).text();
}

// The far end, once it has said that it is there; what it does stands in the test.
class Swrk {
 public:
  using Act = std::function<void(Swrk&)>;

  explicit Swrk(Act act) {
    int ends[2];
    MODAL_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    near_ = UniqueFd(ends[0]);
    far_ = UniqueFd(ends[1]);
    thread_ = std::thread([this, act = std::move(act)] {
      const std::string first = Receive();
      if (!first.empty()) Send(Answer(FieldsOf(first).at(1).value, true));
      act(*this);
      far_.Reset();
    });
  }
  ~Swrk() {
    near_.Reset();
    thread_.join();
  }
  Swrk(const Swrk&) = delete;
  Swrk& operator=(const Swrk&) = delete;

  UniqueFd TakeNear() { return std::move(near_); }

  std::string Receive() {
    std::string packet(64 * 1024, '\0');
    const ssize_t got = ::recv(far_.get(), packet.data(), packet.size(), 0);
    packet.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return packet;
  }
  void Send(const std::string& packet) {
    MODAL_CHECK(::send(far_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) >= 0);
  }
  // Whether the step was agreed to.
  bool Ask(std::string_view step, uint64_t pid) {
    Send(Notify(step, pid));
    const std::string reply = Receive();
    const auto fields = FieldsOf(reply);
    return fields.count(1) && fields.at(1).value == kNotify && fields.count(3) &&
           fields.at(3).value == 1;
  }

 private:
  UniqueFd near_;
  UniqueFd far_;
  std::thread thread_;
};

struct Place {
  test::TempFolder temp;
  DumpSpec DumpHere() const {
    DumpSpec spec;
    spec.images_dir = "/snapshots/key/images";
    spec.work_dir = temp.path();
    spec.root = 1000;
    return spec;
  }
  RestoreSpec RestoreHere() const {
    RestoreSpec spec;
    spec.images_dir = "/snapshots/key/images";
    spec.work_dir = temp.path();
    spec.descriptors = {{"pipe:[11]", 4}};
    return spec;
  }
  void Write(const std::string& name, const std::string& text) const {
    MODAL_CHECK(Put(temp.path() + "/" + name, text).ok());
  }
};

TEST_CASE_FIXTURE(Place, "a dump is asked for, agreed to step by step, and its times are read") {
  const auto inner = ProtobufWriter().Varint(2, 15'500).Varint(7, 321);
  Write("stats-dump", std::string(12, '\0') + ProtobufWriter().Message(1, inner).text());
  std::string request;
  bool agreed_early = false;
  bool agreed_late = false;
  int frozen = 0;
  {
    Swrk swrk([&](Swrk& self) {
      request = self.Receive();
      agreed_early = self.Ask("pre-dump", 0);
      agreed_late = self.Ask("post-dump", 1000);
      self.Send(Answer(kDump, true));
    });
    CriuSession session(swrk.TakeNear());
    DumpSpec spec = DumpHere();
    spec.while_frozen = [&]() -> Result<void> {
      ++frozen;
      return {};
    };
    const Result<CriuTimes> times = session.Dump(spec);
    REQUIRE(times);
    CHECK(times->frozen == Milliseconds(15));
    CHECK(times->pages == 321);
  }
  CHECK(agreed_early);
  CHECK(agreed_late);
  CHECK(frozen == 1);
  const auto fields = FieldsOf(request);
  CHECK(fields.at(1).value == kDump);
  const auto options = FieldsOf(fields.at(2).bytes);
  CHECK(static_cast<int64_t>(options.at(1).value) == -1);
  CHECK(options.at(2).value == 1000);
  CHECK(options.at(3).value == 1);
  CHECK(options.count(17) == 0);
  CHECK(options.at(51).bytes == temp.path() + "/criu.conf");
  CHECK(ReadAll(temp.path() + "/criu.conf") == "work-dir " + temp.path() + "\n");
  CHECK(options.at(68).bytes == temp.path() + "/images");
  CHECK(std::filesystem::read_symlink(temp.path() + "/images") == "/snapshots/key/images");
}

TEST_CASE_FIXTURE(Place, "a step that we do not agree to makes the dump fail with our own reason") {
  bool agreed = true;
  {
    Swrk swrk([&](Swrk& self) {
      self.Receive();
      agreed = self.Ask("post-dump", 1000);
      SUBCASE("and CRIU says that it has failed") { self.Send(Answer(kDump, false)); }
      SUBCASE("and CRIU says nothing any more") {}
    });
    CriuSession session(swrk.TakeNear());
    DumpSpec spec = DumpHere();
    spec.while_frozen = []() -> Result<void> { return Error("the folder is full"); };
    CHECK(Problem(session.Dump(spec)) == "the folder is full");
  }
  CHECK_FALSE(agreed);
}

TEST_CASE_FIXTURE(Place, "a restore names its root, and what takes the place of its pipes") {
  const auto inner = ProtobufWriter().Varint(5, 77);
  Write("stats-restore", std::string(12, '\0') + ProtobufWriter().Message(2, inner).text());
  std::string request;
  {
    Swrk swrk([&](Swrk& self) {
      request = self.Receive();
      self.Ask("pre-restore", 0);
      self.Ask("post-restore", 1000);
      self.Ask("post-resume", 1000);
      self.Send(RestoredAs(1000));
    });
    CriuSession session(swrk.TakeNear());
    const Result<Restored> restored = session.Restore(RestoreHere());
    REQUIRE(restored);
    CHECK(restored->root == 1000);
    CHECK(restored->times.pages == 77);
  }
  const auto options = FieldsOf(FieldsOf(request).at(2).bytes);
  CHECK(options.at(26).value == 1);  // a child of whoever has started it
  const auto inherit = FieldsOf(options.at(27).bytes);
  CHECK(inherit.at(1).bytes == "pipe:[11]");
  CHECK(inherit.at(2).value == 4);
}

TEST_CASE_FIXTURE(Place, "moments are told as they come, from the sign of life on") {
  using Moments = std::vector<CriuMoment>;
  Moments moments;
  const auto note = [&moments](CriuMoment moment) { moments.push_back(moment); };
  SUBCASE("of a restore") {
    Swrk swrk([&](Swrk& self) {
      self.Receive();
      for (const char* step : {"pre-restore", "post-restore", "pre-resume", "post-resume"}) {
        self.Ask(step, 1000);
      }
      self.Send(RestoredAs(1000));
    });
    CriuSession session(swrk.TakeNear());
    RestoreSpec spec = RestoreHere();
    spec.on_moment = note;
    CHECK(session.Restore(spec).ok());
    CHECK(moments == Moments{CriuMoment::kUp, CriuMoment::kImagesRead, CriuMoment::kInPlace});
  }
  SUBCASE("of a dump") {
    Swrk swrk([&](Swrk& self) {
      self.Receive();
      for (const char* step : {"pre-dump", "query-ext-files", "post-dump"}) self.Ask(step, 1000);
      self.Send(Answer(kDump, true));
    });
    CriuSession session(swrk.TakeNear());
    DumpSpec spec = DumpHere();
    spec.on_moment = note;
    CHECK(session.Dump(spec).ok());
    CHECK(moments == Moments{CriuMoment::kUp, CriuMoment::kFrozen});
  }
  SUBCASE("none of a CRIU that does not start") {
    UniqueFd near;
    {
      int ends[2];
      MODAL_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
      near = UniqueFd(ends[0]);
      ::close(ends[1]);
    }
    CriuSession session(std::move(near));
    RestoreSpec spec = RestoreHere();
    spec.on_moment = note;
    CHECK_FALSE(session.Restore(spec).ok());
    CHECK(moments.empty());
  }
}

TEST_CASE_FIXTURE(Place, "CRIU is asked for a sign of life, which leaves the line open") {
  CHECK(FieldsOf(EncodeSignOfLife()).at(1).value == kVersion);
  CHECK(FieldsOf(EncodeSignOfLife()).at(4).value == 1);
}

TEST_CASE_FIXTURE(Place, "a tree that is not to be made is refused before its first process is") {
  std::string asked;
  bool agreed = true;
  bool ran = false;
  {
    Swrk swrk([&](Swrk& self) {
      self.Receive();
      agreed = self.Ask(asked.c_str(), 0);
      self.Send(Answer(kRestore, false));
    });
    CriuSession session(swrk.TakeNear());
    RestoreSpec spec = RestoreHere();
    SUBCASE("by whoever is asked") {
      asked = "pre-restore";
      spec.before_processes = []() -> Result<void> { return Error("it is another image's"); };
      CHECK(Problem(session.Restore(spec)) == "it is another image's");
    }
    SUBCASE("by a CRIU that has not asked") {
      asked = "post-restore";
      spec.before_processes = []() -> Result<void> { return {}; };
      spec.before_running = [&ran]() -> Result<void> {
        ran = true;
        return {};
      };
      CHECK(Problem(session.Restore(spec)) == "criu has made processes without asking");
    }
  }
  CHECK_FALSE(agreed);
  CHECK_FALSE(ran);
}

TEST_CASE_FIXTURE(Place, "a tree that is not to run is refused before it does") {
  bool agreed = true;
  {
    Swrk swrk([&](Swrk& self) {
      self.Receive();
      agreed = self.Ask("post-restore", 1000);
      self.Send(Answer(kRestore, false));
    });
    CriuSession session(swrk.TakeNear());
    RestoreSpec spec = RestoreHere();
    spec.before_running = []() -> Result<void> { return Error("nobody waits for it"); };
    CHECK(Problem(session.Restore(spec)) == "nobody waits for it");
  }
  CHECK_FALSE(agreed);
}

TEST_CASE_FIXTURE(Place, "a failure is told by the log's first complaint, else as CRIU tells it") {
  const auto fail = [](Swrk& self) {
    self.Receive();
    self.Send(ProtobufWriter()
                  .Varint(1, kDump)
                  .Varint(2, 0)
                  .Varint(7, EEXIST)
                  .Bytes(9, "Can't fork")
                  .text());
  };
  SUBCASE("with a log") {
    Write("dump.log",
          "(00.01) Warn  (criu/x.c:1): of no matter\n"
          "(00.02)   1234: Error (criu/sk-inet.c:191): inet: Connected TCP socket \n"
          "(00.03) Error (criu/cr-dump.c:2098): Dumping FAILED.\n");
    Swrk swrk(fail);
    CriuSession session(swrk.TakeNear());
    CHECK(Problem(session.Dump(DumpHere())) == "criu dump: inet: Connected TCP socket");
  }
  SUBCASE("without") {
    Swrk swrk(fail);
    CriuSession session(swrk.TakeNear());
    CHECK(Problem(session.Dump(DumpHere())) == "criu dump: Can't fork");
  }
  SUBCASE("with a number alone") {
    Swrk swrk([](Swrk& self) {
      self.Receive();
      self.Send(ProtobufWriter().Varint(1, kRestore).Varint(2, 0).Varint(7, EEXIST).text());
    });
    CriuSession session(swrk.TakeNear());
    CHECK(Problem(session.Restore(RestoreHere())) == "criu restore: File exists");
  }
  SUBCASE("with nothing") {
    Swrk swrk([](Swrk& self) {
      self.Receive();
      self.Send(Answer(kRestore, false));
    });
    CriuSession session(swrk.TakeNear());
    CHECK(Problem(session.Restore(RestoreHere())) == "criu restore: it does not say why");
  }
  SUBCASE("on its standard error, before it has a log") {
    Write("said", "CRIU needs to have this or that: \nOr else.\n");
    Swrk swrk([](Swrk& self) {
      self.Receive();
      self.Send(Answer(kRestore, false));
    });
    CriuSession session(swrk.TakeNear());
    CHECK(Problem(session.Restore(RestoreHere())) ==
          "criu restore: CRIU needs to have this or that");
  }
  SUBCASE("there, and with no answer") {
    Write("said", "Error (criu/x.c:1): Can't do it\n");
    Swrk swrk([](Swrk& self) { self.Receive(); });
    CriuSession session(swrk.TakeNear());
    CHECK(Problem(session.Dump(DumpHere())) == "criu: it has ended without an answer: Can't do it");
  }
  SUBCASE("in words of its own") {
    Write("dump.log", "(00.01) Error (compel/x.c:1): suspending seccomp failed: Not permitted\n");
    Swrk swrk(fail);
    CriuSession session(swrk.TakeNear());
    CHECK(Problem(session.Dump(DumpHere())) ==
          "criu dump: the container has a seccomp filter: start it with "
          "--security-opt=seccomp=unconfined (suspending seccomp failed: Not permitted)");
  }
}

TEST_CASE_FIXTURE(Place, "a restore that names no process is none") {
  Swrk swrk([](Swrk& self) {
    self.Receive();
    self.Send(RestoredAs(1));
  });
  CriuSession session(swrk.TakeNear());
  CHECK_FALSE(session.Restore(RestoreHere()).ok());
}

TEST_CASE_FIXTURE(Place, "a CRIU that dies at any step is an error, and nobody waits for it") {
  for (int step = 0; step < 4; ++step) {
    CAPTURE(step);
    const Place place;
    Swrk swrk([step](Swrk& self) {
      if (step == 0) return;
      self.Receive();
      if (step == 1) return;
      self.Ask("pre-dump", 0);
      if (step == 2) return;
      self.Ask("post-dump", 0);
    });
    CriuSession session(swrk.TakeNear());
    CHECK_FALSE(session.Dump(place.DumpHere()).ok());
  }
}

TEST_CASE("a CRIU that is gone after it has begun leaves a tree that is suspect") {
  const auto dump = [](Swrk::Act act) {
    const Place place;
    Swrk swrk(std::move(act));
    CriuSession criu(swrk.TakeNear());
    CHECK_FALSE(criu.Dump(place.DumpHere()));
    return criu.HasLeftTreeSuspect();
  };
  CHECK_FALSE(dump([](Swrk&) {}));
  CHECK_FALSE(dump([](Swrk& swrk) { swrk.Receive(); }));
  CHECK(dump([](Swrk& swrk) {
    swrk.Receive();
    swrk.Ask("pre-dump", 1000);
  }));
  CHECK(dump([](Swrk& swrk) {
    swrk.Receive();
    swrk.Ask("pre-dump", 1000);
    swrk.Ask("query-ext-files", 1000);
    swrk.Ask("post-dump", 1000);
  }));
  // With its own word that it has failed it has put everything in order again.
  CHECK_FALSE(dump([](Swrk& swrk) {
    swrk.Receive();
    swrk.Ask("pre-dump", 1000);
    swrk.Send(Answer(kDump, false));
  }));
}

TEST_CASE_FIXTURE(Place, "an answer that is damaged, empty or about something else is an error") {
  for (const std::string& packet :
       {std::string("\x08"), std::string(300, '\xff'), Answer(kDump, true).substr(0, 1)}) {
    const Place place;
    Swrk swrk([&packet](Swrk& self) {
      self.Receive();
      self.Send(packet);
    });
    CriuSession session(swrk.TakeNear());
    CHECK_FALSE(session.Dump(place.DumpHere()).ok());
  }
}

TEST_CASE_FIXTURE(Place, "a work folder that is not there is an error before CRIU is asked") {
  Swrk swrk([](Swrk& self) { CHECK(self.Receive().empty()); });
  CriuSession session(swrk.TakeNear());
  DumpSpec spec = DumpHere();
  spec.work_dir = temp.path() + "/none";
  CHECK_FALSE(session.Dump(spec).ok());
}

TEST_CASE("the first complaint of a log is found, cut to a line, and bounded") {
  CHECK(FirstComplaint("").empty());
  CHECK(FirstComplaint("(0.1) Warn (criu/x.c:1): nothing\n").empty());
  CHECK(FirstComplaint("(0.1) Error (criu/x.c:1): one\n(0.2) Error (criu/y.c:2): two\n") == "one");
  CHECK(FirstComplaint("Error (cut off").starts_with("Error (cut off"));
  CHECK(FirstComplaint("Error (x): " + std::string(10'000, 'a')).size() == 400);
}

}  // namespace
}  // namespace modal::snapshot
