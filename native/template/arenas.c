/*
 * Arenas side by side.
 *
 * Python's allocator maps its arenas, of 1 MiB each, one by one, and the kernel puts them wherever there is room: between
 * libraries, at no multiple of anything. Memory that is to become huge pages has to lie together, and to start where a
 * huge page may. So an address range is reserved at the start, of which arenas are cut one after the other. Reserving
 * costs no memory, and counts as none: it cannot be written to before it is used.
 */

#include "template.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

#ifdef Py_GIL_DISABLED
PyObject *ll_gather_arenas(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    Py_RETURN_FALSE; /* its allocator is another one */
}
#else

enum {
    ARENA = 1 << 20,     /* CPython's, since 3.10 on 64-bit machines */
    HUGE_PAGE = 2 << 20, /* where pages are of 4 KiB */
    MOST = 10240,        /* arenas: as many as the most memory that a function may have, 10,240 MB */
    RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
};

static struct {
    char *start;
    int used; /* arenas ever cut */
    int freed_count;
    uint16_t freed[MOST];
    PyObjectArenaAllocator before;
} range;

static void *take(void *context, size_t size)
{
    (void)context;
    if (size == ARENA && (range.freed_count || range.used < MOST)) {
        const int number = range.freed_count ? range.freed[range.freed_count - 1] : range.used;
        char *arena = range.start + (size_t)number * ARENA;
        if (mprotect(arena, ARENA, PROT_READ | PROT_WRITE) == 0) {
            if (range.freed_count)
                range.freed_count--;
            else
                range.used++;
            return arena;
        }
    }
    return range.before.alloc(range.before.ctx, size);
}

static void give_back(void *context, void *arena, size_t size)
{
    (void)context;
    const uintptr_t offset = (uintptr_t)arena - (uintptr_t)range.start;
    if (offset >= (uintptr_t)MOST * ARENA) {
        range.before.free(range.before.ctx, arena, size);
        return;
    }
    /* As it was before: memory that may be written to counts, even if it is not there (RLIMIT_DATA, overcommit). */
    if (mmap(arena, size, PROT_NONE, RESERVED | MAP_FIXED, -1, 0) == MAP_FAILED)
        madvise(arena, size, MADV_DONTNEED);
    range.freed[range.freed_count++] = (uint16_t)(offset / ARENA);
}

PyObject *ll_gather_arenas(PyObject *module, PyObject *none)
{
    const size_t size = (size_t)MOST * ARENA;
    struct rlimit limit;

    (void)module, (void)none;
    if (range.start)
        Py_RETURN_TRUE;
    if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur != RLIM_INFINITY)
        Py_RETURN_FALSE; /* the function needs it all */
    char *reserved = mmap(NULL, size + HUGE_PAGE, PROT_NONE, RESERVED, -1, 0);
    if (reserved == MAP_FAILED)
        Py_RETURN_FALSE;
    range.start = (char *)(((uintptr_t)reserved + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    PyObject_GetArenaAllocator(&range.before);
    PyObject_SetArenaAllocator(&(PyObjectArenaAllocator){NULL, take, give_back});
    Py_RETURN_TRUE;
}
#endif
