/*
 * The inside of a CPython dict with string keys, 3.11 to 3.14: what Include/internal/pycore_dict.h declares, mirrored.
 *
 * The internal headers themselves are not included: they want Py_BUILD_CORE, pull in the whole runtime's structures, and
 * are not installed everywhere. A mirror can be wrong, so nothing believes this file until proof.c has compared it with
 * dicts the interpreter built, by reading, and then built dicts by it and used them in every way.
 *
 * LL_LAYOUT_FAULT makes it wrong on purpose, in one of the ways a new Python might: for the tests of that proof.
 */

#ifndef LAMPLIGHTER_LAYOUT_H
#define LAMPLIGHTER_LAYOUT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>

#ifndef LL_LAYOUT_FAULT
#define LL_LAYOUT_FAULT 0
#endif

#ifndef LL_LAYOUT_KNOWN
/* Debug builds count references in a total, free-threaded ones need the dict's lock and other table lifetimes. */
#if PY_VERSION_HEX >= 0x030b0000 && PY_VERSION_HEX < 0x030f0000 && !defined(Py_GIL_DISABLED) && !defined(Py_DEBUG) && \
    !defined(Py_REF_DEBUG) && !defined(Py_TRACE_REFS) && !defined(PYPY_VERSION) && SIZEOF_VOID_P == 8
#define LL_LAYOUT_KNOWN 1
#else
#define LL_LAYOUT_KNOWN 0
#endif
#endif

/*
 * struct _dictkeysobject
 *
 *      0  dk_refcnt             1: a table that is not shared
 *      8  dk_log2_size          3 or more: the index has 1 << dk_log2_size slots
 *      9  dk_log2_index_bytes   the index has 1 << dk_log2_index_bytes bytes
 *     10  dk_kind               1: every key is an exact str, entries have two words
 *     12  dk_version            0: no inline cache knows this table
 *     16  dk_usable             entries still free
 *     24  dk_nentries           entries in use
 *     32  dk_indices            slots of 1, 2 or 4 bytes: an entry's number, or -1
 *      .  entries               two thirds as many as slots, in order of insertion
 */
struct ll_keys {
    Py_ssize_t refcnt;
#if LL_LAYOUT_FAULT == 1
    Py_ssize_t something_new;
#endif
    uint8_t log2_size;
    uint8_t log2_index_bytes;
    uint8_t kind;
    uint32_t version;
#if LL_LAYOUT_FAULT == 2
    Py_ssize_t nentries;
    Py_ssize_t usable;
#else
    Py_ssize_t usable;
    Py_ssize_t nentries;
#endif
    char indices[];
};

/*
 * PyDictUnicodeEntry
 *
 *      0  me_key                a str that knows its hash
 *      8  me_value
 */
struct ll_entry {
#if LL_LAYOUT_FAULT == 3
    PyObject *value;
    PyObject *key;
#elif LL_LAYOUT_FAULT == 4
    Py_hash_t hash;
    PyObject *key;
    PyObject *value;
#else
    PyObject *key;
    PyObject *value;
#endif
};

#define LL_KIND_UNICODE (LL_LAYOUT_FAULT == 5 ? 2 : 1)
#define LL_LOG2_SMALLEST 3
#define LL_PERTURB_SHIFT (LL_LAYOUT_FAULT == 6 ? 4 : 5)

/* USABLE_FRACTION */
static inline size_t ll_usable(unsigned log2_size)
{
#if LL_LAYOUT_FAULT == 7
    return ((size_t)3 << log2_size) / 4;
#else
    return ((size_t)2 << log2_size) / 3;
#endif
}

static inline unsigned ll_log2_size(size_t count)
{
    unsigned log2_size = LL_LOG2_SMALLEST;

    while (ll_usable(log2_size) < count)
        log2_size++;
    return log2_size;
}

static inline unsigned ll_log2_index_bytes(unsigned log2_size)
{
#if LL_LAYOUT_FAULT == 8
    return log2_size + (log2_size >= 7) + (log2_size >= 16);
#else
    return log2_size + (log2_size >= 8) + (log2_size >= 16);
#endif
}

static inline size_t ll_entries_offset(unsigned log2_size)
{
    return offsetof(struct ll_keys, indices) + ((size_t)1 << ll_log2_index_bytes(log2_size));
}

static inline size_t ll_keys_size(unsigned log2_size)
{
    return ll_entries_offset(log2_size) + ll_usable(log2_size) * sizeof(struct ll_entry);
}

static inline struct ll_entry *ll_entries(struct ll_keys *keys)
{
    return (struct ll_entry *)(keys->indices + ((size_t)1 << keys->log2_index_bytes));
}

static inline int64_t ll_index_get(const struct ll_keys *keys, size_t slot)
{
    if (keys->log2_size < 8)
        return ((const int8_t *)keys->indices)[slot];
    if (keys->log2_size < 16)
        return ((const int16_t *)keys->indices)[slot];
    return ((const int32_t *)keys->indices)[slot];
}

static inline void ll_index_set(struct ll_keys *keys, size_t slot, size_t entry)
{
    if (keys->log2_size < 8)
        ((int8_t *)keys->indices)[slot] = (int8_t)entry;
    else if (keys->log2_size < 16)
        ((int16_t *)keys->indices)[slot] = (int16_t)entry;
    else
        ((int32_t *)keys->indices)[slot] = (int32_t)entry;
}

/* Key tables come from the allocator that dictobject.c frees them to: a key table of the smallest size may end in its
 * free list, any other in that allocator. */
#if PY_VERSION_HEX >= 0x030d0000
#define LL_KEYS_MALLOC PyMem_Malloc
#define LL_KEYS_FREE PyMem_Free
#else
#define LL_KEYS_MALLOC PyObject_Malloc
#define LL_KEYS_FREE PyObject_Free
#endif

#endif
