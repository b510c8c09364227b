// The reader of tar archives: whatever the bytes, and however they come, it ends in members with
// harmless names, which can be written and read again, or in an error of one line.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/check.h"
#include "snapshot/tar.h"
#include "tests/fuzz/pieces.h"

using namespace modal;
using namespace modal::snapshot;

namespace {

struct Seen {
  std::vector<TarMember> members;
  std::vector<std::string> bytes;
  std::string error;
};

TarSource TakeFrom(std::string_view text) {
  return [text](char* to, size_t size) mutable -> Result<size_t> {
    const size_t got = std::min(size, text.size());
    if (got > 0) std::memcpy(to, text.data(), got);
    text.remove_prefix(got);
    return got;
  };
}

Seen ReadAll(std::string_view archive, const std::function<size_t()>& piece) {
  Seen seen;
  TarReader reader(TakeFrom(archive));
  char buffer[1024];
  for (;;) {
    const Result<std::optional<TarMember>> member = reader.Next();
    if (!member) {
      seen.error = member.error().message();
      MODAL_CHECK(!seen.error.empty() && seen.error.find('\n') == std::string::npos);
      return seen;
    }
    if (!*member) return seen;
    seen.members.push_back(**member);
    seen.bytes.emplace_back();
    for (;;) {
      const Result<size_t> got = reader.Read(buffer, std::min(piece(), sizeof buffer));
      if (!got || *got == 0) break;  // an error comes again
      seen.bytes.back().append(buffer, *got);
    }
  }
}

void Examine(const TarMember& member) {
  MODAL_CHECK(!member.name.empty() && member.name.front() != '/' && member.name.back() != '/');
  MODAL_CHECK(member.name.find('\0') == std::string::npos);
  const std::string framed = "/" + member.name + "/";
  for (const char* wrong : {"/../", "/./", "//"}) {
    MODAL_CHECK(framed.find(wrong) == std::string::npos);
  }
  MODAL_CHECK((member.mode & ~07777U) == 0);
  MODAL_CHECK(member.kind == TarMember::Kind::kFile || member.size == 0);
  MODAL_CHECK((member.kind == TarMember::Kind::kLink) == !member.link.empty());
}

void WriteAgain(const Seen& seen) {
  std::string archive;
  TarWriter writer([&](std::string_view bytes) -> Result<void> {
    archive += bytes;
    return {};
  });
  for (size_t i = 0; i < seen.members.size(); ++i) {
    MODAL_CHECK(writer.Begin(seen.members[i]).ok());
    MODAL_CHECK(writer.Write(seen.bytes[i]).ok());
  }
  MODAL_CHECK(writer.Finish().ok());
  const Seen again = ReadAll(archive, [] { return size_t{1024}; });
  MODAL_CHECK(again.error.empty() && again.bytes == seen.bytes);
  for (size_t i = 0; i < seen.members.size(); ++i) {
    const TarMember& was = seen.members[i];
    const TarMember& is = again.members[i];
    MODAL_CHECK(is.kind == was.kind && is.name == was.name && is.link == was.link);
    MODAL_CHECK(is.mode == was.mode && is.uid == was.uid && is.gid == was.gid);
    MODAL_CHECK(is.mtime_ns == was.mtime_ns);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::Pieces pieces(data, size);
  const Seen seen = ReadAll(pieces.text(), [&] { return pieces.Next(); });
  const Seen whole = ReadAll(pieces.text(), [] { return size_t{1024}; });
  MODAL_CHECK(seen.error == whole.error && seen.members.size() == whole.members.size());
  for (const TarMember& member : seen.members) Examine(member);
  if (seen.error.empty()) WriteAgain(seen);
  return 0;
}
