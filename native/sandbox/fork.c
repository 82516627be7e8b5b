/*
 * The fork itself: from a frozen, single-threaded template, a worker in its own namespaces and cgroups.
 *
 *   template ── clone(NEWPID|VFORK) ──> keeper     process 1 of the worker's pid namespace, exec'd: a few pages.
 *       A worker that were process 1 itself could not be killed by its own signals, and would be told its handler's
 *       abort() and kill() had worked when they had not.
 *   template ── setns(keeper, NEWPID) ── clone3(PARENT|NEWNS|NEWIPC|INTO_CGROUP) ──> worker
 *       The kernel lets a pid namespace that was joined by setns be combined with CLONE_PARENT (since 3.13), so the host
 *       is the worker's parent: it learns the exit status at once and owes nothing to the template's survival.
 *
 * A raw clone3 skips what glibc's fork does; what of it matters is done here: the thread's cached tid and the robust list
 * (the template is single-threaded, so no lock of malloc or stdio can be held by a thread that will not exist), and
 * CPython's own duties around a fork by PyOS_BeforeFork and PyOS_AfterFork_*.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum { KEEPER_STACK = 16384 };

static double microseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int place(const struct ll_fork_spec *spec, struct ll_fault *fault)
{
    /* "0" is the writer itself, and v1's tasks files move one thread: that pair is what lets the kernel skip its global
     * lock, whose writers wait for RCU, 10 ms and more on an idle machine (kernel/cgroup, since Linux 5.5). */
    for (int i = 0; i < spec->placement_count; i++) {
        if (write(spec->placement[i], "0", 1) != 1)
            return ll_fail(fault, "enter cgroup %d of %d", i + 1, spec->placement_count);
    }
    return 0;
}

struct keeper_start {
    const struct ll_fork_spec *spec;
    struct ll_fault *fault;
    int failed;
};

