/*
 * Preloaded into user-mode Linux where the processor has more extended state than its kernel has room for: Linux 6.1
 * keeps 2,696 bytes a task, up to AVX-512 and protection keys, while processors with AMX have 11,008. Linux takes such a
 * register set whole or not at all (PTRACE_SETREGSET, EFAULT), so its first process could not even start.
 *
 * What there is room for travels as ever; the rest (tile registers, which nobody uses in there) is in its initial state.
 */

#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Intel SDM volume 1, 13.4: after 512 bytes of legacy state, a header whose first word tells which components are not
 * in their initial state. Components up to 9 lie within the first 2,696 bytes of the standard format. */
enum { HEADER = 512, LARGEST = 65536 };
static const uint64_t KEPT = (1 << 10) - 1;

static long call(int request, pid_t pid, void *address, void *data)
{
    return syscall(SYS_ptrace, (long)request, (long)pid, address, data);
}

long ptrace(enum __ptrace_request request, ...)
{
    static uint64_t whole[LARGEST / sizeof(uint64_t)];
    va_list arguments;

    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE) {
        const struct iovec *given = data;
        struct iovec all = {.iov_base = whole, .iov_len = sizeof whole};

        if (call(PTRACE_GETREGSET, pid, address, &all) < 0)
            return -1;
        if (given->iov_len < all.iov_len) {
            memcpy(whole, given->iov_base, given->iov_len);
            whole[HEADER / sizeof(uint64_t)] &= KEPT;
            return call(PTRACE_SETREGSET, pid, address, &all);
        }
    }
    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
        long word; /* the system call stores what the function returns */

        if (call(request, pid, address, &word) < 0)
            return -1;
        errno = 0;
        return word;
    }
    return call(request, pid, address, data);
}
