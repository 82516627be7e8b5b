/* The keys that objects have had: one string for each, so that neither it nor its hash is made again. */

#ifndef LAMPLIGHTER_NAMES_H
#define LAMPLIGHTER_NAMES_H

#include "dict.h"

#define LL_NAMES 1024
#define LL_LONGEST_NAME 64

/*
 * struct ll_names: a cache without chains; a key that comes to another's slot takes it.
 *
 *      0  slot[1024]    owned strings of ASCII, 1 to 64 characters, their hashes known; or NULL
 *   8192  bytes         what the strings take, at most 1024 * (64 and a string's head)
 */
struct ll_names {
    PyObject *slot[LL_NAMES];
    size_t bytes;
};

/* Let the cache give this string from now on for its characters. */
void ll_names_put(struct ll_names *names, PyObject *name);
void ll_names_clear(struct ll_names *names);

#endif
