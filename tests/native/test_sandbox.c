/*
 * Nests and spawned programs, from C, so that the sanitizers see every access: what goes wrong says so with its errno and
 * what it was about; and whatever happens, no descriptor, no child and no mount is left.
 *
 *     test_sandbox KEEPER STAGING IMAGE    as root; STAGING is an empty directory, IMAGE an ext4 (or empty: no disks)
 *
 * fork.c is not here: it needs an interpreter. The tests in Python exercise it.
 */

#define _GNU_SOURCE
#include "sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif

enum { FIRST_ID = 0x4C000000 + 4000 * 65536, IDS = 65536, USER = 993, MOST_STEPS = 24 };

static const char *staging, *image;
static int keeper_fd, lifeline[2], failures, checks;
static int own_user; /* nests are of the kind that takes no root */

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        checks++;                                                                                                      \
        if (!(condition)) {                                                                                            \
            failures++;                                                                                                \
            printf("%s:%d: %s: ", __func__, __LINE__, #condition);                                                     \
            printf(__VA_ARGS__);                                                                                       \
            putchar('\n');                                                                                             \
        }                                                                                                              \
    } while (0)

/* --- what must not be left --------------------------------------------------------------------------------------- */

struct residue {
    int descriptors;
    long mounts;
};

static struct residue residue(void)
{
    struct residue found = {0, 0};
    DIR *directory = opendir("/proc/self/fd");
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    int character;

    while (readdir(directory))
        found.descriptors++;
    closedir(directory);
    while ((character = fgetc(mounts)) != EOF)
        found.mounts += character == '\n';
    fclose(mounts);
    return found;
}

static void check_nothing_left(struct residue before, const char *after)
{
    struct residue now = residue();

    CHECK(now.descriptors == before.descriptors, "%d descriptors more after: %s", now.descriptors - before.descriptors,
          after);
    CHECK(now.mounts == before.mounts, "%ld mounts more after: %s", now.mounts - before.mounts, after);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child is left after: %s", after);
}

/* --- nests --------------------------------------------------------------------------------------------------------- */

struct plan {
    struct ll_step steps[MOST_STEPS];
    int count;
    char links[8][64];
};

static void add(struct plan *plan, int kind, const char *source, const char *target)
{
    plan->steps[plan->count++] = (struct ll_step){.kind = kind, .source = source, .target = target};
}

/* A root in which a dynamically linked program can run. */
static struct plan *working_plan(void)
{
    static struct plan plan;
    static const char *const system[] = {"/usr", "/bin", "/sbin", "/lib", "/lib64"};

    plan.count = 0;
    for (int i = 0; i < 5; i++) {
        struct stat facts;
        ssize_t length = readlink(system[i], plan.links[i], sizeof plan.links[i] - 1);

        if (length > 0) {
            plan.links[i][length] = '\0';
            add(&plan, LL_LINK, plan.links[i], system[i]);
        } else if (stat(system[i], &facts) == 0) {
            add(&plan, LL_BIND, system[i], system[i]);
        }
    }
    add(&plan, LL_DEVICE, "/dev/null", "/dev/null");
    add(&plan, LL_FILE, "somebody:x:993:993::/:/bin/sh\n", "/etc/passwd");
    add(&plan, LL_DIRECTORY, "", "/var/empty/deep");
    add(&plan, LL_TMPFS, "mode=1777,size=1m", "/tmp");
    return &plan;
}

static struct ll_nest_spec nest_spec(const struct plan *plan)
{
    return (struct ll_nest_spec){
        .staging = staging,
        .steps = plan->steps,
        .step_count = plan->count,
        .first_id = FIRST_ID,
        .id_count = IDS,
        .user = USER,
        .own_user = own_user,
        .keeper_fd = keeper_fd,
        .lifeline_fd = lifeline[0],
    };
}

