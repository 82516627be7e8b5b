/* Networks of nobody but oneself: a namespace in which there is a loopback interface and nothing else. */

#define _GNU_SOURCE
#include "network.h"

#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* What the maker tells the host, with the namespace's descriptor if there is one. */
struct report {
    struct ll_fault fault;
};

int ll_loopback_up(struct ll_fault *fault)
{
    struct ifreq request;
    SCOPED_FD any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, "lo", 3);
    if (any < 0 || ioctl(any, SIOCGIFFLAGS, &request) < 0)
        return ll_fail(fault, "find the loopback interface");
    request.ifr_flags |= IFF_UP;
    if (ioctl(any, SIOCSIFFLAGS, &request) < 0)
        return ll_fail(fault, "bring the loopback interface up");
    return 0;
}

static int make(int nest, struct ll_fault *fault)
{
    int made;

    /* Owned by the nest's user namespace: its template may then put a worker there. */
    if (setns(nest, CLONE_NEWUSER) < 0)
        return ll_fail(fault, "join the nest's user namespace");
    if (unshare(CLONE_NEWNET) < 0)
        return ll_fail(fault, "make a network namespace");
    if (ll_loopback_up(fault) < 0)
        return -1;
    made = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return made < 0 ? ll_fail(fault, "open a network namespace") : made;
}

static void send_report(int sock, const struct report *report, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)report, .iov_len = sizeof *report};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    memset(&control, 0, sizeof control);
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.space;
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    if (sendmsg(sock, &message, MSG_NOSIGNAL) < 0)
        _exit(71);
}

/* 1 with *fd, or 0 with the report's fault, or -1 if the maker said nothing. */
static int receive_report(int sock, struct report *report, int *fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = report, .iov_len = sizeof *report};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control.space,
    };
    struct cmsghdr *header;
    ssize_t got;

    do
        got = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof *report)
        return -1;
    header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS)
        return 0;
    memcpy(fd, CMSG_DATA(header), sizeof *fd);
    return 1;
}

int ll_network_create(int nest, struct ll_fault *fault)
{
    struct ll_clone_args arguments = {.exit_signal = SIGCHLD};
    struct report report;
    int pair[2], made = -1, outcome;
    sigset_t before;
    pid_t maker;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return ll_fail(fault, "make a socket pair");
    SCOPED_FD ours = pair[0];
    SCOPED_FD theirs = pair[1];
    memset(&report, 0, sizeof report);
    ll_block_signals(&before);
    maker = (pid_t)ll_clone(&arguments);
    if (maker == 0) {
        close(ours);
        made = make(nest, &report.fault);
        send_report(theirs, &report, made);
        _exit(0);
    }
    if (maker < 0)
        ll_fail(fault, "clone a maker of networks");
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (maker < 0)
        return -1;
    close(theirs);
    theirs = -1;
    outcome = receive_report(ours, &report, &made);
    while (waitpid(maker, NULL, 0) < 0 && errno == EINTR)
        ;
    if (outcome < 0) {
        errno = ECHILD;
        return ll_fail(fault, "make a network: its maker died");
    }
    if (outcome == 0) {
        *fault = report.fault;
        errno = fault->code;
        return -1;
    }
    return made;
}
