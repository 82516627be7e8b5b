/* System calls that glibc 2.36 does not wrap, and the structures they take; and a child's first steps. */

#ifndef LAMPLIGHTER_KERNEL_H
#define LAMPLIGHTER_KERNEL_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* struct clone_args of linux/sched.h, version 3 (kernel 5.7): each field 8 bytes. */
struct ll_clone_args {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid;
    uint64_t exit_signal;
    uint64_t stack;
    uint64_t stack_size;
    uint64_t tls;
    uint64_t set_tid;
    uint64_t set_tid_size;
    uint64_t cgroup;
};

static inline long ll_clone3(struct ll_clone_args *arguments)
{
    return syscall(SYS_clone3, arguments, sizeof *arguments);
}

/* clone3; and where a container engine denies it with ENOSYS, because seccomp cannot see its flags, the older clone, as
 * far as that goes: not into a cgroup, not with a wanted pid. */
static inline long ll_clone(struct ll_clone_args *arguments)
{
    const unsigned long flags = (unsigned long)(arguments->flags | arguments->exit_signal);
    long pid = ll_clone3(arguments);

    if (pid >= 0 || errno != ENOSYS || arguments->flags >> 32 || arguments->set_tid_size)
        return pid;
    /* The pidfd takes the place of the parent's tid; thread pointer and child's tid change places on x86. */
#if defined(__x86_64__)
    return syscall(SYS_clone, flags, 0, arguments->pidfd, arguments->child_tid, 0);
#else
    return syscall(SYS_clone, flags, 0, arguments->pidfd, 0, arguments->child_tid);
#endif
}

/* Block every signal of this thread, so that a child starts with them blocked: the parent's handlers are the child's too
 * until it execs, and Python's write to a pipe that both share. */
static inline void ll_block_signals(sigset_t *before)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, before);
}

/* In a child: default dispositions (an ignored signal would stay ignored through execve), then nothing blocked. */
static inline void ll_reset_signals(void)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static inline int ll_pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

#endif
