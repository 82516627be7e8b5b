/*
 * A nest: the namespaces a template and its workers live in. The order of the steps is the whole trick.
 *
 *   host ── clone(NEWNS) ──> builder       real root, its own mount namespace M1: builds the root, read-only
 *   builder ── clone(NEWUSER|NEWPID) ──> keeper   unprivileged uid range; the pid namespace belongs to the new user
 *                                          namespace, so that the template may go back to it between forks
 *   builder ── setns(keeper's pid ns), fork ──> a helper that mounts /proc of that namespace into M1 and exits
 *   builder pivots M1 to the new root and drops the old one
 *   keeper ── unshare(NEWNS|NEWIPC) ──> M2, a copy owned by the user namespace. Every mount copied from the more
 *                                          privileged M1 is locked: capabilities over M2 cannot unmount it, reveal
 *                                          what it covers, or make it writable.
 *   builder exits; the host, a child subreaper, inherits the keeper.
 *
 * Where the host is not root, the builder gets a user namespace as well, A, in which the host's own user is root, and
 * the keeper's is below it and maps the same user again, as the function's. M1 then is A's, still more privileged than
 * M2. To the host, who owns A, all capabilities over both fall; to code inside, none.
 *
 * The host has threads, and clone copies only the calling one: another may have held any of libc's locks. So between
 * clone and execve nothing here may allocate, fork by libc, or change ids by libc, which tells all threads of it.
 */

#define _GNU_SOURCE
#include "fault.h"
#include "kernel.h"
#include "network.h"
#include "root.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

/* What the builder tells the host: a pid, or a fault. One write, less than PIPE_BUF, so it arrives whole. */
struct report {
    int pid;
    struct ll_fault fault;
};

static void tell(int fd, const struct report *report)
{
    if (write(fd, report, sizeof *report) < 0)
        _exit(71);
}

/* Whoever makes a user namespace has every capability in it: more of the kernel to attack, tmpfs beyond /tmp's limit.
 * Functions need none. Best effort: the sysctl is absent where the kernel was built without it. */
static void forbid_user_namespaces(void)
{
    SCOPED_FD fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "0", 1) < 0)
        errno = 0;
}

static int become_first_user(void)
{
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, 0, 0, 0) < 0)
        return -1;
    return (int)syscall(SYS_setresuid, 0, 0, 0);
}

