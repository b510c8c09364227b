// A library to be preloaded into a workload that is to be snapshotted: there is no io_uring.
//
// libuv opens one for its epoll of its own accord, and CRIU cannot dump it. libuv calls it by libc's syscall(), and
// where that says ENOSYS it does without. A seccomp filter would tell it the same, but filters prevent the dump.
//
// It must load into whatever libc the image has, so it needs no library: its syscall() is the whole of libc's own,
// with one number that the kernel does not know. __errno_location() is the process' libc's (glibc's and musl's alike).
//
// In assembly, because a compiler's function might use the stack, and through syscall() go calls (vfork, clone) after
// which two processes return on the same one.

#if defined(__x86_64__)
// The arguments move down by one register, the seventh comes from the stack. -4095..-1 are error numbers.
  .text
  .globl syscall
  .type syscall, @function
syscall:
  .cfi_startproc
  endbr64
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %rdx
  mov %r8, %r10
  mov %r9, %r8
  mov 8(%rsp), %r9
  cmp $425, %eax              // io_uring_setup
  je 1f
  syscall
  cmp $-4095, %rax
  jae 2f
  ret
1:
  mov $-38, %rax              // ENOSYS
2:
  neg %eax
  push %rax
  .cfi_adjust_cfa_offset 8
  call *__errno_location@GOTPCREL(%rip)
  pop %rdx
  .cfi_adjust_cfa_offset -8
  mov %edx, (%rax)
  mov $-1, %rax
  ret
  .cfi_endproc
  .size syscall, . - syscall
  .section .note.GNU-stack, "", @progbits
#elif defined(__aarch64__)
  .text
  .globl syscall
  .type syscall, %function
syscall:
  .cfi_startproc
  hint #34                    // bti c
  mov x8, x0
  mov x0, x1
  mov x1, x2
  mov x2, x3
  mov x3, x4
  mov x4, x5
  mov x5, x6
  cmp w8, #425                // io_uring_setup
  b.eq 1f
  svc #0
  cmn x0, #4095
  b.hs 2f
  ret
1:
  mov x0, #-38                // ENOSYS
2:
  neg w0, w0
  stp x30, x0, [sp, #-16]!
  .cfi_adjust_cfa_offset 16
  .cfi_offset 30, -16
  bl __errno_location
  ldp x30, x1, [sp], #16
  .cfi_adjust_cfa_offset -16
  .cfi_restore 30
  str w1, [x0]
  mov x0, #-1
  ret
  .cfi_endproc
  .size syscall, . - syscall
  .section .note.GNU-stack, "", %progbits
#else
#error "no syscall() is written for this architecture"
#endif
