// CRIU's images of memory, as far as the tests of lazy pages need them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/protobuf.h"

namespace modal::snapshot::testing {

inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kLazyPresent = 2 | 4;
inline constexpr uint64_t kPresent = 4;

inline std::string Number(uint32_t number) {
  return std::string(reinterpret_cast<const char*>(&number), sizeof number);
}

inline std::string Message(const ProtobufWriter& message) {
  return Number(static_cast<uint32_t>(message.text().size())) + message.text();
}

struct MapEntry {
  uint64_t address;
  uint64_t pages;
  uint64_t flags = kLazyPresent;
};

inline std::string PageMapImage(uint32_t pages_id, const std::vector<MapEntry>& entries) {
  std::string image = Number(0x54564319) + Number(0x56084025);
  image += Message(ProtobufWriter().Varint(1, pages_id));
  for (const MapEntry& entry : entries) {
    image += Message(
        ProtobufWriter().Varint(1, entry.address).Varint(2, entry.pages).Varint(4, entry.flags));
  }
  return image;
}

struct Mapping {
  uint64_t start;
  uint64_t end;
  uint64_t advice = 0;
};

inline std::string MemoryImage(const std::vector<Mapping>& mappings) {
  ProtobufWriter entry;
  entry.Varint(1, 0x400000);
  for (const Mapping& mapping : mappings) {
    entry.Message(
        14,
        ProtobufWriter().Varint(1, mapping.start).Varint(2, mapping.end).Varint(9, mapping.advice));
  }
  return Number(0x54564319) + Number(0x57492820) + Message(entry);
}

}  // namespace modal::snapshot::testing
