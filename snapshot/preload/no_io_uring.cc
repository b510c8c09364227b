#include "snapshot/preload/no_io_uring.h"

asm(".section .rodata.modal_no_io_uring, \"a\"\n"
    ".balign 16\n"
    ".globl modal_no_io_uring\n"
    "modal_no_io_uring:\n"
    ".incbin \"" MODAL_NO_IO_URING_LIBRARY
    "\"\n"
    ".globl modal_no_io_uring_end\n"
    "modal_no_io_uring_end:\n"
    ".text\n");

extern "C" const std::byte modal_no_io_uring[];
extern "C" const std::byte modal_no_io_uring_end[];

namespace modal::snapshot {

std::span<const std::byte> NoIoUringLibrary() { return {modal_no_io_uring, modal_no_io_uring_end}; }

}  // namespace modal::snapshot
