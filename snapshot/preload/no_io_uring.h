// The bytes of a shared library for LD_PRELOAD under which a workload finds no io_uring
// (no_io_uring.S says why).
//
// They are part of the program's image and live as long as it does. Written to any file that the
// workload can read and map, a memfd too, they load into dynamic programs of glibc and musl alike;
// a static program never notices.
#pragma once

#include <cstddef>
#include <span>

namespace modal::snapshot {

std::span<const std::byte> NoIoUringLibrary();

}  // namespace modal::snapshot