static void check_refused(const struct ll_nest_spec *spec, int code, const char *phrase)
{
    struct residue before = residue();
    struct ll_process keeper = {-1, -1};
    struct ll_fault fault = {0};
    int outcome = ll_nest_create(spec, &keeper, &fault);

    CHECK(outcome == -1, "a nest was made although it cannot %s", phrase);
    CHECK(fault.code == code, "cannot %s: %s instead of %s", fault.verb, strerror(fault.code), strerror(code));
    CHECK(errno == code, "errno is %s", strerror(errno));
    CHECK(strstr(fault.verb, phrase), "\"%s\" instead of \"%s\"", fault.verb, phrase);
    check_nothing_left(before, phrase);
}

static void check_step_refused(int kind, const char *source, const char *target, int code, const char *phrase)
{
    struct plan *plan = working_plan();
    struct ll_nest_spec spec;

    add(plan, kind, source, target);
    spec = nest_spec(plan);
    check_refused(&spec, code, phrase);
}

static void a_step_that_cannot_be_taken_says_which_and_leaves_nothing(void)
{
    static char long_target[PATH_MAX + 2], long_name[NAME_MAX + 3];

    memset(long_target, 'a', sizeof long_target - 1);
    memset(long_name, 'b', sizeof long_name - 1);
    long_target[0] = long_name[0] = '/';
    check_step_refused(LL_BIND, "/nowhere/at/all", "/opt", ENOENT, "find /nowhere/at/all");
    check_step_refused(LL_CODE, "/nowhere/at/all", "/var/task", ENOENT, "find the function's code /nowhere/at/all");
    check_step_refused(LL_DIRECTORY, "", "/usr/not/here", EROFS, "make the directory /usr/not in the sandbox's root");
    check_step_refused(LL_FILE, "text", "/usr/not-here", EROFS, "write ");
    check_step_refused(LL_LINK, "/usr", "/tmp", EEXIST, "link /tmp to /usr");
    check_step_refused(LL_TMPFS, "size=much", "/scratch", EINVAL, "mount tmpfs (size=much) on /scratch");
    check_step_refused(LL_OVERLAY, "lowerdir=/nowhere/at/all:/nor/there", "/opt", ENOENT, "mount the layers (lowerdir=/nowh");
    check_step_refused(LL_DIRECTORY, "", long_target, ENAMETOOLONG, "place /aaa");
    check_step_refused(LL_DIRECTORY, "", long_name, ENAMETOOLONG, "make the directory ");
    check_step_refused(99, "", "/opt", EINVAL, "take step 99 for /opt");
}

static void a_nest_that_cannot_be_made_says_why_and_leaves_nothing(void)
{
    struct ll_nest_spec spec = nest_spec(working_plan());
    struct ll_nest_spec changed = spec;

    changed.staging = "/nowhere/at/all";
    check_refused(&changed, ENOENT, "mount the sandbox's root on /nowhere/at/all");
    /* From here on, after the keeper's birth. */
    changed = spec;
    changed.id_count = 0;
    check_refused(&changed, EINVAL, "write uid_map of the sandbox's user namespace");
    changed = spec;
    changed.lifeline_fd = -1;
    check_refused(&changed, EBADF, "close the keeper's descriptors");
    changed = spec;
    changed.keeper_fd = lifeline[0];
    check_refused(&changed, EACCES, "execute the keeper");
}

static void end_nest(struct ll_process *keeper)
{
    struct ll_fault fault;

    CHECK(ll_pidfd_kill(keeper->pidfd, SIGKILL, &fault) == 0, "cannot %s", fault.verb);
    CHECK(waitpid(keeper->pid, NULL, 0) == keeper->pid, "the keeper is not our child");
    CHECK(ll_pidfd_kill(keeper->pidfd, SIGKILL, &fault) == 0, "killing what is gone is no fault: cannot %s", fault.verb);
    close(keeper->pidfd);
}

/* --- programs ------------------------------------------------------------------------------------------------------ */

/* A shell with `script`; standard output is `out`. */
struct shell {
    const char *argv[5];
    const char *envp[2];
    int fds[3];
    struct ll_spawn_spec spec;
};

