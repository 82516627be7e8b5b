/*
 * A Lambda Runtime API server to measure runtime clients against: small, single-threaded, and in C, so that a figure is
 * the client's own time and little else.
 *
 *     runtime_api BODIES
 *
 * listens on a free port of loopback and writes "listening PORT". BODIES is a file of events (struct event_head, the
 * marker, the body, one after the other). Commands come by standard input, one a line; each has one answer:
 *
 *     parked N       when N connections wait in `next`:        parked NANOSECONDS   (CLOCK_MONOTONIC of that moment)
 *     serve N        hand out N events, to whoever waits:      served NANOSECONDS CYCLE CYCLE ...
 *     errors         how many errors were posted so far:       errors N
 *
 * A cycle is the time in nanoseconds from the moment before an event is written to a connection to the moment at which
 * its next `next` has been read: all that one invocation costs the client, and its round trips. End of file ends it.
 *
 * HTTP as far as runtime clients go: keep-alive, bodies with Content-Length, requests one behind the other answered in
 * their order, each by a write of its own (as Go's server, which AWS's is, does it). Whatever else comes, or an answer
 * that does not hold the marker of its event, ends the program with a message and status 1: a figure must not come from
 * a client that does less than it should.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 4096
#define BATCH 64
#define ID "%08x-0000-4000-8000-%012llx"
#define ID_LENGTH 36

/* One event in the file of bodies: this head, `marker` bytes that every answer to it must hold, `body` bytes of JSON. */
struct event_head {
    uint32_t marker, body;
};

struct event {
    const char *marker, *body;
    struct event_head size;
};

/* One client connection, indexed by its descriptor. `data` holds what came and is not a whole request yet. */
struct connection {
    char *data;
    size_t have, room;
    bool waiting;              /* in `next`, with no event yet */
    const struct event *event; /* handed out and not answered */
    uint64_t handed, number;   /* when, and the number its id is made of */
    bool timed;                /* a cycle is under way */
};

static struct connection connections[CONNECTIONS];
static int queue[CONNECTIONS]; /* those waiting, first in first out: a ring */
static unsigned queue_head, queue_length;

static struct event *events;
static size_t event_count;

static uint64_t handed_out, errors_posted;
static uint64_t want_parked, to_serve, cycles_wanted, cycle_count, began;
static uint64_t *cycles;

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("runtime_api: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void load(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) < 0)
        die("open %s: %s", path, strerror(errno));
    const char *at = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED)
        die("map %s: %s", path, strerror(errno));
    const char *end = at + facts.st_size;
    while (at < end) {
        struct event one;
        if ((size_t)(end - at) < sizeof one.size)
            die("%s: cut off", path);
        memcpy(&one.size, at, sizeof one.size);
        one.marker = at + sizeof one.size;
        one.body = one.marker + one.size.marker;
        if ((size_t)(end - one.marker) < (size_t)one.size.marker + one.size.body)
            die("%s: cut off", path);
        at = one.body + one.size.body;
        events = realloc(events, (event_count + 1) * sizeof *events);
        if (!events)
            die("out of memory");
        events[event_count++] = one;
    }
    if (!event_count)
        die("%s holds no event", path);
}

/* Write all of two pieces; the client reads what it is sent, so waiting for it cannot last. */
static void write_all(int fd, const char *head, size_t head_length, const char *body, size_t body_length) {
    struct iovec parts[2] = {{(void *)head, head_length}, {(void *)body, body_length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    while (parts[0].iov_len + parts[1].iov_len) {
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EPIPE || errno == ECONNRESET)
                return; /* the end of file that follows is dealt with where it is read */
            die("send: %s", strerror(errno));
        }
        for (int i = 0; i < 2; i++) {
            size_t taken = (size_t)sent < parts[i].iov_len ? (size_t)sent : parts[i].iov_len;
            parts[i].iov_base = (char *)parts[i].iov_base + taken;
            parts[i].iov_len -= taken;
            sent -= (ssize_t)taken;
        }
    }
}

