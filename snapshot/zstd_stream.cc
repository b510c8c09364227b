#include "snapshot/zstd_stream.h"

#include <zstd.h>

#include <string>
#include <vector>

#include "agent/base/strings.h"
#include "snapshot/folder.h"

namespace modal::snapshot {
namespace {

constexpr int kWindowLog = 27;  // 128 MiB: what zstd(1) itself accepts

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

}  // namespace

struct ZstdWriter::State {
  int fd;
  std::unique_ptr<ZSTD_CCtx, FreeContext> context;
  std::vector<char> out;

  Result<void> Compress(std::string_view bytes, ZSTD_EndDirective end) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer piece{out.data(), out.size(), 0};
      const size_t left = ZSTD_compressStream2(context.get(), &piece, &in, end);
      if (ZSTD_isError(left)) return Error(Concat("compress: ", ZSTD_getErrorName(left)));
      if (Result<void> written = WriteAll(fd, {out.data(), piece.pos}); !written) return written;
      const bool is_done = end == ZSTD_e_end ? left == 0 : in.pos == in.size;
      if (is_done) return {};
    }
  }
};

ZstdWriter::ZstdWriter(int fd, int level) : state_(std::make_unique<State>()) {
  state_->fd = fd;
  state_->context.reset(ZSTD_createCCtx());
  MODAL_CHECK(state_->context);
  state_->out.resize(ZSTD_CStreamOutSize());
  const auto set = [&](ZSTD_cParameter parameter, int value) {
    MODAL_CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(state_->context.get(), parameter, value)));
  };
  set(ZSTD_c_compressionLevel, level);
  set(ZSTD_c_checksumFlag, 1);
}

ZstdWriter::~ZstdWriter() = default;

Result<void> ZstdWriter::Write(std::string_view bytes) {
  return state_->Compress(bytes, ZSTD_e_continue);
}

Result<void> ZstdWriter::Finish() { return state_->Compress({}, ZSTD_e_end); }

struct ZstdReader::State {
  int fd;
  std::unique_ptr<ZSTD_DCtx, FreeContext> context;
  std::vector<char> buffer;
  ZSTD_inBuffer in{};
  bool is_at_start = true;  // of everything
  bool is_in_frame = false;
  bool may_hold_more = false;  // the decoder: the last output was full

  // More input; none at the end.
  Result<void> Fill() {
    const Result<size_t> got = ReadFull(fd, buffer.data(), buffer.size());
    if (!got) return got.error();
    in = {buffer.data(), *got, 0};
    if (*got == 0 && (is_in_frame || is_at_start)) return Error("the archive is cut off");
    return {};
  }
};

ZstdReader::ZstdReader(int fd) : state_(std::make_unique<State>()) {
  state_->fd = fd;
  state_->context.reset(ZSTD_createDCtx());
  MODAL_CHECK(state_->context);
  state_->buffer.resize(ZSTD_DStreamInSize());
  MODAL_CHECK(!ZSTD_isError(
      ZSTD_DCtx_setParameter(state_->context.get(), ZSTD_d_windowLogMax, kWindowLog)));
}

ZstdReader::~ZstdReader() = default;

Result<size_t> ZstdReader::Read(char* to, size_t size) {
  State& state = *state_;
  ZSTD_outBuffer out{to, size, 0};
  while (out.pos < out.size) {
    if (state.in.pos == state.in.size && !state.may_hold_more) {
      if (Result<void> filled = state.Fill(); !filled) return std::move(filled.error());
      if (state.in.size == 0) break;
    }
    const size_t hint = ZSTD_decompressStream(state.context.get(), &out, &state.in);
    if (ZSTD_isError(hint)) {
      return Error(
          Concat("the archive is damaged, or not compressed with zstd: ", ZSTD_getErrorName(hint)));
    }
    state.is_at_start = false;
    state.is_in_frame = hint != 0;  // 0: all of the frame was read, and given out
    state.may_hold_more = hint != 0 && out.pos == out.size;
  }
  return out.pos;
}

}  // namespace modal::snapshot
