/*
 * keeper: process 1 of a pid namespace, and nothing else.
 *
 * A nest's keeper ends with the host: it blocks reading standard input, the lifeline, a socket whose other end only the
 * host has. End of file means that the host is gone, however it went; the keeper exits, and the kernel kills every
 * process of its namespace and of those nested in it. A worker's keeper, whose namespace is nested in that one, has no
 * standard input and waits to be killed. Orphans are reaped by the kernel because SIGCHLD is ignored, a disposition that
 * survives the execve that started this program.
 *
 * Freestanding: no libc, so it costs one page of text and a stack, starts without a dynamic loader, and runs in any
 * root. Other architectures than the two below link it against libc.
 */

#if defined(__x86_64__)

static long call3(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
enum { NR_read = 0, NR_fcntl = 72, NR_rt_sigsuspend = 130, NR_prctl = 157, NR_exit_group = 231 };

#elif defined(__aarch64__)

static long call3(long number, long a, long b, long c)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
enum { NR_fcntl = 25, NR_read = 63, NR_exit_group = 94, NR_rt_sigsuspend = 133, NR_prctl = 167 };

#else

#include <sys/syscall.h>
#include <unistd.h>
#define call3(number, a, b, c) syscall(number, a, b, c)
#define _start main
enum {
    NR_fcntl = SYS_fcntl,
    NR_read = SYS_read,
    NR_exit_group = SYS_exit_group,
    NR_rt_sigsuspend = SYS_rt_sigsuspend,
    NR_prctl = SYS_prctl
};

#endif

void _start(void);

void _start(void)
{
    unsigned long no_signals = 0;
    char byte;
    long got;

    /* 1 is F_GETFD. */
    while (call3(NR_fcntl, 0, 1, 0) < 0)
        call3(NR_rt_sigsuspend, (long)&no_signals, sizeof no_signals, 0);
    /* PR_SET_DUMPABLE: where a nest's user is the keeper's own, nobody inside may reach for its descriptors. A worker's
     * keeper stays as it is, for the template has to join its namespace. */
    call3(NR_prctl, 4, 0, 0);
    /* -4 is EINTR: a debugger or a stop signal must not end the namespace. */
    do
        got = call3(NR_read, 0, (long)&byte, 1);
    while (got > 0 || got == -4);
    for (;;)
        call3(NR_exit_group, 0, 0, 0);
}
