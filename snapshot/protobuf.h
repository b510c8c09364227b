// The wire format of Protocol Buffers (protobuf.dev, "Encoding"), as far as CRIU's messages need
// it: varints, and whatever has a length. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace modal::snapshot {

class ProtobufWriter {
 public:
  ProtobufWriter& Bool(uint32_t field, bool value) { return Varint(field, value ? 1 : 0); }
  // int32 and enums: a negative one takes ten bytes.
  ProtobufWriter& Int(uint32_t field, int64_t value) {
    return Varint(field, static_cast<uint64_t>(value));
  }
  ProtobufWriter& Varint(uint32_t field, uint64_t value);
  ProtobufWriter& Bytes(uint32_t field, std::string_view value);
  // A message within.
  ProtobufWriter& Message(uint32_t field, const ProtobufWriter& message) {
    return Bytes(field, message.text());
  }
  const std::string& text() const { return text_; }

 private:
  void Raw(uint64_t value);

  std::string text_;
};

struct ProtobufField {
  uint32_t number = 0;
  uint64_t value = 0;      // of a varint
  std::string_view bytes;  // of what has a length; points into the reader's text
};

// Takes a message apart, field by field. Fields of fixed size are stepped over.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view text) : left_(text) {}

  // Nothing at the end, or where the message is damaged: then ok() is false.
  std::optional<ProtobufField> Next();
  bool ok() const { return ok_; }

 private:
  std::optional<uint64_t> Raw();
  std::optional<ProtobufField> Damaged();

  std::string_view left_;
  bool ok_ = true;
};

}  // namespace modal::snapshot