static struct ll_spawn_spec *shell(struct shell *shell, const char *script, int nest, int null, int out)
{
    *shell = (struct shell){
        .argv = {"/bin/sh", "-c", script, "sh", NULL},
        .envp = {"GREETING=hello", NULL},
        .fds = {null, out, out},
    };
    shell->spec = (struct ll_spawn_spec){
        .nest = nest,
        .uid = nest >= 0 ? USER : 0,
        .own_user = own_user,
        .path = "/bin/sh",
        .argv = (char *const *)shell->argv,
        .envp = (char *const *)shell->envp,
        .directory = "/",
        .fds = shell->fds,
        .fd_count = 3,
        .cgroup2 = -1,
        .files = 64,
    };
    return &shell->spec;
}

/* Run it; the first bytes of its output in `said`. Returns its exit status, or minus the signal that ended it. */
static int run(const struct ll_spawn_spec *given, int out, int in, char *said, size_t size)
{
    struct ll_process process = {-1, -1};
    struct ll_fault fault = {0};
    size_t length = 0;
    ssize_t got;
    int code = 0, status = 0, outcome;

    if (ll_spawn(given, &process, &fault) < 0) {
        CHECK(0, "cannot %s: %s", fault.verb, strerror(fault.code));
        return -1000;
    }
    close(out);
    while (length < size - 1 && (got = read(in, said + length, size - 1 - length)) > 0)
        length += (size_t)got;
    said[length] = '\0';
    do
        outcome = ll_reap(process.pidfd, &code, &status, &fault);
    while (outcome == 0 && usleep(1000) == 0);
    CHECK(outcome == 1, "cannot %s", fault.verb);
    CHECK(ll_reap(process.pidfd, &code, &status, &fault) == -1 && fault.code == ECHILD, "it was reaped twice");
    close(process.pidfd);
    return code == CLD_EXITED ? status : -status;
}

static void check_run(const char *script, int nest, int expected, const char *output)
{
    struct residue before = residue();
    struct shell shell_;
    char said[4096];
    int pipes[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC), status;

    if (null < 0 || pipe2(pipes, O_CLOEXEC) < 0)
        abort();
    status = run(shell(&shell_, script, nest, null, pipes[1]), pipes[1], pipes[0], said, sizeof said);
    CHECK(status == expected, "%d instead of %d from: %s (%s)", status, expected, script, said);
    CHECK(strcmp(said, output) == 0, "\"%s\" instead of \"%s\" from: %s", said, output, script);
    close(pipes[0]);
    close(null);
    if (nest < 0)
        check_nothing_left(before, script);
}

static void a_program_gets_its_arguments_its_environment_and_its_descriptors_alone(void)
{
    int other = fcntl(keeper_fd, F_DUPFD, 57); /* inheritable, and above all that it is given */

    check_run("echo $0 $GREETING $HOME-; exit 7", -1, 7, "sh hello -\n");
    check_run("pwd; ulimit -n; ulimit -c", -1, 0, "/\n64\n0\n");
    check_run("for fd in 3 4 5 57 200 201 202; do [ -e /proc/$$/fd/$fd ] && echo $fd is open; done; true", -1, 0, "");
    close(other);
}

