/*
 * Where the encoder writes, and what writes there.
 *
 *     struct ll_out                                      at the end
 *     +------------------+                               of a long text
 *     | end              | -> first byte past the room   ->  bytes object
 *     | start            | -> first byte of the text     ->  its contents
 *     | bytes            |    NULL while text fits first     owned
 *     | decimal          |    type Decimal, once asked
 *     | third            |    DEL where it is escaped, '"' where not
 *     | first[2048]      | <- a short text: copied once, into a bytes object of its size
 *     +------------------+
 *
 * The place to write at is not in here: it is handed from function to function, in a register. Each returns the place
 * after what it wrote with LL_SLACK bytes of room behind, and the next may have had three of them taken for brackets
 * and separators. So whatever is short is written without asking. NULL means that nothing can come of this text: with an exception set, or, without
 * one, because the value is not among those that are written here.
 */

#ifndef LAMPLIGHTER_ENCODER_H
#define LAMPLIGHTER_ENCODER_H

#include <stdint.h>
#include <string.h>

#include "events.h"

/* More than the longest thing written unasked: a number of 25 bytes, copied in steps of 8, and what stands around it. */
#define LL_SLACK 64

struct ll_out {
    char *end;
    char *start;
    PyObject *bytes;
    PyTypeObject *decimal;
    unsigned char third;
    char first[2048];
};

/* Make room for `need` bytes and LL_SLACK more. Returns where `at` lies now; NULL with an exception when memory is out. */
char *ll_grow(struct ll_out *out, char *at, Py_ssize_t need);

static inline char *ll_room(struct ll_out *out, char *at, Py_ssize_t need)
{
    return out->end - at >= need + LL_SLACK ? at : ll_grow(out, at, need);
}

static inline int ll_is_ascii_only(const struct ll_out *out)
{
    return out->third != '"';
}

char *ll_write_text(struct ll_out *out, char *at, PyObject *text); /* encoder_text.c: an exact str, in quotes */
char *ll_write_double(char *at, double value);                     /* encoder_numbers.c: as repr() writes it */
char *ll_write_int64(char *at, int64_t value);                     /* encoder_numbers.c */

#endif
