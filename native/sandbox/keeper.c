/*
 * keeper: process 1 of a pid namespace, and nothing else.
 *
 * It holds a namespace open and ends with the host: it blocks reading standard input, the lifeline, a pipe whose write
 * end only the host has. End of file means that the host is gone, however it went; the keeper exits, and the kernel
 * kills every process of its namespace and of those nested in it. Orphans are reaped by the kernel because SIGCHLD is
 * ignored, a disposition that survives the execve that started this program.
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
enum { NR_read = 0, NR_exit_group = 231 };

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
enum { NR_read = 63, NR_exit_group = 94 };

#else

#include <sys/syscall.h>
#include <unistd.h>
#define call3(number, a, b, c) syscall(number, a, b, c)
#define _start main
enum { NR_read = SYS_read, NR_exit_group = SYS_exit_group };

#endif

void _start(void);

void _start(void)
{
    char byte;
    long got;

    /* -4 is EINTR: a debugger or a stop signal must not end the namespace. */
    do
        got = call3(NR_read, 0, (long)&byte, 1);
    while (got > 0 || got == -4);
    for (;;)
        call3(NR_exit_group, 0, 0, 0);
}