static void a_program_without_a_nest_is_who_it_is_told_to_be(void)
{
    struct residue before = residue();
    struct shell shell_;
    char said[4096];
    int pipes[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (null < 0 || pipe2(pipes, O_CLOEXEC) < 0)
        abort();
    shell(&shell_, "id -u; id -g; grep -E '^(CapPrm|CapBnd)' /proc/self/status", -1, null, pipes[1]);
    shell_.spec.uid = FIRST_ID;
    shell_.spec.forks = 1;
    CHECK(run(&shell_.spec, pipes[1], pipes[0], said, sizeof said) == 0, "%s", said);
    CHECK(strcmp(said, "1537212416\n1537212416\nCapPrm:\t0000000000000000\nCapBnd:\t0000000000000000\n") == 0, "%s", said);
    close(pipes[0]);
    close(null);
    check_nothing_left(before, "a program of another user's");
}

static void a_program_starts_with_signals_as_they_are_by_default(void)
{
    sigset_t some, before;

    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, &before);
    signal(SIGHUP, SIG_IGN);
    check_run("kill -TERM $$; echo alive", -1, -SIGTERM, "");
    check_run("kill -HUP $$; echo alive", -1, -SIGHUP, "");
    sigprocmask(SIG_SETMASK, NULL, &some);
    CHECK(sigismember(&some, SIGTERM) == 1 && sigismember(&some, SIGUSR1) == 0, "our own mask has changed");
    signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void check_not_spawned(const struct ll_spawn_spec *spec, int code, const char *phrase)
{
    struct residue before = residue();
    struct ll_process process = {-1, -1};
    struct ll_fault fault = {0};
    int outcome = ll_spawn(spec, &process, &fault);

    CHECK(outcome == -1, "a program was started although it cannot %s", phrase);
    CHECK(fault.code == code, "cannot %s: %s instead of %s", fault.verb, strerror(fault.code), strerror(code));
    CHECK(strcmp(fault.verb, phrase) == 0, "\"%s\" instead of \"%s\"", fault.verb, phrase);
    if (spec->nest < 0)
        check_nothing_left(before, phrase);
}

static void a_program_that_cannot_be_started_says_why_and_leaves_nothing(int nest)
{
    static int many[40];
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), bad[] = {null, 199, null};
    struct shell shell_;
    struct ll_spawn_spec *spec = shell(&shell_, "true", nest, null, null);

    spec->path = "/bin/no-such-program";
    check_not_spawned(spec, ENOENT, "execute /bin/no-such-program");
    spec->path = "/etc/passwd";
    check_not_spawned(spec, EACCES, "execute /etc/passwd");
    spec->path = "/bin/sh";
    spec->directory = "/no/such/directory";
    check_not_spawned(spec, ENOENT, "enter /no/such/directory");
    spec->directory = "/";
    spec->fds = many;
    spec->fd_count = 33;
    check_not_spawned(spec, E2BIG, "pass 33 descriptors");
    spec->fds = bad;
    spec->fd_count = 3;
    check_not_spawned(spec, EBADF, "move descriptor 199");
    spec->fds = shell_.fds;
    spec->placement = bad + 1;
    spec->placement_count = 1;
    check_not_spawned(spec, EBADF, "enter cgroup 1 of 1");
    spec->placement_count = 0;
    spec->nest = null; /* no pidfd */
    check_not_spawned(spec, EINVAL, own_user ? "join the nest's user and pid namespaces" : "join the nest's pid namespace");
    close(null);
}

static void a_program_in_a_nest_is_nobody_and_sees_what_it_was_given(void)
{
    struct residue before = residue();
    struct ll_nest_spec spec = nest_spec(working_plan());
    struct ll_process keeper = {-1, -1};
    struct ll_fault fault = {0};
    char expected[64];

    if (ll_nest_create(&spec, &keeper, &fault) < 0) {
        CHECK(0, "cannot %s: %s", fault.verb, strerror(fault.code));
        return;
    }
    snprintf(expected, sizeof expected, "%d\n%d\nsomebody\n", USER, USER);
    check_run("id -u; id -g; id -un", keeper.pidfd, 0, expected);
    check_run("ls /", keeper.pidfd, 0, "bin\ndev\netc\nlib\nlib64\nproc\nsbin\ntmp\nusr\nvar\n");
    check_run("tr -d '\\0' < /proc/1/cmdline", keeper.pidfd, 0, "lamplighter-keeper");
    check_run("echo x > /new || echo x > /usr/new || echo x > /tmp/new && cat /tmp/new 2>&1", keeper.pidfd, 0,
              "sh: 1: cannot create /new: Read-only file system\n"
              "sh: 1: cannot create /usr/new: Read-only file system\nx\n");
    check_run("grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status", keeper.pidfd, 0,
              "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n");
    a_program_that_cannot_be_started_says_why_and_leaves_nothing(keeper.pidfd);
    end_nest(&keeper);
    check_nothing_left(before, "a nest");
}