static void hand_out(int fd) {
    struct connection *one = &connections[fd];
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    one->waiting = false;
    one->number = ++handed_out;
    one->event = &events[(handed_out * 7919) % event_count];
    char head[768];
    int length = snprintf(
        head, sizeof head,
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/json\r\n"
        "Lambda-Runtime-Aws-Request-Id: " ID "\r\n"
        "Lambda-Runtime-Deadline-Ms: %lld\r\n"
        "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:012345678912:function:function\r\n"
        "Lambda-Runtime-Trace-Id: Root=1-%08llx-%024llx;Parent=%016llx;Sampled=0\r\n"
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        "Content-Length: %u\r\n\r\n",
        (unsigned)(one->number * 2654435761u), (unsigned long long)one->number,
        (long long)wall.tv_sec * 1000 + wall.tv_nsec / 1000000 + 30000, (unsigned long long)wall.tv_sec,
        (unsigned long long)one->number * 1099511628211u, (unsigned long long)one->number, one->event->size.body);
    one->timed = true;
    one->handed = now();
    write_all(fd, head, (size_t)length, one->event->body, one->event->size.body);
}

static void give_to_those_waiting(void) {
    while (to_serve && queue_length) {
        int fd = queue[queue_head];
        queue_head = (queue_head + 1) % CONNECTIONS;
        queue_length--;
        to_serve--;
        hand_out(fd);
    }
}

static void forget(int fd) {
    unsigned kept = 0;
    for (unsigned i = 0; i < queue_length; i++) {
        int other = queue[(queue_head + i) % CONNECTIONS];
        if (other != fd)
            queue[(queue_head + kept++) % CONNECTIONS] = other;
    }
    queue_length = kept;
}

static void answer_parked(void) {
    if (want_parked && queue_length >= want_parked) {
        printf("parked %llu\n", (unsigned long long)now());
        fflush(stdout);
        want_parked = 0;
    }
}

static void on_next(int fd) {
    struct connection *one = &connections[fd];
    if (one->event)
        die("a client asked for the next event and had not answered the last");
    if (one->waiting)
        die("a request came behind one that still waits for its event");
    if (one->timed) {
        one->timed = false;
        if (cycle_count < cycles_wanted)
            cycles[cycle_count++] = now() - one->handed;
        if (cycles_wanted && cycle_count == cycles_wanted) {
            printf("served %llu", (unsigned long long)(now() - began));
            for (uint64_t i = 0; i < cycle_count; i++)
                printf(" %llu", (unsigned long long)cycles[i]);
            putchar('\n');
            fflush(stdout);
            cycles_wanted = 0;
        }
    }
    one->waiting = true;
    queue[(queue_head + queue_length++) % CONNECTIONS] = fd;
    answer_parked();
    give_to_those_waiting();
}

static void accept_answer(int fd) {
    static const char accepted[] = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n";
    write_all(fd, accepted, sizeof accepted - 1, "{\"status\":\"OK\"}\n", 16);
}

/* Go's server answers this by itself, for every program: that it is there, and no more. */
static void answer_options(int fd) {
    static const char there[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    write_all(fd, there, sizeof there - 1, "", 0);
}

static void on_request(int fd, char *head, const char *body, size_t length) {
    static const char next[] = "GET /2018-06-01/runtime/invocation/next ";
    static const char invocation[] = "POST /2018-06-01/runtime/invocation/";
    static const char init[] = "POST /2018-06-01/runtime/init/error ";
    struct connection *one = &connections[fd];
    if (!strncmp(head, next, sizeof next - 1)) {
        on_next(fd);
        return;
    }
    if (!strncmp(head, "OPTIONS * ", 10)) {
        answer_options(fd);
        return;
    }
    if (!strncmp(head, init, sizeof init - 1))
        die("init failed: %.*s", (int)length, body);
    if (strncmp(head, invocation, sizeof invocation - 1))
        die("an unknown request: %.80s", head);
    char id[ID_LENGTH + 1], *given = head + sizeof invocation - 1;
    snprintf(id, sizeof id, ID, (unsigned)(one->number * 2654435761u), (unsigned long long)one->number);
    if (!one->event || strncmp(given, id, ID_LENGTH))
        die("an answer to %.*s, which this connection was not given", ID_LENGTH, given);
    if (!strncmp(given + ID_LENGTH, "/error ", 7))
        errors_posted++;
    else if (strncmp(given + ID_LENGTH, "/response ", 10))
        die("an unknown request: %.80s", head);
    else if (!memmem(body, length, one->event->marker, one->event->size.marker))
        die("an answer does not hold its event's marker: %.*s", (int)(length > 300 ? 300 : length), body);
    one->event = NULL;
    accept_answer(fd);
}

static size_t content_length(char *head) {
    for (char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15))
            return strtoul(line + 15, NULL, 10);
        if (!strncasecmp(line, "transfer-encoding:", 18))
            die("a request with Transfer-Encoding, which this server does not know");
    }
    return 0;
}

