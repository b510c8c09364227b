#include "snapshot/page_map.h"

#include <cstring>
#include <optional>

#include "snapshot/protobuf.h"

namespace modal::snapshot {
namespace {

// CRIU's criu/include/magic.h.
constexpr uint32_t kImageMagic = 0x54564319;
constexpr uint32_t kPageMapMagic = 0x56084025;
constexpr uint32_t kMemoryMagic = 0x57492820;

// Of a page map's entry.
constexpr uint64_t kInParent = 1;
constexpr uint64_t kLazy = 2;
constexpr uint64_t kPresent = 4;

// Of a mapping's advice: one bit for each.
constexpr uint64_t kDontFork = uint64_t{1} << 10;
constexpr uint64_t kWipeOnFork = uint64_t{1} << 18;

// No user memory is beyond.
constexpr uint64_t kHighestAddress = uint64_t{1} << 57;

// Two magic numbers, then messages, each after its size.
class ImageReader {
 public:
  ImageReader(std::string_view image, uint32_t magic) : left_(image) {
    ok_ = Number() == kImageMagic && Number() == magic;
  }

  std::optional<std::string_view> Next() {
    if (!ok_ || left_.empty()) return std::nullopt;
    const std::optional<uint32_t> size = Number();
    if (!size || *size > left_.size()) {
      ok_ = false;
      return std::nullopt;
    }
    const std::string_view message = left_.substr(0, *size);
    left_.remove_prefix(*size);
    return message;
  }
  bool ok() const { return ok_; }

 private:
  std::optional<uint32_t> Number() {
    uint32_t number = 0;
    if (left_.size() < sizeof number) return std::nullopt;
    std::memcpy(&number, left_.data(), sizeof number);
    left_.remove_prefix(sizeof number);
    return number;
  }

  std::string_view left_;
  bool ok_ = true;
};

struct Entry {
  uint64_t address = 0;
  uint64_t pages = 0;
  uint64_t flags = 0;
};

// images/pagemap.proto: pagemap_entry. The number of pages stands in field 2, and since CRIU 4.2
// in field 5, too.
std::optional<Entry> ParseEntry(std::string_view message) {
  Entry entry;
  uint64_t wide = 0;
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number == 1) entry.address = field->value;
    if (field->number == 2) entry.pages = field->value;
    if (field->number == 3 && field->value != 0) entry.flags |= kInParent;
    if (field->number == 4) entry.flags |= field->value;
    if (field->number == 5) wide = field->value;
  }
  if (!reader.ok()) return std::nullopt;
  if (wide != 0) entry.pages = wide;
  return entry;
}

Error Damaged() { return Error("the map of its pages is damaged"); }

bool IsMemory(const MemoryRange& range) {
  return range.start < range.end && range.end <= kHighestAddress;
}

// images/vma.proto: vma_entry.
std::optional<MemoryRange> ParseNotInheritedOne(std::string_view message, bool& ok) {
  MemoryRange range;
  uint64_t advice = 0;
  ProtobufReader reader(message);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number == 1) range.start = field->value;
    if (field->number == 2) range.end = field->value;
    if (field->number == 9) advice = field->value;
  }
  ok = ok && reader.ok();
  if ((advice & (kDontFork | kWipeOnFork)) == 0 || !IsMemory(range)) return std::nullopt;
  return range;
}

}  // namespace

Result<PageMap> ParsePageMap(std::string_view image, uint64_t page_size) {
  ImageReader images(image, kPageMapMagic);
  const std::optional<std::string_view> head = images.Next();
  if (!head) return Damaged();
  PageMap map;
  ProtobufReader reader(*head);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number == 1) map.pages_id = static_cast<uint32_t>(field->value);
  }
  if (!reader.ok()) return Damaged();
  uint64_t end = 0;  // of the last entry
  while (const std::optional<std::string_view> message = images.Next()) {
    const std::optional<Entry> entry = ParseEntry(*message);
    if (!entry || entry->address % page_size != 0 || entry->address < end) return Damaged();
    if (entry->pages == 0 || entry->pages > kHighestAddress / page_size) return Damaged();
    const MemoryRange memory{entry->address, entry->address + entry->pages * page_size};
    if (!IsMemory(memory)) return Damaged();
    end = memory.end;
    if ((entry->flags & kInParent) != 0) return Error("its pages lie in another snapshot");
    if ((entry->flags & kPresent) == 0) continue;
    const FileRange file{map.file_bytes, map.file_bytes + (memory.end - memory.start)};
    if ((entry->flags & kLazy) != 0) {
      map.lazy.push_back({memory, file.start});
    } else {
      map.eager.push_back(file);
    }
    map.file_bytes = file.end;
  }
  if (!images.ok()) return Damaged();
  return map;
}

Result<std::vector<MemoryRange>> ParseNotInherited(std::string_view image) {
  constexpr uint32_t kMappings = 14;  // images/mm.proto: mm_entry
  ImageReader images(image, kMemoryMagic);
  const std::optional<std::string_view> entry = images.Next();
  if (!entry) return Error("the list of its mappings is damaged");
  std::vector<MemoryRange> ranges;
  bool ok = true;
  ProtobufReader reader(*entry);
  while (const std::optional<ProtobufField> field = reader.Next()) {
    if (field->number != kMappings) continue;
    if (const auto range = ParseNotInheritedOne(field->bytes, ok)) ranges.push_back(*range);
  }
  if (!ok || !reader.ok()) return Error("the list of its mappings is damaged");
  return ranges;
}

}  // namespace modal::snapshot
