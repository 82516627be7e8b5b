/*
 * The sandbox's root file system: a small tmpfs with read-only binds of what Python and the function need, built from a
 * list of steps that the host decides on. Nothing of the host that is not named here exists inside: no /run, no /home,
 * no control sockets, no cgroupfs.
 */

#define _GNU_SOURCE
#include "root.h"

#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* The tmpfs under the binds holds only directories, links and a few lines of /etc. */
#define ROOT_OPTIONS "mode=755,size=4m,nr_inodes=16k"

static int make_directories(char *path, size_t from, struct ll_fault *fault)
{
    for (char *slash = strchr(path + from + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return ll_fail(fault, "make the directory %s in the sandbox's root", path + from);
        *slash = '/';
    }
    return 0;
}

static int make_directory(const char *path, struct ll_fault *fault)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return ll_fail(fault, "make the directory %s", path);
    return 0;
}

static int write_file(const char *path, const char *content, struct ll_fault *fault)
{
    size_t length = strlen(content);
    SCOPED_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, content, length) != (ssize_t)length)
        return ll_fail(fault, "write %s", path);
    return 0;
}

/* A mount point like the source: a directory for a directory, an empty file for anything else. */
static int make_mount_point(const char *source, const char *target, struct ll_fault *fault)
{
    struct stat facts;

    if (stat(source, &facts) < 0)
        return ll_fail(fault, "find %s", source);
    return S_ISDIR(facts.st_mode) ? make_directory(target, fault) : write_file(target, "", fault);
}

/* What a user namespace of somebody's own asks more: what is mounted below a directory must come along, since leaving
 * it out would show what it covers; and flags that the source has must stay. */
static int bind_as_user(const char *source, const char *target, unsigned long flags, struct ll_fault *fault)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID};

    attributes.attr_set |= flags & MS_RDONLY ? MOUNT_ATTR_RDONLY : 0;
    attributes.attr_set |= flags & MS_NODEV ? MOUNT_ATTR_NODEV : 0;
    attributes.attr_set |= flags & MS_NOEXEC ? MOUNT_ATTR_NOEXEC : 0;
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return ll_fail(fault, "bind %s", source);
    if (syscall(SYS_mount_setattr, AT_FDCWD, target, AT_RECURSIVE, &attributes, sizeof attributes) < 0)
        return ll_fail(fault, "make the bind of %s read-only", source);
    return 0;
}

static int bind(const struct ll_nest_spec *spec, const char *source, const char *target, unsigned long flags,
                struct ll_fault *fault)
{
    if (make_mount_point(source, target, fault) < 0)
        return -1;
    if (spec->own_user)
        return bind_as_user(source, target, flags, fault);
    if (mount(source, target, NULL, MS_BIND, NULL) < 0)
        return ll_fail(fault, "bind %s", source);
    /* A bind takes the flags of its source; only a remount sets its own. */
    if (mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | flags, NULL) < 0)
        return ll_fail(fault, "make the bind of %s read-only", source);
    return 0;
}

int ll_write_id_maps(int procfs, int pid, const unsigned inside[2], const unsigned outside[2], unsigned count,
                     struct ll_fault *fault)
{
    static const char *const names[2] = {"uid_map", "gid_map"};

    for (int i = 0; i < 2; i++) {
        char path[64], line[64];
        int length = snprintf(line, sizeof line, "%u %u %u\n", inside[i], outside[i], count);

        snprintf(path, sizeof path, "%d/%s", pid, names[i]);
        SCOPED_FD fd = openat(procfs, path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, line, (size_t)length) != length)
            return ll_fail(fault, "write %s of the sandbox's user namespace (\"%.*s\")", names[i], length - 1, line);
    }
    return 0;
}

/* A user namespace that maps the code's owner to the sandbox's user: only its descriptor is wanted, for an idmapped
 * mount. The process that carries it never runs a line of its own. */
