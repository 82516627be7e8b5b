/*
 * The host's and the template's hands in the kernel: namespaces, mounts, placement in cgroups, and the fork itself.
 *
 * Every function returns 0 (or what it says) on success and -1 with *fault filled: the errno and a verb phrase that
 * says what failed. None keeps state, none logs, none allocates. The part between the CDEF marks is read by build.py.
 */

#ifndef LAMPLIGHTER_SANDBOX_H
#define LAMPLIGHTER_SANDBOX_H

/* CDEF BEGIN */
struct ll_fault {
    int code;       /* errno */
    char verb[200]; /* "mount tmpfs on /tmp" */
};

/* One step in building a sandbox's root. Steps run in order; parents of a target are made as needed. */
enum {
    LL_BIND = 1,  /* source: a path; read-only, nosuid, nodev; a file or a directory */
    LL_CODE = 2,  /* as LL_BIND, and shown as owned by the sandbox's user, where the file system can (idmapped) */
    LL_DEVICE = 3, /* source: a device node */
    LL_TMPFS = 4, /* source: mount options, such as "size=1m,mode=1777" */
    LL_LINK = 5,  /* source: the link's text */
    LL_FILE = 6,  /* source: the file's content */
    LL_OVERLAY = 7, /* source: overlay options, such as "lowerdir=/a:/b"; read-only */
    LL_DIRECTORY = 8, /* an empty directory */
    LL_MOUNT = 9, /* mount: a detached mount, such as ll_disk_mount's */
};
struct ll_step {
    int kind;
    const char *source;
    const char *target; /* absolute, inside the new root */
    int mount;          /* LL_MOUNT's descriptor */
};

struct ll_nest_spec {
    const char *staging; /* an empty directory of the host: the new root is built on it, in a private namespace */
    const struct ll_step *steps;
    int step_count;
    unsigned first_id; /* host uid and gid of inside id 0 */
    unsigned id_count;
    unsigned user;   /* inside uid and gid of the function's user */
    int own_user;    /* map nothing but the caller's own user and group, as `user`: that needs no root */
    int keeper_fd;   /* the keeper program */
    int lifeline_fd; /* the nest's end of the lifeline */
    int own_network; /* a network namespace with nothing but a loopback interface */
};

/* Layers of the filter of system calls. Both together are for a process that forks no workers. */
enum {
    LL_FILTER_TEMPLATE = 1, /* what nobody inside may do */
    LL_FILTER_TIGHTEN = 2,  /* what only a template may */
};
struct ll_denied {
    const char *name;
    int number; /* on this architecture */
    int code;   /* the errno it is told */
    int who;    /* LL_FILTER_TIGHTEN: workers only; both bits: everybody */
    const char *reason;
};
/* The calls that are denied whatever their arguments; returns how many. */
int ll_denied_calls(const struct ll_denied **calls);
/* Filter the calling thread's system calls from here on. Needs no_new_privs, or root. */
int ll_filter(int layers, struct ll_fault *fault);

struct ll_grant {
    const char *path; /* of a file or of a whole directory; one that is not there, or out of reach, grants nothing */
    int writable;     /* besides being read and executed */
};
enum {
    LL_SCOPE_SOCKETS = 1, /* connect to no abstract unix socket made outside */
    LL_SCOPE_SIGNALS = 2, /* signal no process outside */
};
/* The version of the kernel's Landlock interface, or -1. */
int ll_landlock_version(void);
/* Keep the calling thread and its children to what is granted, and within `scopes` as far as the kernel knows them
 * (Linux 6.12). Without any grant, files are not restricted. Needs no_new_privs, or root. */
int ll_confine(const struct ll_grant *grants, int count, int scopes, struct ll_fault *fault);

enum { LL_TRY_FILTER = 1, LL_TRY_LANDLOCK = 2 };
/* Whether ll_filter, or ll_confine with grants, can be used here and holds. */
int ll_try(int what, struct ll_fault *fault);

/* A network namespace with a loopback interface and nothing else, owned by the user namespace of a nest (its keeper's
 * pidfd); returns its descriptor. */
int ll_network_create(int nest, struct ll_fault *fault);

struct ll_process {
    int pid;   /* as the host sees it */
    int pidfd; /* close-on-exec */
};

/* A nest: user, pid, mount and ipc namespaces with the given root, held by a keeper as process 1. Needs root, but for
 * one of the caller's own user. */
int ll_nest_create(const struct ll_nest_spec *spec, struct ll_process *keeper, struct ll_fault *fault);

