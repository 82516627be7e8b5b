/* Whether filters and rules can be had here, found by a child that lays them on itself and looks at what they do. */

#define _GNU_SOURCE
#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int filtered(struct ll_fault *fault)
{
    if (ll_filter(LL_FILTER_TEMPLATE | LL_FILTER_TIGHTEN, fault) < 0)
        return -1;
    if (syscall(SYS_keyctl, -1, 0, 0, 0, 0) < 0 && errno == EPERM && syscall(SYS_gettid) > 0)
        return 0;
    errno = EOPNOTSUPP;
    return ll_fail(fault, "have a filter of system calls hold");
}

static int confined(struct ll_fault *fault)
{
    const struct ll_grant grant = {"/dev/null", 1};

    if (ll_confine(&grant, 1, LL_SCOPE_SOCKETS | LL_SCOPE_SIGNALS, fault) < 0)
        return -1;
    if (open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) < 0 && errno == EACCES)
        return 0;
    errno = EOPNOTSUPP;
    return ll_fail(fault, "have Landlock's rules hold");
}

int ll_try(int what, struct ll_fault *fault)
{
    struct ll_clone_args arguments = {.exit_signal = SIGCHLD};
    struct ll_fault found = {0};
    int pipes[2], outcome;
    sigset_t before;
    ssize_t got;
    pid_t child;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return ll_fail(fault, "make a pipe");
    SCOPED_FD in = pipes[0];
    SCOPED_FD out = pipes[1];
    ll_block_signals(&before);
    child = (pid_t)ll_clone(&arguments);
    if (child == 0) {
        outcome = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? ll_fail(&found, "set no_new_privs")
                  : what == LL_TRY_FILTER                    ? filtered(&found)
                                                             : confined(&found);
        if (outcome == 0)
            found.code = 0;
        _exit(write(out, &found, sizeof found) < 0);
    }
    if (child < 0)
        ll_fail(fault, "clone a process to try with");
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (child < 0)
        return -1;
    close(out);
    out = -1;
    do
        got = read(in, &found, sizeof found);
    while (got < 0 && errno == EINTR);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (got != (ssize_t)sizeof found) {
        errno = ECHILD;
        return ll_fail(fault, "find out: the process that tried was ended");
    }
    if (found.code == 0)
        return 0;
    *fault = found;
    errno = fault->code;
    return -1;
}
