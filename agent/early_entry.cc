// The very first instructions of the static binary: block signals, then go on as usual.
//
// Between exec and main() lie a few hundred microseconds in which a SIGTERM would be lost: the kernel
// drops a signal to process 1 whose action is the default, unless it is blocked. So the entry point
// of the binary is not libc's _start but this, which makes one system call and jumps there. The mask
// is that of event::BlockSignals(): all but the signals that report a fault of the program itself.
// In a dynamic binary the loader runs first, and nothing would be gained.
#ifdef MODAL_EARLY_ENTRY

#if defined(__x86_64__)
// %rdx must reach _start as it came (System V ABI, AMD64 supplement, 3.4.1 "Initial Stack and
// Register State"); a system call keeps %r8.
asm(R"(
  .section .text.modal_entry, "ax", @progbits
  .globl modal_entry
  .type modal_entry, @function
modal_entry:
  mov %rdx, %r8
  mov $14, %eax                      # rt_sigprocmask
  mov $2, %edi                       # SIG_SETMASK
  lea modal_entry_mask(%rip), %rsi
  xor %edx, %edx
  mov $8, %r10d
  syscall
  mov %r8, %rdx
  jmp _start
  .size modal_entry, . - modal_entry
  .section .rodata.modal_entry, "a", @progbits
  .balign 8
modal_entry_mask:
  .quad 0xffffffffbffffb07
  .text
)");
#elif defined(__aarch64__)
asm(R"(
  .section .text.modal_entry, "ax", @progbits
  .globl modal_entry
  .type modal_entry, %function
modal_entry:
  mov x9, x0
  mov x8, #135                       // rt_sigprocmask
  mov x0, #2                         // SIG_SETMASK
  adrp x1, modal_entry_mask
  add x1, x1, :lo12:modal_entry_mask
  mov x2, #0
  mov x3, #8
  svc #0
  mov x0, x9
  b _start
  .size modal_entry, . - modal_entry
  .section .rodata.modal_entry, "a", @progbits
  .balign 8
modal_entry_mask:
  .quad 0xffffffffbffffb07
  .text
)");
#endif

#endif  // MODAL_EARLY_ENTRY