static int owner_map(const struct ll_nest_spec *spec, const struct stat *owner, int procfs, struct ll_fault *fault)
{
    struct ll_clone_args arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    const unsigned inside[2] = {owner->st_uid, owner->st_gid};
    const unsigned outside[2] = {spec->first_id + spec->user, spec->first_id + spec->user};
    char path[64];
    int namespace = -1;
    pid_t child = (pid_t)ll_clone(&arguments);

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    if (child < 0)
        return ll_fail(fault, "make a user namespace for an idmapped mount");
    if (ll_write_id_maps(procfs, child, inside, outside, 1, fault) == 0) {
        snprintf(path, sizeof path, "%d/ns/user", child);
        namespace = openat(procfs, path, O_RDONLY | O_CLOEXEC);
        if (namespace < 0)
            ll_fail(fault, "open the user namespace of an idmapped mount");
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return namespace;
}

/* The function's code, seen as its own user's: deployment directories are often mode 0700 of whoever made them, and the
 * sandbox's user is nobody to the host. Where the file system cannot be idmapped, a plain bind must do. */
static int bind_code(const struct ll_nest_spec *spec, const char *source, const char *target, int procfs,
                     struct ll_fault *fault)
{
    struct stat owner;

    if (stat(source, &owner) < 0)
        return ll_fail(fault, "find the function's code %s", source);
    if (spec->own_user) /* idmapped mounts are root's; and what its own user cannot read, the host could not either */
        return bind(spec, source, target, MS_RDONLY | MS_NOSUID | MS_NODEV, fault);
    if (make_mount_point(source, target, fault) < 0)
        return -1;
    SCOPED_FD map = owner_map(spec, &owner, procfs, fault);
    SCOPED_FD tree = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (map >= 0 && tree >= 0) {
        struct mount_attr attributes = {
            .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP,
            .userns_fd = (uint64_t)map,
        };
        if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0
            && syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) == 0)
            return 0;
    }
    return bind(spec, source, target, MS_RDONLY | MS_NOSUID | MS_NODEV, fault);
}

static int take_step(const struct ll_nest_spec *spec, const struct ll_step *step, int procfs, struct ll_fault *fault)
{
    char target[PATH_MAX];
    int length = snprintf(target, sizeof target, "%s%s", spec->staging, step->target);

    if (length < 0 || (size_t)length >= sizeof target) {
        errno = ENAMETOOLONG;
        return ll_fail(fault, "place %s in the sandbox's root", step->target);
    }
    if (make_directories(target, strlen(spec->staging), fault) < 0)
        return -1;
    switch (step->kind) {
    case LL_BIND:
        return bind(spec, step->source, target, MS_RDONLY | MS_NOSUID | MS_NODEV, fault);
    case LL_CODE:
        return bind_code(spec, step->source, target, procfs, fault);
    case LL_DEVICE:
        return bind(spec, step->source, target, MS_NOSUID | MS_NOEXEC, fault);
    case LL_TMPFS:
        if (make_directory(target, fault) < 0)
            return -1;
        if (mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, step->source) < 0)
            return ll_fail(fault, "mount tmpfs (%s) on %s", step->source, step->target);
        return 0;
    case LL_MOUNT:
        if (make_directory(target, fault) < 0)
            return -1;
        if (syscall(SYS_move_mount, step->mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return ll_fail(fault, "mount a disk on %s", step->target);
        return 0;
    case LL_OVERLAY:
        if (make_directory(target, fault) < 0)
            return -1;
        if (mount("overlay", target, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, step->source) < 0)
            return ll_fail(fault, "mount the layers (%s) on %s", step->source, step->target);
        return 0;
    case LL_LINK:
        if (symlink(step->source, target) < 0)
            return ll_fail(fault, "link %s to %s", step->target, step->source);
        return 0;
    case LL_FILE:
        return write_file(target, step->source, fault);
    case LL_DIRECTORY:
        return make_directory(target, fault);
    default:
        errno = EINVAL;
        return ll_fail(fault, "take step %d for %s", step->kind, step->target);
    }
}

int ll_root_build(const struct ll_nest_spec *spec, int procfs, struct ll_fault *fault)
{
    char proc[PATH_MAX];

    /* Nothing that happens here may travel back to the host's own mount table. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return ll_fail(fault, "make mounts private");
    if (mount("tmpfs", spec->staging, "tmpfs", MS_NOSUID | MS_NODEV, ROOT_OPTIONS) < 0)
        return ll_fail(fault, "mount the sandbox's root on %s", spec->staging);
    for (int i = 0; i < spec->step_count; i++) {
        if (take_step(spec, &spec->steps[i], procfs, fault) < 0)
            return -1;
    }
    snprintf(proc, sizeof proc, "%s/proc", spec->staging);
    return make_directory(proc, fault);
}

int ll_root_enter(const char *root, struct ll_fault *fault)
{
    if (chdir(root) < 0)
        return ll_fail(fault, "enter the sandbox's root %s", root);
    /* With both arguments ".", the old root ends up stacked on the new one and can be detached there. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return ll_fail(fault, "pivot to the sandbox's root");
    if (umount2(".", MNT_DETACH) < 0)
        return ll_fail(fault, "let go of the host's root");
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
        return ll_fail(fault, "make the sandbox's root read-only");
    if (chdir("/") < 0)
        return ll_fail(fault, "enter the sandbox's root");
    return 0;
}
