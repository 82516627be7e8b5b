/*
 * The filter of system calls: built from denied.h as a program for the kernel's filter machine, and installed.
 *
 *   arch     another one than this program's: refused, all of it. (A 32-bit call has other numbers than these.)
 *   newest   a number above all that was known when denied.h was written: ENOSYS. That is x32's numbers as well.
 *   equal    one comparison a denied call, jumping to the answer of its errno
 *   looking  calls that are denied by an argument: socket, clone, and three that ask for huge pages
 *
 * The kernel remembers which calls a filter allows whatever their arguments, so all others cost it nothing. Installing
 * one costs 0.1 to 0.3 ms, by length. Hence two: what holds for all is installed once, in the template, which its
 * workers inherit; a worker adds the short rest.
 */

#define _GNU_SOURCE
#include "fault.h"
#include "kernel.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#endif

/* Numbers that the C library's headers may be too old to know; the same on every architecture. */
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

enum {
    NEWEST = 469, /* file_setattr, Linux 6.17 */
    MOST_INSTRUCTIONS = 200,
    ALL = LL_FILTER_TEMPLATE | LL_FILTER_TIGHTEN, /* a bit for each layer that a rule is in */
    WORKER = LL_FILTER_TIGHTEN,
    FAMILY_UNIX = 1,
    FAMILY_INET = 2,
    FAMILY_INET6 = 10,
    FAMILY_NETLINK = 16,
    MAP_HUGE = 0x40000,     /* MAP_HUGETLB */
    SHM_HUGE = 0x800,       /* SHM_HUGETLB */
    MEMFD_HUGE = 0x4,       /* MFD_HUGETLB */
    CLONE_BOUNDS = 0x7e020000, /* all CLONE_NEW*: mount, cgroup, uts, ipc, user, pid, network */
};

static const struct ll_denied DENIED_CALLS[] = {
#define DENIED(name, who, code, reason) {#name, SYS_##name, code, who, reason},
#include "denied.h"
#undef DENIED
};

int ll_denied_calls(const struct ll_denied **calls)
{
    *calls = DENIED_CALLS;
    return (int)(sizeof DENIED_CALLS / sizeof *DENIED_CALLS);
}

#ifdef OWN_ARCH

struct program {
    struct sock_filter instructions[MOST_INSTRUCTIONS];
    int length;
};

static void add(struct program *program, uint16_t code, uint32_t k, int yes, int no)
{
    program->instructions[program->length++] = (struct sock_filter){code, (uint8_t)yes, (uint8_t)no, k};
}

static void load(struct program *program, size_t offset)
{
    add(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The low half: no argument looked at here has a meaning in its high half (both architectures are little-endian). */
static void load_argument(struct program *program, int number)
{
    load(program, offsetof(struct seccomp_data, args) + (size_t)number * 8);
}

static void answer(struct program *program, uint32_t action)
{
    add(program, BPF_RET | BPF_K, action, 0, 0);
}

static void refuse(struct program *program, int code)
{
    answer(program, SECCOMP_RET_ERRNO | (uint32_t)code);
}

/* All calls of one layer that are denied with `code`: comparisons that jump to the one answer after them. */
static void deny(struct program *program, int layer, int code)
{
    const int total = (int)(sizeof DENIED_CALLS / sizeof *DENIED_CALLS);
    int count = 0, left;

    for (int i = 0; i < total; i++)
        count += DENIED_CALLS[i].who == layer && DENIED_CALLS[i].code == code;
    if (!count)
        return;
    left = count;
    for (int i = 0; i < total; i++) {
        if (DENIED_CALLS[i].who == layer && DENIED_CALLS[i].code == code) {
            left--;
            /* The last one, if it is not equal, goes over the answer. */
            add(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)DENIED_CALLS[i].number, left, left ? 0 : 1);
        }
    }
    refuse(program, code);
}

/* Of one call, deny those that have any of `bits` in an argument. Ends with the number loaded again. */
static void deny_bits(struct program *program, int number, int argument, uint32_t bits, int code)
{
    add(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4);
    load_argument(program, argument);
    add(program, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    refuse(program, code);
    answer(program, SECCOMP_RET_ALLOW);
}

static void deny_other_families(struct program *program)
{
    static const uint32_t families[] = {FAMILY_UNIX, FAMILY_INET, FAMILY_INET6, FAMILY_NETLINK};
    const int count = sizeof families / sizeof *families;

    add(program, BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, count + 3);
    load_argument(program, 0);
    for (int i = 0; i < count; i++)
        add(program, BPF_JMP | BPF_JEQ | BPF_K, families[i], count - i, 0);
    refuse(program, EAFNOSUPPORT);
    answer(program, SECCOMP_RET_ALLOW);
}

static void begin(struct program *program)
{
    program->length = 0;
    load(program, offsetof(struct seccomp_data, arch));
    add(program, BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0);
    refuse(program, ENOSYS);
    load(program, offsetof(struct seccomp_data, nr));
}

static void for_all(struct program *program)
{
    add(program, BPF_JMP | BPF_JGT | BPF_K, NEWEST, 0, 1);
    refuse(program, ENOSYS);
    deny(program, ALL, EPERM);
    deny(program, ALL, ENOSYS);
    deny_other_families(program);
    /* Huge pages that an operator has set aside count against no memory limit here. */
    deny_bits(program, SYS_mmap, 3, MAP_HUGE, ENOMEM);
    deny_bits(program, SYS_shmget, 2, SHM_HUGE, ENOMEM);
    deny_bits(program, SYS_memfd_create, 1, MEMFD_HUGE, ENOMEM);
}

/* CLONE_PARENT: a worker's child would be the host's. */
static void for_workers(struct program *program)
{
    deny(program, WORKER, EPERM);
    deny(program, WORKER, ENOSYS);
    deny_bits(program, SYS_clone, 0, CLONE_BOUNDS | CLONE_PARENT, EPERM);
}

int ll_filter(int layers, struct ll_fault *fault)
{
    struct program program;
    struct sock_fprog whole = {.filter = program.instructions};

    begin(&program);
    if (layers & LL_FILTER_TEMPLATE)
        for_all(&program);
    if (layers & LL_FILTER_TIGHTEN)
        for_workers(&program);
    answer(&program, SECCOMP_RET_ALLOW);
    whole.len = (unsigned short)program.length;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole, 0, 0) < 0)
        return ll_fail(fault, "install the filter of system calls");
    return 0;
}

#else

int ll_filter(int layers, struct ll_fault *fault)
{
    (void)layers;
    errno = ENOSYS;
    return ll_fail(fault, "filter system calls on this architecture");
}

#endif
