/*
 * Dicts, built whole: from pairs, or from the image of an earlier dict's key table and new values.
 *
 * Where this interpreter's dict layout is one we know, and has been proven at import (proof.c), the key table is
 * written directly. Everywhere else the same functions use what CPython's API offers, and only the speed differs.
 */

#ifndef LAMPLIGHTER_DICT_H
#define LAMPLIGHTER_DICT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "scan.h"

/*
 * The key table of a dict, without its values.
 *
 *     +--------+------+----------------+---------------------------------------------+
 *     | count  | size | entries        | table[size]                                 |
 *     +--------+------+----------------+---------------------------------------------+
 *
 * With the direct layout, table is the key table of a dict as CPython has it (layout.h), `size` bytes, its values NULL,
 * and its entries begin `entries` bytes into it. Without it, table is `count` pointers to keys. Either way the image
 * owns a reference to each key.
 */
struct ll_image {
    uint32_t count;
    uint32_t size;
    uint32_t entries;
    _Alignas(16) char table[];
};

/* Whether dicts are built directly: set by ll_prove_layout. */
extern bool ll_direct;

/* A new dict of `count` keys and values, which take turns in `pairs`; all their references are taken over, on failure
 * too. Of equal keys the first gives the place and the last the value. Keys are exact strings whose hash is known.
 * `containers` says whether any value is a dict or list. NULL with an exception on failure. */
PyObject *ll_dict_of_pairs(PyObject **pairs, size_t count, bool containers);

/* A new dict with the image's keys and these values, whose references are taken over, on failure too. */
PyObject *ll_dict_of_image(const struct ll_image *image, PyObject **values, bool containers);

/* How large the image of a dict with so many keys is; the image of these keys, all different, at `image`. */
size_t ll_image_size(size_t count);
int ll_image_make(struct ll_image *image, PyObject *const *keys, size_t count);
void ll_image_clear(struct ll_image *image);

/* Prove the layout, and set ll_direct by what is found. Returns 0, or -1 with an exception if memory is short. What is
 * said of it is "direct", or why not. */
int ll_prove_layout(void);
extern const char *ll_layout_verdict;

#endif
