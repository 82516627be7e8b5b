/* Processes: watching and ending them by pidfd, so that no pid is ever reused under us; and their memory. */

#define _GNU_SOURCE
#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int ll_reap(int pidfd, int *code, int *status, struct ll_fault *fault)
{
    siginfo_t facts = {0};

    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &facts, WEXITED | WNOHANG) < 0)
        return ll_fail(fault, "wait for a process");
    if (facts.si_pid == 0)
        return 0;
    *code = facts.si_code; /* CLD_EXITED, CLD_KILLED or CLD_DUMPED */
    *status = facts.si_status;
    return 1;
}

int ll_pidfd_kill(int pidfd, int number, struct ll_fault *fault)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0) < 0 && errno != ESRCH)
        return ll_fail(fault, "send signal %d", number);
    return 0;
}

int ll_adopt_orphans(struct ll_fault *fault)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? ll_fail(fault, "become a child subreaper") : 0;
}

int ll_die_with_parent(struct ll_fault *fault)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? ll_fail(fault, "ask to die with the host") : 0;
}

int ll_see_as(unsigned user)
{
    const int before = (int)syscall(SYS_setfsuid, user);

    syscall(SYS_setfsgid, user);
    return before;
}

int ll_open_leaf(const char *path, struct ll_fault *fault)
{
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    return fd < 0 ? ll_fail(fault, "open the cgroup %s", path) : fd;
}

int ll_watch(const char *path, struct ll_fault *fault)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

    if (fd < 0)
        return ll_fail(fault, "watch files");
    if (inotify_add_watch(fd, path, IN_MODIFY) < 0) {
        ll_fail(fault, "watch %s", path);
        close(fd);
        errno = fault->code;
        return -1;
    }
    return fd;
}

int ll_populate(const struct ll_range *ranges, int count)
{
    const unsigned long long size = (unsigned long long)sysconf(_SC_PAGESIZE);
    int populated = 0;

    for (int i = 0; i < count; i++) {
        void *start = (void *)(uintptr_t)(ranges[i].page * size);

        populated += madvise(start, ranges[i].pages * size, MADV_POPULATE_WRITE) == 0;
    }
    return populated;
}
