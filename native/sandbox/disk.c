/*
 * A disk for one environment's /tmp: an image file on a loop device, its ext4 mounted nowhere yet.
 *
 *   image ── LOOP_CONFIGURE(AUTOCLEAR) ──> /dev/loopN ── fsopen, fsmount ──> a detached mount, held by its descriptor
 *
 * The image has no name and the device lets go of it by itself, so all of this lasts exactly as long as somebody holds
 * the mount: the host by its descriptor, an environment by its mount namespace. Whoever dies, however, leaves nothing.
 */

#define _GNU_SOURCE
#include "fault.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef RAMFS_MAGIC
#define RAMFS_MAGIC 0x858458f6
#endif
#ifndef EXT4_IOC_SHUTDOWN
#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#endif

enum {
    BLOCK = 4096,
    GOING_WITHOUT_FLUSH = 2, /* EXT4_GOING_FLAGS_NOLOGFLUSH: drop what is dirty */
    TRIES = 16,              /* others on this machine take free loop devices, and remove those they are done with */
};

/* The device's own cache would hold every page a second time, in nobody's memory limit; so it reads and writes the image
 * directly, where the image's file system can do that. */
static int configure(int device, int image)
{
    struct loop_config config;

    memset(&config, 0, sizeof config);
    config.fd = (uint32_t)image;
    config.block_size = BLOCK;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0)
        return 0;
    if (errno != EINVAL)
        return -1;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    return ioctl(device, LOOP_CONFIGURE, &config);
}

static int attach(int image, struct ll_disk *disk, struct ll_fault *fault)
{
    SCOPED_FD control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (control < 0)
        return ll_fail(fault, "open /dev/loop-control");
    for (int tries = 0; tries < TRIES; tries++) {
        char path[64];
        int device;

        disk->device = ioctl(control, LOOP_CTL_GET_FREE); /* where none is, the kernel makes one */
        if (disk->device < 0)
            return ll_fail(fault, "find a free loop device");
        snprintf(path, sizeof path, "/dev/loop%d", disk->device);
        device = open(path, O_RDWR | O_CLOEXEC);
        if (device >= 0 && configure(device, image) == 0)
            return device;
        ll_fail(fault, "%s %s", device < 0 ? "open" : "attach an image to", path);
        if (device >= 0)
            close(device);
        if (fault->code != EBUSY && fault->code != ENOENT && fault->code != ENXIO && fault->code != ENODEV)
            break;
    }
    errno = fault->code;
    return -1;
}

int ll_disk_mount(int image, struct ll_disk *disk, struct ll_fault *fault)
{
    struct statfs facts;
    char source[64];

    if (fstatfs(image, &facts) < 0)
        return ll_fail(fault, "ask where a disk's image lies");
    if (facts.f_type == TMPFS_MAGIC || facts.f_type == RAMFS_MAGIC) {
        errno = EXDEV;
        return ll_fail(fault, "keep a disk's image in a file system that is memory itself");
    }
    SCOPED_FD device = attach(image, disk, fault);
    if (device < 0)
        return -1;
    snprintf(source, sizeof source, "/dev/loop%d", disk->device);
    SCOPED_FD context = (int)syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC);
    if (context < 0)
        return ll_fail(fault, "open ext4");
    /* Nothing here outlives the machine, or even the environment: no barriers, and no thread that fills inode tables. */
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", source, 0) < 0
        || syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "noinit_itable", NULL, 0) < 0
        || syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "nobarrier", NULL, 0) < 0
        || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return ll_fail(fault, "read the ext4 of %s", source);
    disk->mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
                               MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
    return disk->mount < 0 ? ll_fail(fault, "mount the ext4 of %s", source) : 0;
}

/* ext4 keeps up to 2 % back for its delayed allocation; a function is to have all of what it was promised. */
void ll_disk_use_all(const struct ll_disk *disk)
{
    char path[64];

    snprintf(path, sizeof path, "/sys/fs/ext4/loop%d/reserved_clusters", disk->device);
    SCOPED_FD fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "0", 1) < 0)
        errno = 0;
}

int ll_disk_discard(int mount, struct ll_fault *fault)
{
    uint32_t how = GOING_WITHOUT_FLUSH;
    SCOPED_FD root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        return ll_fail(fault, "open a disk's root");
    /* Otherwise the last one to let go of the mount would wait while gigabytes that nobody will read are written. */
    if (ioctl(root, EXT4_IOC_SHUTDOWN, &how) < 0)
        return ll_fail(fault, "drop what a disk has not written yet");
    return 0;
}

int ll_loop_remove(int device, struct ll_fault *fault)
{
    SCOPED_FD control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (control < 0)
        return ll_fail(fault, "open /dev/loop-control");
    if (ioctl(control, LOOP_CTL_REMOVE, (long)device) < 0 && errno != ENODEV)
        return ll_fail(fault, "remove /dev/loop%d", device);
    return 0;
}