static void so_it_is_in_a_nest_of_the_hosts_own_user(void)
{
    own_user = 1;
    a_program_in_a_nest_is_nobody_and_sees_what_it_was_given();
    own_user = 0;
}

static void the_number_of_a_nests_pidfd_may_be_one_the_program_gets(void)
{
    struct residue before = residue();
    struct ll_nest_spec spec = nest_spec(working_plan());
    struct ll_process keeper = {-1, -1};
    struct ll_fault fault = {0};
    int saved = fcntl(0, F_DUPFD_CLOEXEC, 100);

    if (ll_nest_create(&spec, &keeper, &fault) < 0) {
        CHECK(0, "cannot %s: %s", fault.verb, strerror(fault.code));
        return;
    }
    dup2(keeper.pidfd, 0);
    check_run("id -u", 0, 0, "993\n");
    dup2(saved, 0);
    close(saved);
    end_nest(&keeper);
    check_nothing_left(before, "a nest whose pidfd was 0");
}

static void everything_in_a_nest_ends_with_its_host(void)
{
    struct residue before = residue();
    struct ll_nest_spec spec = nest_spec(working_plan());
    struct ll_process keeper = {-1, -1}, process = {-1, -1};
    struct ll_fault fault = {0};
    struct shell shell_;
    int ends[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC), status = 0;

    if (null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        abort();
    spec.lifeline_fd = ends[0];
    if (ll_nest_create(&spec, &keeper, &fault) < 0
        || ll_spawn(shell(&shell_, "exec sleep 1000", keeper.pidfd, null, null), &process, &fault) < 0) {
        CHECK(0, "cannot %s: %s", fault.verb, strerror(fault.code));
        return;
    }
    close(ends[1]); /* as the kernel does when the host is gone */
    CHECK(waitpid(process.pid, &status, 0) == process.pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
          "the program lives on: %d", status);
    CHECK(waitpid(keeper.pid, &status, 0) == keeper.pid && WIFEXITED(status), "the keeper lives on: %d", status);
    close(process.pidfd);
    close(keeper.pidfd);
    close(ends[0]);
    close(null);
    check_nothing_left(before, "the host's end");
}

/* Container engines have seccomp deny clone3, because it cannot see that call's flags. */
static void all_this_works_where_clone3_is_denied(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof rules / sizeof *rules, .filter = rules};
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        failures = 0;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
            _exit(99);
        CHECK(syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS, "clone3 is not denied");
        check_run("echo $GREETING", -1, 0, "hello\n");
        a_program_in_a_nest_is_nobody_and_sees_what_it_was_given();
        so_it_is_in_a_nest_of_the_hosts_own_user();
        a_step_that_cannot_be_taken_says_which_and_leaves_nothing();
        fflush(stdout);
        _exit(failures != 0);
    }
    waitpid(child, &status, 0);
    CHECK(status == 0, "%d", status);
}

/* --- disks --------------------------------------------------------------------------------------------------------- */

static void a_disk_lasts_as_long_as_its_mount_is_held(void)
{
    struct residue before = residue();
    struct ll_nest_spec spec;
    struct ll_process keeper = {-1, -1};
    struct ll_fault fault = {0};
    struct ll_disk disk = {-1, -1};
    struct plan *plan = working_plan();
    struct stat facts;
    int fd = open(image, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &facts) < 0)
        abort();
    if (facts.st_size == 0) {
        close(fd);
        return;
    }
    if (ll_disk_mount(fd, &disk, &fault) < 0) {
        CHECK(0, "cannot %s: %s", fault.verb, strerror(fault.code));
        close(fd);
        return;
    }
    close(fd);
    ll_disk_use_all(&disk);
    plan->count--; /* its tmpfs on /tmp */
    add(plan, LL_MOUNT, "", "/tmp");
    plan->steps[plan->count - 1].mount = disk.mount;
    spec = nest_spec(plan);
    CHECK(ll_nest_create(&spec, &keeper, &fault) == 0, "cannot %s: %s", fault.verb, strerror(fault.code));
    check_run("while read -r _ where kind _; do [ $where = /tmp ] && echo $kind; done < /proc/mounts; true", keeper.pidfd, 0,
              "ext4\n");
    CHECK(ll_disk_discard(disk.mount, &fault) == 0, "cannot %s: %s", fault.verb, strerror(fault.code));
    check_run("echo x 2> /dev/null > /tmp/new || echo failed", keeper.pidfd, 0, "failed\n");
    end_nest(&keeper);
    close(disk.mount);
    check_nothing_left(before, "a disk");
}

