// What is said of snapshots, by whoever could write to the folder or send an archive: manifests and
// verdicts end in values that come back as they are, or in an error of one line. Also with the
// right checksum, which whoever writes a manifest can give it.
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "snapshot/manifest.h"
#include "snapshot/verdict.h"
#include "tests/unit/snapshot/resealed.h"

using namespace modal;
using namespace modal::snapshot;

namespace {

void CheckError(const Error& error) {
  MODAL_CHECK(!error.message().empty());
  MODAL_CHECK(error.message().find('\n') == std::string::npos);
}

void CheckManifest(std::string_view text) {
  const Result<Manifest> manifest = ParseManifest(text);
  if (!manifest) return CheckError(manifest.error());
  MODAL_CHECK(IsKey(manifest->key));
  MODAL_CHECK(manifest->format == kFormat);
  uint64_t bytes = 0;
  for (const ImageFile& file : manifest->files) {
    MODAL_CHECK(IsFileName(file.name));
    MODAL_CHECK(!file.name.starts_with('/') && file.name != ".." && !file.name.ends_with("/.."));
    bytes += file.size;
    MODAL_CHECK(bytes >= file.size);
  }
  MODAL_CHECK(bytes == manifest->TotalBytes());
  const std::string again = ToJson(*manifest);
  const Result<Manifest> read = ParseManifest(again);
  MODAL_CHECK(read.ok() && ToJson(*read) == again);
  MODAL_CHECK(*ParseFormat(text) == kFormat);
}

void CheckVerdict(std::string_view text) {
  const Result<Verdict> verdict = ParseVerdict(text);
  if (!verdict) return CheckError(verdict.error());
  MODAL_CHECK(verdict->reason.find('\n') == std::string::npos);
  const Result<Verdict> read = ParseVerdict(ToJson(*verdict));
  MODAL_CHECK(read.ok() && ToJson(*read) == ToJson(*verdict));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckManifest(text);
  CheckManifest(SealedText(text));
  CheckVerdict(text);
  return 0;
}
