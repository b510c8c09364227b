#include "agent/agent_build.h"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

#include "agent/base/strings.h"

namespace modal {
namespace {

constexpr size_t kShown = 8;  // bytes

size_t Aligned(size_t size) { return (size + 3) / 4 * 4; }

std::string Hex(std::span<const std::byte> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<size_t>(byte) >> 4];
    text += kDigits[std::to_integer<size_t>(byte) & 15];
  }
  return text;
}

// Of a segment of notes: each a head, a name and a description.
std::string BuildIdIn(std::span<const std::byte> notes) {
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) head;
    std::memcpy(&head, notes.data(), sizeof head);
    const size_t description = sizeof head + Aligned(head.n_namesz);
    const size_t end = description + Aligned(head.n_descsz);
    if (end > notes.size()) return {};
    const std::string_view name(reinterpret_cast<const char*>(notes.data()) + sizeof head,
                                head.n_namesz);
    if (head.n_type == NT_GNU_BUILD_ID && name == std::string_view(ELF_NOTE_GNU, 4)) {
      return Hex(notes.subspan(description, std::min<size_t>(head.n_descsz, kShown)));
    }
    notes = notes.subspan(end);
  }
  return {};
}

// The program itself comes first, and is the only one that is looked at.
int LookAtProgram(dl_phdr_info* program, size_t, void* build_id) {
  for (const ElfW(Phdr) & segment : std::span(program->dlpi_phdr, program->dlpi_phnum)) {
    if (segment.p_type != PT_NOTE) continue;
    const auto* start = reinterpret_cast<const std::byte*>(program->dlpi_addr + segment.p_vaddr);
    std::string id = BuildIdIn({start, segment.p_memsz});
    if (!id.empty()) *static_cast<std::string*>(build_id) = std::move(id);
  }
  return 1;
}

}  // namespace

std::string AgentBuild() {
  std::string build_id;
  ::dl_iterate_phdr(&LookAtProgram, &build_id);
  return build_id.empty() ? MODAL_VERSION : Concat(MODAL_VERSION, "+", build_id);
}

}  // namespace modal
