/*
 * Starting a program inside a nest (the template, or an environment that cannot be forked).
 *
 * Root joins the nest's pid namespace itself, for its children, and goes back. Anybody else may join it only together
 * with its user namespace, out of which there is no way back: a child does, and makes the program its sibling.
 */

#define _GNU_SOURCE
#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum { FIRST_FREE_FD = 200 }; /* above any descriptor number handed to a child */

static int place(const struct ll_spawn_spec *spec, struct ll_fault *fault)
{
    for (int i = 0; i < spec->placement_count; i++) {
        if (write(spec->placement[i], "0", 1) != 1)
            return ll_fail(fault, "enter cgroup %d of %d", i + 1, spec->placement_count);
    }
    return 0;
}

/* Become the sandbox's user; a process that forks keeps CAP_SYS_ADMIN over the nest, through execve (hence ambient). */
static int drop_privileges(unsigned user, int own_user, int forks, struct ll_fault *fault)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    const unsigned kept = forks ? 1U << CAP_SYS_ADMIN : 0;

    for (int capability = 0; capability <= 63; capability++) {
        if (!(forks && capability == CAP_SYS_ADMIN) && prctl(PR_CAPBSET_DROP, capability) < 0 && errno != EINVAL)
            return ll_fail(fault, "drop capability %d", capability);
    }
    if (prctl(PR_SET_KEEPCAPS, 1) < 0)
        return ll_fail(fault, "keep capabilities");
    /* By system call: libc's wrappers tell all threads, of which this copy of the host has only one. */
    if ((!own_user && syscall(SYS_setgroups, 0, NULL) < 0) || syscall(SYS_setresgid, user, user, user) < 0
        || syscall(SYS_setresuid, user, user, user) < 0)
        return ll_fail(fault, "become user %u of the nest", user);
    memset(data, 0, sizeof data);
    data[0].effective = data[0].permitted = data[0].inheritable = kept;
    if (syscall(SYS_capset, &header, data) < 0)
        return ll_fail(fault, "drop all capabilities but one");
    if (forks && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) < 0)
        return ll_fail(fault, "make the capability ambient");
    return 0;
}