static void a_disk_that_cannot_be_had_says_why_and_leaves_nothing(void)
{
    struct residue before = residue();
    struct ll_fault fault = {0};
    struct ll_disk disk = {-1, -1};
    int fd = memfd_create("image", MFD_CLOEXEC);

    CHECK(ll_disk_mount(fd, &disk, &fault) == -1 && fault.code == EXDEV, "%s: %s", fault.verb, strerror(fault.code));
    CHECK(strstr(fault.verb, "memory itself"), "\"%s\"", fault.verb);
    close(fd);
    CHECK(ll_disk_mount(-1, &disk, &fault) == -1 && fault.code == EBADF, "%s: %s", fault.verb, strerror(fault.code));
    CHECK(ll_disk_discard(keeper_fd, &fault) == -1 && fault.code == ENOTDIR, "%s", fault.verb);
    CHECK(ll_loop_remove(1 << 19, &fault) == 0 || fault.code == ENOENT, "what is not there: %s", fault.verb);
    check_nothing_left(before, "disks that cannot be had");
}

/* --- networks, filters, rules ---------------------------------------------------------------------------------------- */

static void a_nest_without_a_network_has_a_loopback_and_its_workers_get_their_own(void)
{
    struct residue before = residue();
    struct ll_nest_spec spec = nest_spec(working_plan());
    struct ll_process keeper = {-1, -1};
    struct ll_fault fault = {0};
    struct stat ours, theirs;
    int fd;

    spec.own_network = 1;
    if (ll_nest_create(&spec, &keeper, &fault) < 0) {
        CHECK(0, "cannot %s: %s", fault.verb, strerror(fault.code));
        return;
    }
    fd = ll_network_create(keeper.pidfd, &fault);
    CHECK(fd >= 0, "cannot %s: %s", fault.verb, strerror(fault.code));
    CHECK(fstat(fd, &theirs) == 0 && stat("/proc/self/ns/net", &ours) == 0 && ours.st_ino != theirs.st_ino, "ours");
    close(fd);
    end_nest(&keeper);
    CHECK(ll_network_create(keeper_fd, &fault) == -1 && fault.code == EINVAL, "%s", strerror(fault.code));
    CHECK(strcmp(fault.verb, "join the nest's user namespace") == 0, "\"%s\"", fault.verb);
    check_nothing_left(before, "a nest without a network");
}

static int filtered_shell(int layers, const char *script, char *said, size_t size)
{
    struct shell shell_;
    struct ll_spawn_spec *spec;
    int pipes[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC), status;

    if (null < 0 || pipe2(pipes, O_CLOEXEC) < 0)
        abort();
    spec = shell(&shell_, script, -1, null, pipes[1]);
    spec->filter = layers;
    status = run(spec, pipes[1], pipes[0], said, size);
    close(pipes[0]);
    close(null);
    return status;
}

