/* Faults, built where they happen; and the scope cleanups that keep functions free of goto ladders. */

#ifndef LAMPLIGHTER_FAULT_H
#define LAMPLIGHTER_FAULT_H

#include "sandbox.h"

#include <errno.h>
#include <unistd.h>

#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Fill *fault with errno and the verb phrase; returns -1, so that a caller can return it. Async-signal-safe enough for
 * the child of a multi-threaded process: vsnprintf with integers and strings does not allocate. */
__attribute__((format(printf, 2, 3))) int ll_fail(struct ll_fault *fault, const char *format, ...);

static inline void ll_close_scope(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}
#define SCOPED_FD __attribute__((cleanup(ll_close_scope))) int

#endif