/* Runs on its own stack in the template's memory, the template suspended (CLONE_VM|CLONE_VFORK). */
static int start_keeper(void *argument)
{
    struct keeper_start *start = argument;
    char *const argv[] = {"lamplighter-keeper", NULL};
    char *const envp[] = {NULL};

    if (place(start->spec, start->fault) == 0) {
        signal(SIGCHLD, SIG_IGN);
        if (syscall(SYS_close_range, 0, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
            syscall(SYS_execveat, start->spec->keeper_fd, "", argv, envp, AT_EMPTY_PATH);
        ll_fail(start->fault, "execute the worker's keeper");
    }
    start->failed = 1;
    _exit(71);
}

static int make_keeper(const struct ll_fork_spec *spec, struct ll_process *keeper, struct ll_fault *fault)
{
    struct keeper_start start = {.spec = spec, .fault = fault};
    const int flags = CLONE_NEWPID | CLONE_VFORK | CLONE_PIDFD;
    int pid = -1;

    if (spec->cgroup2 >= 0) {
        /* Born in its cgroup; a copy of the page tables is cheaper than a late attach. */
        struct ll_clone_args arguments = {
            .flags = (uint64_t)flags | CLONE_INTO_CGROUP,
            .pidfd = (uint64_t)(uintptr_t)&keeper->pidfd,
            .exit_signal = SIGCHLD,
            .cgroup = (uint64_t)spec->cgroup2,
        };
        struct ll_fork_spec placed = *spec;

        placed.placement_count = 0;
        start.spec = &placed;
        pid = (int)ll_clone3(&arguments);
        if (pid == 0)
            start_keeper(&start);
        start.spec = spec;
    }
    if (pid < 0) {
        char stack[KEEPER_STACK] __attribute__((aligned(16)));

        pid = clone(start_keeper, stack + sizeof stack, flags | CLONE_VM | SIGCHLD, &start, &keeper->pidfd);
    }
    if (pid < 0)
        return ll_fail(fault, "clone into a new pid namespace");
    keeper->pid = pid;
    if (start.failed) {
        close(keeper->pidfd);
        keeper->pidfd = -1;
        errno = fault->code;
        return -1;
    }
    return 0;
}

/* Where glibc (or musl) caches this thread's id: the kernel knows, if it was built to say so; otherwise look for it in
 * the thread's own structure. NULL if neither finds exactly one place. */
static int *cached_tid(void)
{
    int *found = NULL;
    int *address = NULL;
    const int tid = (int)syscall(SYS_gettid);

    if (prctl(PR_GET_TID_ADDRESS, &address) == 0 && address && *address == tid)
        return address;
    address = (int *)pthread_self(); /* NOLINT: a pthread_t is the thread structure's address in both libraries */
    for (int i = 0; i < 256; i++) {
        if (address[i] == tid) {
            if (found)
                return NULL;
            found = &address[i];
        }
    }
    return found;
}

static long clone_worker(const struct ll_fork_spec *spec, int *pidfd, int *placed)
{
    pid_t wanted = spec->pid;
    int *tid = cached_tid();
    struct ll_clone_args arguments = {
        .flags = CLONE_PARENT | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
    };
    long pid;

    if (tid) {
        arguments.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
        arguments.child_tid = (uint64_t)(uintptr_t)tid;
    }
    if (spec->isolated) {
        arguments.flags |= CLONE_NEWNS | CLONE_NEWIPC;
        if (wanted > 1) {
            arguments.set_tid = (uint64_t)(uintptr_t)&wanted;
            arguments.set_tid_size = 1;
        }
    }
    *placed = 0;
    if (spec->cgroup2 >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)spec->cgroup2;
        *placed = 1;
        pid = ll_clone3(&arguments);
        if (pid >= 0)
            return pid;
        arguments.flags &= ~CLONE_INTO_CGROUP;
        arguments.cgroup = 0;
        *placed = 0;
    }
    pid = ll_clone(&arguments);
    if (pid < 0 && arguments.set_tid_size) {
        /* Before Linux 5.5, without the capability, or without clone3. */
        arguments.set_tid = arguments.set_tid_size = 0;
        pid = ll_clone(&arguments);
    }
    return pid;
}

static int mount_own(const struct ll_fork_spec *spec, struct ll_fault *fault)
{
    char options[96];

    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return ll_fail(fault, "mount the worker's /proc");
    if (spec->tmp_mount >= 0) {
        if (syscall(SYS_move_mount, spec->tmp_mount, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return ll_fail(fault, "mount the worker's disk on /tmp");
        return 0;
    }
    snprintf(options, sizeof options, "mode=1777,size=%llu,nr_inodes=%llu", spec->tmp_bytes, spec->tmp_inodes);
    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
        return ll_fail(fault, "mount the worker's /tmp (%s)", options);
    return 0;
}

static int drop_capabilities(struct ll_fault *fault)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];

    memset(none, 0, sizeof none);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
        return ll_fail(fault, "drop the worker's capabilities");
    return 0;
}

static int settle(const struct ll_fork_spec *spec, int placed, struct ll_fork_result *result, struct ll_fault *fault)
{
    double start = microseconds(), done;

    if (!placed && place(spec, fault) < 0)
        return -1;
    done = microseconds();
    result->place_us = done - start;
    if (spec->network >= 0 && setns(spec->network, CLONE_NEWNET) < 0)
        return ll_fail(fault, "join the worker's network");
    if (spec->isolated) {
        if (mount_own(spec, fault) < 0 || drop_capabilities(fault) < 0)
            return -1;
        result->mount_us = microseconds() - done;
    } else if (ll_adopt_orphans(fault) < 0 || ll_die_with_parent(fault) < 0)
        return -1;
    start = microseconds();
    if (spec->scopes && ll_confine(NULL, 0, spec->scopes, fault) < 0)
        return -1;
    if (spec->filtered && ll_filter(LL_FILTER_TIGHTEN, fault) < 0)
        return -1;
    result->filter_us = microseconds() - start;
    return 0;
}

int ll_fork(const struct ll_fork_spec *spec, struct ll_fork_result *result, struct ll_fault *fault)
{
    SCOPED_FD own = -1;
    void *robust = NULL;
    size_t robust_size = 0;
    double start = microseconds();
    int pidfd = -1, placed = 0, outcome;
    PyGILState_STATE gil;
    long pid;

    memset(result, 0, sizeof *result);
    memset(fault, 0, sizeof *fault);
    result->worker.pid = result->worker.pidfd = result->keeper.pidfd = -1;
    if (spec->isolated) {
        own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (own < 0)
            return ll_fail(fault, "open the template's pid namespace");
        if (make_keeper(spec, &result->keeper, fault) < 0)
            return -1;
        if (setns(result->keeper.pidfd, CLONE_NEWPID) < 0) {
            ll_fail(fault, "join the worker's pid namespace");
            syscall(SYS_pidfd_send_signal, result->keeper.pidfd, SIGKILL, NULL, 0);
            close(result->keeper.pidfd);
            result->keeper.pidfd = -1;
            return -1;
        }
    }
    syscall(SYS_get_robust_list, 0, &robust, &robust_size);
    result->nest_us = microseconds() - start;

    gil = PyGILState_Ensure();
    PyOS_BeforeFork();
    start = microseconds();
    pid = clone_worker(spec, &pidfd, &placed);
    if (pid == 0) {
        if (robust)
            syscall(SYS_set_robust_list, robust, robust_size);
        result->worker.pid = 0;
        start = microseconds();
        ll_populate(spec->ranges, spec->range_count);
        result->touch_us = microseconds() - start;
        outcome = settle(spec, placed, result, fault);
        if (result->keeper.pidfd >= 0)
            close(result->keeper.pidfd);
        result->keeper.pidfd = -1;
        PyOS_AfterFork_Child();
        PyGILState_Release(gil);
        return outcome < 0 ? -1 : 1;
    }
    if (pid < 0)
        ll_fail(fault, "clone the worker");
    result->clone_us = microseconds() - start;
    PyOS_AfterFork_Parent();
    PyGILState_Release(gil);
    if (own >= 0 && setns(own, CLONE_NEWPID) < 0)
        ll_fail(fault, "return to the template's pid namespace");
    if (pid < 0) {
        if (result->keeper.pidfd >= 0) {
            syscall(SYS_pidfd_send_signal, result->keeper.pidfd, SIGKILL, NULL, 0);
            close(result->keeper.pidfd);
            result->keeper.pidfd = -1;
        }
        return -1;
    }
    result->worker.pid = (int)pid;
    result->worker.pidfd = pidfd;
    return 0;
}