static void a_filtered_program_is_told_what_the_table_says(void)
{
    struct residue before = residue();
    struct ll_fault fault = {0};
    const struct ll_denied *calls;
    const int count = ll_denied_calls(&calls);
    char said[4096];

    CHECK(count > 40, "%d calls are denied", count);
    for (int i = 0; i < count; i++)
        CHECK(calls[i].name && calls[i].reason && (calls[i].code == EPERM || calls[i].code == ENOSYS), "row %d", i);
    for (int layers = 1; layers <= 3; layers++) {
        int status = filtered_shell(layers, "grep Seccomp: /proc/self/status; ls / | grep -c usr", said, sizeof said);

        CHECK(status == 0 && strcmp(said, "Seccomp:\t2\n1\n") == 0, "%d: %d %s", layers, status, said);
    }
    CHECK(filtered_shell(1, "unshare -m true 2>&1 | grep -c 'not permitted'", said, sizeof said) == 0, "%s", said);
    CHECK(ll_try(LL_TRY_FILTER, &fault) == 0, "cannot %s: %s", fault.verb, strerror(fault.code));
    check_nothing_left(before, "filters");
}

static void a_confined_program_opens_what_it_was_granted_and_nothing_else(void)
{
    struct residue before = residue();
    const struct ll_grant grants[] = {{"/usr", 0},   {"/bin", 0},       {"/lib", 0},         {"/lib64", 0},
                                      {"/proc", 0}, {"/dev/null", 1}, {"/nowhere/at/all", 0}, {staging, 1}};
    struct ll_fault fault = {0};
    struct shell shell_;
    struct ll_spawn_spec *spec;
    char script[PATH_MAX + 200], said[4096] = "";
    int pipes[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (ll_landlock_version() < 1) {
        CHECK(ll_try(LL_TRY_LANDLOCK, &fault) == -1 && strstr(fault.verb, "Landlock"), "\"%s\"", fault.verb);
        close(null);
        return;
    }
    if (null < 0 || pipe2(pipes, O_CLOEXEC) < 0)
        abort();
    snprintf(script, sizeof script,
             "cat /etc/passwd 2>&1 | grep -c denied; echo x 2> /dev/null > /usr/x || echo read-only; "
             "echo kept > %s/file; cat %s/file; rm %s/file",
             staging, staging, staging);
    spec = shell(&shell_, script, -1, null, pipes[1]);
    spec->grants = grants;
    spec->grant_count = sizeof grants / sizeof *grants;
    spec->scopes = LL_SCOPE_SOCKETS | LL_SCOPE_SIGNALS;
    spec->uid = 0; /* this one's own: the way to the granted directory is closed to others */
    CHECK(run(spec, pipes[1], pipes[0], said, sizeof said) == 0, "%s", said);
    CHECK(strcmp(said, "1\nread-only\nkept\n") == 0, "%s", said);
    close(pipes[0]);
    close(null);
    CHECK(ll_try(LL_TRY_LANDLOCK, &fault) == 0, "cannot %s: %s", fault.verb, strerror(fault.code));
    check_nothing_left(before, "rules");
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s KEEPER STAGING IMAGE\n", argv[0]);
        return 2;
    }
    staging = argv[2];
    image = argv[3];
    keeper_fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (keeper_fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lifeline) < 0) {
        perror(argv[1]);
        return 2;
    }
    a_step_that_cannot_be_taken_says_which_and_leaves_nothing();
    a_nest_that_cannot_be_made_says_why_and_leaves_nothing();
    a_program_gets_its_arguments_its_environment_and_its_descriptors_alone();
    a_program_without_a_nest_is_who_it_is_told_to_be();
    a_program_starts_with_signals_as_they_are_by_default();
    a_program_that_cannot_be_started_says_why_and_leaves_nothing(-1);
    a_program_in_a_nest_is_nobody_and_sees_what_it_was_given();
    so_it_is_in_a_nest_of_the_hosts_own_user();
    the_number_of_a_nests_pidfd_may_be_one_the_program_gets();
    everything_in_a_nest_ends_with_its_host();
    all_this_works_where_clone3_is_denied();
    a_disk_lasts_as_long_as_its_mount_is_held();
    a_disk_that_cannot_be_had_says_why_and_leaves_nothing();
    a_nest_without_a_network_has_a_loopback_and_its_workers_get_their_own();
    a_filtered_program_is_told_what_the_table_says();
    a_confined_program_opens_what_it_was_granted_and_nothing_else();
    printf("%d checks, %d failures\n", checks, failures);
    return failures != 0;
}