struct ll_spawn_spec {
    int nest;     /* pidfd of the keeper; -1 starts the process in the host's own namespaces */
    unsigned uid; /* inside uid and gid; without a nest the host's, 0 for the caller's own */
    int own_user; /* the nest was made so */
    int forks;    /* keep CAP_SYS_ADMIN over the nest's own namespaces: what forking isolated workers takes */
    const char *path;
    char *const *argv;
    char *const *envp;
    const char *directory;
    const int *fds; /* become descriptors 0, 1, 2, ...; everything else is closed */
    int fd_count;
    const int *placement; /* tasks files of cgroup v1 leaves, opened for writing */
    int placement_count;
    int cgroup2; /* directory of a cgroup v2 leaf, or -1 */
    unsigned long files; /* RLIMIT_NOFILE */
    unsigned long data;  /* RLIMIT_DATA, bytes; 0 leaves it as it is */
    unsigned long file_size; /* RLIMIT_FSIZE, bytes; 0 leaves it as it is */
    int own_network;     /* the nest has a network namespace: join it */
    int filter;          /* layers of ll_filter; 0: none */
    const struct ll_grant *grants; /* for ll_confine; none: files are not restricted */
    int grant_count;
    int scopes; /* for ll_confine; 0 and no grants: no Landlock */
};

/* Start a program inside a nest, unprivileged; the capability that `forks` leaves it is no power over anything outside.
 * Returns once execve has succeeded. */
int ll_spawn(const struct ll_spawn_spec *spec, struct ll_process *process, struct ll_fault *fault);

struct ll_range {
    unsigned long long page; /* address / page size */
    unsigned long long pages;
};
struct ll_fork_spec {
    int isolated;     /* give the worker its own pid, mount and ipc namespaces, /proc and /tmp */
    int pid;          /* wanted pid inside its pid namespace (>1); 0: the kernel's choice */
    int keeper_fd;
    int network;   /* a network namespace for the worker, or -1: the template's */
    int tmp_mount; /* a detached mount for /tmp; -1: a tmpfs of the following size */
    unsigned long long tmp_bytes;
    unsigned long long tmp_inodes;
    const int *placement;
    int placement_count;
    int cgroup2;
    int filtered; /* the template has a filter: tighten it in the worker */
    int scopes;   /* of Landlock, for the worker by itself; 0: none */
    const struct ll_range *ranges; /* pages the worker will write to: copied at once, before it faults on each */
    int range_count;
};
struct ll_fork_result {
    struct ll_process worker; /* in the child: zero */
    struct ll_process keeper; /* pid 0, pidfd -1 if not isolated */
    double nest_us;           /* making the pid namespace, before the fork */
    double clone_us;          /* the fork itself, as the template sees it */
    double place_us;          /* in the child: writing itself into its cgroups */
    double mount_us;          /* in the child: /proc and /tmp */
    double filter_us;         /* in the child: tightening the filter of system calls, and Landlock */
    double touch_us;          /* in the child: copying the pages of `ranges` */
};

/* Fork the calling, single-threaded interpreter. Call it holding the GIL released (as cffi does). The worker's parent is
 * the template's parent, so the host reaps it whatever becomes of the template. Returns 1 in the child, 0 in the
 * parent, -1 on a fault; a fault after the fork is the child's: it gets -1 as well, with worker.pid == 0. */
int ll_fork(const struct ll_fork_spec *spec, struct ll_fork_result *result, struct ll_fault *fault);

/* waitid(P_PIDFD): 1 and *status with the exit status, or 128 + 256 * signal for a signal; 0 if it still runs. */
int ll_reap(int pidfd, int *code, int *status, struct ll_fault *fault);
int ll_pidfd_kill(int pidfd, int signal, struct ll_fault *fault);

/* Make the caller the parent of its descendants' orphans, as process 1 is otherwise (PR_SET_CHILD_SUBREAPER). */
int ll_adopt_orphans(struct ll_fault *fault);

/* Have the caller killed when the thread that started it ends (PR_SET_PDEATHSIG). */
int ll_die_with_parent(struct ll_fault *fault);

/* Let the calling thread reach files as this user and group do (setfsuid(2)); returns the user as whom it did. */
int ll_see_as(unsigned user);

/* The directory of a cgroup v2 leaf, for CLONE_INTO_CGROUP: a detached copy of its mount, out of which ".." leads
 * nowhere. A descriptor of the directory itself would lead an unprivileged holder up to the host's root. */
int ll_open_leaf(const char *path, struct ll_fault *fault);

struct ll_disk {
    int mount;  /* descriptor of the detached mount, close-on-exec */
    int device; /* N of /dev/loopN */
};
/* Mount the ext4 image open at `image`, detached, by a loop device that lets go of it with the last user of the mount.
 * Needs root. */
int ll_disk_mount(int image, struct ll_disk *disk, struct ll_fault *fault);
/* Let users of a mounted disk fill it to the last block. Best effort. */
void ll_disk_use_all(const struct ll_disk *disk);
/* Make a disk fail from here on, and forget what has not been written: its users are dead. */
int ll_disk_discard(int mount, struct ll_fault *fault);
/* Remove an unused loop device. */
int ll_loop_remove(int device, struct ll_fault *fault);

/* A descriptor that becomes readable whenever a cgroup file's content changes (inotify); close-on-exec, never blocks. */
int ll_watch(const char *path, struct ll_fault *fault);

/* Make pages of this process private and present, ahead of the writes that would fault them in one by one
 * (MADV_POPULATE_WRITE, Linux 5.14). Ranges that are not mapped, or not writable, are passed over. Returns how many
 * ranges were populated. */
int ll_populate(const struct ll_range *ranges, int count);
/* CDEF END */

#endif