static int arrange_descriptors(const struct ll_spawn_spec *spec, struct ll_fault *fault)
{
    int moved[32];

    if (spec->fd_count > (int)(sizeof moved / sizeof *moved)) {
        errno = E2BIG;
        return ll_fail(fault, "pass %d descriptors", spec->fd_count);
    }
    for (int i = 0; i < spec->fd_count; i++) {
        moved[i] = fcntl(spec->fds[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
        if (moved[i] < 0)
            return ll_fail(fault, "move descriptor %d", spec->fds[i]);
    }
    for (int i = 0; i < spec->fd_count; i++) {
        if (dup2(moved[i], i) < 0)
            return ll_fail(fault, "pass descriptor %d", i);
    }
    if (syscall(SYS_close_range, spec->fd_count, ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
            return ll_fail(fault, "read the limit of open files");
        for (int fd = spec->fd_count; fd < (int)limit.rlim_cur; fd++)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    return 0;
}

static int limit(int resource, unsigned long value, const char *name, struct ll_fault *fault)
{
    struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    struct rlimit had;

    /* What the host itself may not have, it cannot give. */
    if (getrlimit(resource, &had) == 0 && had.rlim_max < value)
        both.rlim_cur = both.rlim_max = had.rlim_max;
    if (setrlimit(resource, &both) < 0)
        return ll_fail(fault, "set RLIMIT_%s to %lu", name, value);
    return 0;
}

static int run(const struct ll_spawn_spec *spec, struct ll_fault *fault)
{
    int nest = -1;

    ll_reset_signals();
    if (place(spec, fault) < 0)
        return -1;
    if (spec->nest >= 0) {
        /* Out of the way of the numbers that the program's own descriptors get. */
        nest = fcntl(spec->nest, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
        if (nest < 0)
            return ll_fail(fault, "move the nest's pidfd");
    }
    /* Away from the host's terminal: its Ctrl-C is the host's to handle. */
    if (setsid() < 0)
        return ll_fail(fault, "start a session");
    if (arrange_descriptors(spec, fault) < 0)
        return -1;
    if (nest >= 0 && setns(nest, (spec->own_user ? 0 : CLONE_NEWUSER) | CLONE_NEWNS | CLONE_NEWIPC
                                  | (spec->own_network ? CLONE_NEWNET : 0)) < 0)
        return ll_fail(fault, "join the nest");
    if (limit(RLIMIT_NOFILE, spec->files, "NOFILE", fault) < 0 || limit(RLIMIT_CORE, 0, "CORE", fault) < 0)
        return -1;
    if ((spec->data && limit(RLIMIT_DATA, spec->data, "DATA", fault) < 0)
        || (spec->file_size && limit(RLIMIT_FSIZE, spec->file_size, "FSIZE", fault) < 0))
        return -1;
    /* A template needs a capability only for namespaces. */
    if ((spec->nest >= 0 || spec->uid) && drop_privileges(spec->uid, spec->own_user, spec->nest >= 0 && spec->forks, fault) < 0)
        return -1;
    /* After that, which takes the second back. Without a pid namespace nothing but parenthood tells whose an orphan is, and nothing else ends it with the host. */
    if (spec->nest < 0 && (ll_adopt_orphans(fault) < 0 || ll_die_with_parent(fault) < 0))
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ll_fail(fault, "set no_new_privs");
    if (chdir(spec->directory) < 0)
        return ll_fail(fault, "enter %s", spec->directory);
    if ((spec->grant_count || spec->scopes) && ll_confine(spec->grants, spec->grant_count, spec->scopes, fault) < 0)
        return -1;
    if (spec->filter && ll_filter(spec->filter, fault) < 0)
        return -1;
    execve(spec->path, spec->argv, spec->envp);
    return ll_fail(fault, "execute %s", spec->path);
}

static _Noreturn void become_program(const struct ll_spawn_spec *spec, int placed, int out)
{
    struct ll_spawn_spec mine = *spec;
    struct ll_fault failure;

    if (placed)
        mine.placement_count = 0;
    memset(&failure, 0, sizeof failure);
    run(&mine, &failure);
    if (write(out, &failure, sizeof failure) < 0)
        _exit(72);
    _exit(71);
}

/* The child of a host that is not root: joins the nest's user and pid namespaces, makes the program the host's child as
 * well, tells its pid, as the host sees it, and is gone. */
static _Noreturn void make_sibling(const struct ll_spawn_spec *spec, int placed, int pids, int out)
{
    struct ll_clone_args arguments = {.flags = CLONE_PARENT};
    struct ll_fault failure;
    int pid = -1;

    memset(&failure, 0, sizeof failure);
    if (!placed && place(spec, &failure) < 0)
        pid = -1;
    else if (setns(spec->nest, CLONE_NEWUSER | CLONE_NEWPID) < 0)
        ll_fail(&failure, "join the nest's user and pid namespaces");
    else {
        pid = (int)ll_clone(&arguments);
        if (pid == 0)
            become_program(spec, 1, out);
        if (pid < 0)
            ll_fail(&failure, "clone a process for %s", spec->path);
    }
    if (pid < 0 && write(out, &failure, sizeof failure) < 0)
        _exit(72);
    _exit(pid > 0 && write(pids, &pid, sizeof pid) < 0 ? 72 : 0);
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* The pid of the program that `joiner` made our child; 0 if it made none. The joiner is gone afterwards. */
static pid_t sibling_of(pid_t joiner, int pids)
{
    int pid = 0;
    ssize_t got;

    do
        got = read(pids, &pid, sizeof pid);
    while (got < 0 && errno == EINTR);
    reap(joiner);
    return got == (ssize_t)sizeof pid ? pid : 0;
}

int ll_spawn(const struct ll_spawn_spec *spec, struct ll_process *process, struct ll_fault *fault)
{
    struct ll_clone_args arguments = {.flags = CLONE_PIDFD, .exit_signal = SIGCHLD};
    struct ll_fault failure;
    int pidfd = -1, pipes[2];
    const int joins = spec->nest >= 0 && spec->own_user;
    sigset_t before;
    ssize_t got;
    pid_t pid;
    SCOPED_FD own = -1;
    SCOPED_FD pids_in = -1;
    SCOPED_FD pids_out = -1;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return ll_fail(fault, "make a pipe");
    SCOPED_FD in = pipes[0];
    /* High up, where arranging the child's descriptors cannot overwrite it. */
    SCOPED_FD out = fcntl(pipes[1], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    close(pipes[1]);
    if (out < 0)
        return ll_fail(fault, "move a pipe");
    if (joins) {
        if (pipe2(pipes, O_CLOEXEC) < 0)
            return ll_fail(fault, "make a pipe");
        pids_in = pipes[0];
        pids_out = pipes[1];
    }
    arguments.pidfd = (uint64_t)(uintptr_t)&pidfd;
    if (spec->cgroup2 >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)spec->cgroup2;
    }
    if (spec->nest >= 0 && !joins) {
        own = open("/proc/self/ns/pid_for_children", O_RDONLY | O_CLOEXEC);
        if (own < 0)
            return ll_fail(fault, "open the host's pid namespace");
        if (setns(spec->nest, CLONE_NEWPID) < 0)
            return ll_fail(fault, "join the nest's pid namespace");
    }
    ll_block_signals(&before);
    pid = (pid_t)ll_clone(&arguments);
    if (pid < 0 && spec->cgroup2 >= 0) {
        arguments.flags &= ~CLONE_INTO_CGROUP;
        arguments.cgroup = 0;
        pid = (pid_t)ll_clone(&arguments);
    }
    if (pid == 0 && joins)
        make_sibling(spec, (arguments.flags & CLONE_INTO_CGROUP) != 0, pids_out, out);
    if (pid == 0)
        become_program(spec, (arguments.flags & CLONE_INTO_CGROUP) != 0, out);
    if (pid < 0)
        ll_fail(fault, "clone a process for %s", spec->path);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (own >= 0 && setns(own, CLONE_NEWPID) < 0) {
        ll_fail(fault, "return to the host's pid namespace");
        if (pid >= 0) {
            kill(pid, SIGKILL);
            reap(pid);
            close(pidfd);
        }
        return -1;
    }
    if (pid < 0)
        return -1;
    close(out);
    out = -1;
    if (joins) {
        close(pids_out);
        pids_out = -1;
        close(pidfd);
        pid = sibling_of(pid, pids_in);
        pidfd = pid > 0 ? ll_pidfd_open(pid) : -1;
        if (pid > 0 && pidfd < 0) {
            ll_fail(fault, "open the pidfd of a process for %s", spec->path);
            kill(pid, SIGKILL);
            reap(pid);
            return -1;
        }
    }
    do
        got = read(in, &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
    if (got == (ssize_t)sizeof failure || pid <= 0) {
        if (pid > 0) {
            reap(pid);
            close(pidfd);
        }
        if (got != (ssize_t)sizeof failure) {
            errno = ECHILD;
            return ll_fail(fault, "clone a process for %s: who was to do it died", spec->path);
        }
        *fault = failure;
        errno = fault->code;
        return -1;
    }
    process->pid = pid;
    process->pidfd = pidfd;
    return 0;
}