/* Runs as process 1 of the new pid namespace, sharing M1 with the builder until it unshares. */
static _Noreturn void become_keeper(const struct ll_nest_spec *spec, int go, int status)
{
    struct report report = {.pid = -1};
    char *const argv[] = {"lamplighter-keeper", NULL};
    char *const envp[] = {NULL};
    char byte;

    if (read(go, &byte, 1) != 1) /* the builder failed and has told why */
        _exit(1);
    ll_reset_signals();
    signal(SIGCHLD, SIG_IGN);
    if (chdir("/") < 0)
        ll_fail(&report.fault, "enter the nest's root");
    else if (unshare(CLONE_NEWNS | CLONE_NEWIPC) < 0)
        ll_fail(&report.fault, "unshare the nest's mounts");
    else if (spec->own_network && ll_loopback_up(&report.fault) < 0)
        ; /* it has said so */
    else if (!spec->own_user && become_first_user() < 0)
        ll_fail(&report.fault, "become the nest's first user");
    else if (forbid_user_namespaces(), dup2(spec->lifeline_fd, 0) < 0
             || syscall(SYS_close_range, 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        ll_fail(&report.fault, "close the keeper's descriptors");
    else {
        syscall(SYS_execveat, spec->keeper_fd, "", argv, envp, AT_EMPTY_PATH);
        ll_fail(&report.fault, "execute the keeper");
    }
    tell(status, &report);
    _exit(71);
}

static int mount_proc(const char *staging, int keeper, struct ll_fault *fault)
{
    struct ll_clone_args plain = {.exit_signal = SIGCHLD};
    char target[PATH_MAX];
    int status;
    pid_t helper;

    snprintf(target, sizeof target, "%s/proc", staging);
    if (setns(keeper, CLONE_NEWPID) < 0)
        return ll_fail(fault, "join the nest's pid namespace");
    helper = (pid_t)ll_clone(&plain);
    if (helper == 0)
        _exit(mount("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ? errno : 0);
    if (helper < 0)
        return ll_fail(fault, "fork in the nest's pid namespace");
    if (waitpid(helper, &status, 0) < 0)
        return ll_fail(fault, "wait for the mount of /proc");
    if (status != 0) {
        errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
        return ll_fail(fault, "mount /proc in the nest");
    }
    return 0;
}

/* End a keeper that is not to be: left to the host it would be a zombie that nobody waits for. */
static int abandon(pid_t keeper)
{
    kill(keeper, SIGKILL);
    waitpid(keeper, NULL, 0);
    return -1;
}

/* In the builder's own user namespace the host's user is root. Whoever has no right over groups outside must give up
 * the right to drop any inside before it may map its own. */
static int map_own_user(int procfs, const unsigned own[2], struct ll_fault *fault)
{
    static const unsigned first[2] = {0, 0};
    char path[64];
    const int self = getpid();

    snprintf(path, sizeof path, "%d/setgroups", self);
    SCOPED_FD fd = openat(procfs, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "deny", 4) != 4)
        return ll_fail(fault, "write setgroups of a user namespace");
    return ll_write_id_maps(procfs, self, first, own, 1, fault);
}

/* Runs in the builder; returns the keeper's pid. `own` are the host's uid and gid. */
static int build(const struct ll_nest_spec *spec, const unsigned own[2], struct ll_fault *fault)
{
    struct ll_clone_args arguments = {.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_PIDFD, .exit_signal = SIGCHLD};
    const unsigned inside[2] = {spec->own_user ? spec->user : 0, spec->own_user ? spec->user : 0};
    const unsigned outside[2] = {spec->own_user ? 0 : spec->first_id, spec->own_user ? 0 : spec->first_id};
    int keeper = -1, go[2], status[2];
    struct report report;
    pid_t pid;
    ssize_t got;
    SCOPED_FD procfs = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (procfs < 0)
        return ll_fail(fault, "open /proc");
    if (spec->own_user && map_own_user(procfs, own, fault) < 0)
        return -1;
    if (ll_root_build(spec, procfs, fault) < 0)
        return -1;
    if (pipe2(go, O_CLOEXEC) < 0 || pipe2(status, O_CLOEXEC) < 0)
        return ll_fail(fault, "make the keeper's pipes");
    arguments.pidfd = (uint64_t)(uintptr_t)&keeper;
    if (spec->own_network)
        arguments.flags |= CLONE_NEWNET;
    pid = (pid_t)ll_clone(&arguments);
    if (pid < 0)
        return ll_fail(fault, "clone into new user and pid namespaces");
    if (pid == 0) {
        close(go[1]);
        become_keeper(spec, go[0], status[1]);
    }
    close(status[1]);
    if (ll_write_id_maps(procfs, pid, inside, outside, spec->own_user ? 1 : spec->id_count, fault) < 0
        || mount_proc(spec->staging, keeper, fault) < 0 || ll_root_enter(spec->staging, fault) < 0)
        return abandon(pid);
    if (write(go[1], "g", 1) != 1) {
        ll_fail(fault, "start the keeper");
        return abandon(pid);
    }
    got = read(status[0], &report, sizeof report); /* end of file: execve closed it */
    if (got == (ssize_t)sizeof report) {
        *fault = report.fault;
        return abandon(pid);
    }
    return pid;
}

int ll_nest_create(const struct ll_nest_spec *spec, struct ll_process *keeper, struct ll_fault *fault)
{
    struct ll_clone_args arguments = {.flags = CLONE_NEWNS, .exit_signal = SIGCHLD};
    const unsigned own[2] = {geteuid(), getegid()};
    struct report report = {.pid = -1};
    int pipes[2];
    sigset_t before;
    pid_t builder;
    ssize_t got;

    /* The keeper must become our child when its builder is gone; otherwise init gets it, and nobody reaps it in a
     * container whose process 1 does not. */
    if (ll_adopt_orphans(fault) < 0)
        return -1;
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return ll_fail(fault, "make a pipe");
    SCOPED_FD in = pipes[0];
    SCOPED_FD out = pipes[1];
    if (spec->own_user)
        arguments.flags |= CLONE_NEWUSER;
    ll_block_signals(&before);
    builder = (pid_t)ll_clone(&arguments);
    if (builder == 0) {
        report.pid = build(spec, own, &report.fault);
        tell(out, &report);
        _exit(0);
    }
    if (builder < 0)
        ll_fail(fault, spec->own_user ? "clone into new user and mount namespaces" : "clone into a new mount namespace");
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (builder < 0)
        return -1;
    close(out);
    out = -1;
    do
        got = read(in, &report, sizeof report);
    while (got < 0 && errno == EINTR);
    while (waitpid(builder, NULL, 0) < 0 && errno == EINTR)
        ;
    if (got != (ssize_t)sizeof report) {
        errno = ECHILD;
        return ll_fail(fault, "build a nest: its builder died");
    }
    if (report.pid < 0) {
        *fault = report.fault;
        errno = fault->code;
        return -1;
    }
    keeper->pid = report.pid;
    keeper->pidfd = ll_pidfd_open(report.pid);
    if (keeper->pidfd < 0) {
        ll_fail(fault, "open the keeper's pidfd");
        return abandon(report.pid);
    }
    return 0;
}
