/*
 * Landlock: rules on files, signals and sockets that a process lays on itself and its children, without any privilege.
 *
 * Where there are namespaces and a root of the sandbox's own, files need no rules, and one thing is left that no mount or
 * pid namespace divides: abstract unix sockets, which belong to the network namespace. Where there are none, this is what
 * keeps a function from the files and the processes of whoever runs the host.
 */

#define _GNU_SOURCE
#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <sys/stat.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

/* linux/landlock.h, as of version 6 of its interface (Linux 6.12); older headers lack parts of it. */
struct ruleset {
    uint64_t files;
    uint64_t network;
    uint64_t scoped;
};
struct __attribute__((packed)) beneath {
    uint64_t allowed;
    int32_t parent;
};
enum {
    ASK_VERSION = 1,
    RULE_BENEATH = 1,
    EXECUTE = 1 << 0,
    WRITE_FILE = 1 << 1,
    READ_FILE = 1 << 2,
    READ_DIRECTORY = 1 << 3,
    TRUNCATE = 1 << 14,
    ALL_OF_1 = (1 << 13) - 1,
    ALL_OF_2 = (1 << 14) - 1, /* and linking from one directory into another */
    ALL_OF_3 = (1 << 15) - 1, /* and truncating */
    SCOPED_SOCKETS = 1,
    SCOPED_SIGNALS = 2,
    SCOPES_SINCE = 6,
};

int ll_landlock_version(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
}

static int grant(int ruleset, const struct ll_grant *given, uint64_t handled, struct ll_fault *fault)
{
    struct beneath rule = {.allowed = EXECUTE | READ_FILE | READ_DIRECTORY};
    struct stat facts;
    SCOPED_FD place = open(given->path, O_PATH | O_CLOEXEC);

    if (place < 0)
        return errno == ENOENT || errno == EACCES ? 0 : ll_fail(fault, "open %s", given->path);
    if (fstat(place, &facts) < 0)
        return ll_fail(fault, "look at %s", given->path);
    if (given->writable)
        rule.allowed = handled;
    if (!S_ISDIR(facts.st_mode))
        rule.allowed &= EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE;
    rule.allowed &= handled;
    rule.parent = place;
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_BENEATH, &rule, 0) < 0)
        return ll_fail(fault, "allow %s", given->path);
    return 0;
}

int ll_confine(const struct ll_grant *grants, int count, int scopes, struct ll_fault *fault)
{
    const int version = ll_landlock_version();
    struct ruleset rules = {0, 0, 0};
    size_t size = offsetof(struct ruleset, network);

    if (version < 1)
        return ll_fail(fault, "use Landlock");
    if (count)
        rules.files = version == 1 ? ALL_OF_1 : version == 2 ? ALL_OF_2 : ALL_OF_3;
    if (version >= SCOPES_SINCE) {
        rules.scoped = (uint64_t)scopes & (SCOPED_SOCKETS | SCOPED_SIGNALS);
        size = sizeof rules;
    }
    if (!rules.files && !rules.scoped)
        return 0; /* nothing that this kernel could hold */
    SCOPED_FD ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (ruleset < 0)
        return ll_fail(fault, "make Landlock's rules");
    for (int i = 0; i < count; i++) {
        if (grant(ruleset, &grants[i], rules.files, fault) < 0)
            return -1;
    }
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        return ll_fail(fault, "lay Landlock's rules on a process");
    return 0;
}