/* Take every whole request off the front of what came. */
static void take_requests(int fd) {
    struct connection *one = &connections[fd];
    size_t at = 0;
    while (at < one->have) {
        char *head = one->data + at;
        char *end = memmem(head, one->have - at, "\r\n\r\n", 4);
        if (!end)
            break;
        char kept = end[2];
        end[2] = 0; /* the head is a string for as long as it is looked at */
        size_t length = content_length(head), whole = (size_t)(end + 4 - head) + length;
        if (one->have - at >= whole)
            on_request(fd, head, end + 4, length);
        end[2] = kept;
        if (one->have - at < whole)
            break;
        at += whole;
    }
    memmove(one->data, one->data + at, one->have - at);
    one->have -= at;
}

static void on_readable(int fd) {
    struct connection *one = &connections[fd];
    if (one->room - one->have < 65536) {
        one->room = one->room ? one->room * 2 : 262144;
        one->data = realloc(one->data, one->room);
        if (!one->data)
            die("out of memory");
    }
    ssize_t got = recv(fd, one->data + one->have, one->room - one->have, 0);
    if (got > 0) {
        one->have += (size_t)got;
        take_requests(fd);
    } else if (got == 0 || errno == ECONNRESET) {
        forget(fd);
        close(fd);
        free(one->data);
        memset(one, 0, sizeof *one);
    } else if (errno != EINTR) {
        die("receive: %s", strerror(errno));
    }
}

static void obey(char *line) {
    unsigned long long number = 0;
    if (sscanf(line, "parked %llu", &number) == 1 && number) {
        want_parked = number;
        answer_parked();
    } else if (sscanf(line, "serve %llu", &number) == 1 && number) {
        free(cycles);
        cycles = calloc(number, sizeof *cycles);
        if (!cycles)
            die("out of memory");
        for (int fd = 0; fd < CONNECTIONS; fd++)
            connections[fd].timed = false;
        to_serve = cycles_wanted = number;
        cycle_count = 0;
        began = now();
        give_to_those_waiting();
    } else if (!strcmp(line, "errors")) {
        printf("errors %llu\n", (unsigned long long)errors_posted);
        fflush(stdout);
    } else {
        die("an unknown command: %s", line);
    }
}

static void on_command(void) {
    static char text[4096];
    static size_t have;
    ssize_t got = read(0, text + have, sizeof text - 1 - have);
    if (got <= 0)
        exit(0);
    have += (size_t)got;
    for (char *end; (end = memchr(text, '\n', have));) {
        *end = 0;
        obey(text);
        size_t taken = (size_t)(end + 1 - text);
        memmove(text, end + 1, have - taken);
        have -= taken;
    }
    if (have == sizeof text - 1)
        die("a command without an end");
}

static void watch(int poll, int fd) {
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &interest) < 0)
        die("watch descriptor %d: %s", fd, strerror(errno));
}

int main(int count, char **arguments) {
    if (count != 2)
        die("usage: runtime_api BODIES");
    load(arguments[1]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), poll = epoll_create1(EPOLL_CLOEXEC), yes = 1;
    if (listening < 0 || poll < 0 || bind(listening, (struct sockaddr *)&address, size) < 0 ||
        listen(listening, 1024) < 0 || getsockname(listening, (struct sockaddr *)&address, &size) < 0)
        die("listen: %s", strerror(errno));
    watch(poll, listening);
    watch(poll, 0);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[BATCH];
        int n = epoll_wait(poll, ready, BATCH, -1);
        if (n < 0 && errno != EINTR)
            die("wait: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == 0) {
                on_command();
            } else if (fd != listening) {
                on_readable(fd);
            } else if ((fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                if (fd >= CONNECTIONS)
                    die("more than %d descriptors", CONNECTIONS);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                watch(poll, fd);
            }
        }
    }
}
