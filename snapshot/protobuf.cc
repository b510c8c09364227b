#include "snapshot/protobuf.h"

namespace modal::snapshot {
namespace {

enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

constexpr uint64_t kHighestField = (uint64_t{1} << 29) - 1;

}  // namespace

void ProtobufWriter::Raw(uint64_t value) {
  while (value >= 0x80) {
    text_.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  text_.push_back(static_cast<char>(value));
}

ProtobufWriter& ProtobufWriter::Varint(uint32_t field, uint64_t value) {
  Raw(uint64_t{field} << 3 | kVarint);
  Raw(value);
  return *this;
}

ProtobufWriter& ProtobufWriter::Bytes(uint32_t field, std::string_view value) {
  Raw(uint64_t{field} << 3 | kLength);
  Raw(value.size());
  text_ += value;
  return *this;
}

std::optional<uint64_t> ProtobufReader::Raw() {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !left_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(left_.front());
    left_.remove_prefix(1);
    value |= uint64_t{byte & 0x7fU} << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

std::optional<ProtobufField> ProtobufReader::Damaged() {
  ok_ = false;
  left_ = {};
  return std::nullopt;
}

std::optional<ProtobufField> ProtobufReader::Next() {
  while (!left_.empty()) {
    const std::optional<uint64_t> tag = Raw();
    if (!tag || *tag >> 3 == 0 || *tag >> 3 > kHighestField) return Damaged();
    ProtobufField field;
    field.number = static_cast<uint32_t>(*tag >> 3);
    const uint64_t type = *tag & 7;
    if (type == kVarint) {
      const std::optional<uint64_t> value = Raw();
      if (!value) return Damaged();
      field.value = *value;
      return field;
    }
    uint64_t size = type == kFixed64 ? 8 : 4;
    if (type == kLength) {
      const std::optional<uint64_t> length = Raw();
      if (!length) return Damaged();
      size = *length;
    } else if (type != kFixed64 && type != kFixed32) {
      return Damaged();
    }
    if (size > left_.size()) return Damaged();
    field.bytes = left_.substr(0, size);
    left_.remove_prefix(size);
    if (type == kLength) return field;
  }
  return std::nullopt;
}

}  // namespace modal::snapshot
