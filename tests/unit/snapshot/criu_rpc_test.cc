#include "snapshot/criu_rpc.h"

#include <doctest/doctest.h>

#include <map>

#include "snapshot/criu_session.h"
#include "snapshot/protobuf.h"

namespace modal::snapshot {
namespace {

// What it gives points into the message, which must therefore live on.
std::map<uint32_t, ProtobufField> FieldsOf(std::string_view message) {
  std::map<uint32_t, ProtobufField> fields;
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) fields[field->number] = *field;
  CHECK(reader.ok());
  return fields;
}

}  // namespace

TEST_CASE(
    "what is written in protobuf is read again, and the bytes are those of its specification") {
  // protobuf.dev, "Encoding": field 1, the number 150; field 2, the text "testing".
  ProtobufWriter writer;
  writer.Varint(1, 150).Bytes(2, "testing");
  CHECK(writer.text() == "\x08\x96\x01\x12\x07testing");

  const auto fields = FieldsOf(writer.text());
  CHECK(fields.at(1).value == 150);
  CHECK(fields.at(2).bytes == "testing");
}

TEST_CASE("a negative number takes ten bytes and comes back") {
  const std::string text = ProtobufWriter().Int(1, -1).text();
  CHECK(text.size() == 11);
  CHECK(static_cast<int64_t>(FieldsOf(text).at(1).value) == -1);
}

TEST_CASE("fields of fixed size are stepped over") {
  using std::string_literals::operator""s;
  const std::string text =
      "\x09"
      "12345678"
      "\x15"
      "1234"
      "\x18\x07"s;
  const auto fields = FieldsOf(text);
  CHECK(fields.size() == 1);
  CHECK(fields.at(3).value == 7);
}

TEST_CASE("damaged protobuf is an error and never read past its end") {
  using std::string_literals::operator""s;
  for (const std::string& text :
       {"\x08"s, "\x08\x80"s,
        "\x12\x05"
        "abc"s,
        "\x12\xff\xff\xff\xff\x0f"s,
        "\x09"
        "123"s,
        "\x00\x01"s, "\x0b\x01"s, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s}) {
    CAPTURE(text.size());
    ProtobufReader reader(text);
    while (reader.Next()) {
    }
    CHECK_FALSE(reader.ok());
  }
}

TEST_CASE("a dump asks for what works without rights that a container does not have") {
  CriuOptions options;
  options.images_dir = "/snapshots/.staging/images";
  options.pid = 1000;
  options.leave_running = true;
  const std::string message = EncodeCall(CriuCall::kDump, options);
  const auto call = FieldsOf(message);
  CHECK(call.at(1).value == 1);
  const auto sent = FieldsOf(call.at(2).bytes);
  CHECK(static_cast<int64_t>(sent.at(1).value) == -1);  // no descriptor, but
  CHECK(sent.at(68).bytes == options.images_dir);       // a path
  CHECK(sent.at(2).value == 1000);
  CHECK(sent.at(3).value == 1);
  CHECK(sent.at(34).value == 0);  // cgroups: ignored
  CHECK(sent.at(52).value == 1);  // established connections: closed
  CHECK(sent.at(67).value == 1);  // unprivileged
}

TEST_CASE("pipes that lead out of the tree are named to a restore, with what takes their place") {
  CriuOptions options;
  options.restore_sibling = true;
  options.inherit_fd = {{"pipe:[4711]", 4}};
  const std::string message = EncodeCall(CriuCall::kRestore, options);
  const auto sent = FieldsOf(FieldsOf(message).at(2).bytes);
  CHECK(sent.at(26).value == 1);
  const auto pipe = FieldsOf(sent.at(27).bytes);
  CHECK(pipe.at(1).bytes == "pipe:[4711]");
  CHECK(pipe.at(2).value == 4);
}

TEST_CASE("an answer is taken apart") {
  SUBCASE("of a restore") {
    const auto answer = DecodeAnswer(ProtobufWriter()
                                         .Varint(1, 2)
                                         .Bool(2, true)
                                         .Message(4, ProtobufWriter().Int(1, 1234))
                                         .text());
    REQUIRE(answer);
    CHECK(answer->call == CriuCall::kRestore);
    CHECK(answer->success);
    CHECK(answer->pid == 1234);
  }
  SUBCASE("a step that CRIU asks about") {
    const auto answer =
        DecodeAnswer(ProtobufWriter()
                         .Varint(1, 6)
                         .Bool(2, true)
                         .Message(5, ProtobufWriter().Bytes(1, "post-dump").Int(2, 7))
                         .text());
    REQUIRE(answer);
    CHECK(answer->call == CriuCall::kNotify);
    CHECK(answer->step == "post-dump");
  }
  SUBCASE("a failure") {
    const auto answer =
        DecodeAnswer(ProtobufWriter().Varint(1, 1).Bool(2, false).Int(7, 52).Bytes(9, "no").text());
    REQUIRE(answer);
    CHECK_FALSE(answer->success);
    CHECK(answer->error == 52);
    CHECK(answer->message == "no");
  }
  SUBCASE("a version") {
    const auto answer =
        DecodeAnswer(ProtobufWriter()
                         .Varint(1, 10)
                         .Bool(2, true)
                         .Message(10, ProtobufWriter().Int(1, 4).Int(2, 1).Int(4, 1))
                         .text());
    REQUIRE(answer);
    CHECK(answer->major == 4);
    CHECK(answer->minor == 1);
    CHECK(answer->sublevel == 1);
  }
}

TEST_CASE("what is no answer is an error") {
  using std::string_literals::operator""s;
  CHECK_FALSE(DecodeAnswer(""));
  CHECK_FALSE(DecodeAnswer("\xff\xff"));
  CHECK_FALSE(DecodeAnswer(ProtobufWriter().Bool(2, true).text()));  // of no type
  CHECK_FALSE(DecodeAnswer("\x08\x02\x22\x02\x08\x80"s));            // damaged within
}

TEST_CASE("of a log, the first complaint is what counts") {
  CHECK(FirstComplaint("(00.01) fine\n(00.012)   1: Error (criu/sk-inet.c:191): inet: Connected\n"
                       "(00.013) Error (criu/cr-dump.c:9): Dumping FAILED.\n") ==
        "inet: Connected");
  CHECK(FirstComplaint("(00.01) fine\n").empty());
  CHECK(FirstComplaint("").empty());
  CHECK(FirstComplaint("Error (cut") == "Error (cut");
}

}  // namespace modal::snapshot
