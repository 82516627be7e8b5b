/*
 * One decode: the state that its parts share, and what each part does.
 *
 * A part that reads a value takes the place where it begins and returns the place after it, having pushed the value; or
 * NULL, having told the fault. Nothing is released on the way out of a fault: whatever was built lies on the stack of
 * values, and the decoder clears that once.
 */

#ifndef LAMPLIGHTER_READER_H
#define LAMPLIGHTER_READER_H

#include "dict.h"
#include "scan.h"

/* Deepest nesting, as orjson has it; json.loads stops near sys.getrecursionlimit(). The stack of the thread holds it. */
#define LL_DEEPEST 1024

struct ll_names;
struct ll_learner;
struct ll_place;

/*
 * struct ll_mark: a key of an object that may be learned.
 *
 *      0  bytes     what stands between the value before, or the brace, and its value: in the text, or in another shape
 *      8  place     of its value, borrowed; NULL while it has none
 *     16  size      of bytes
 */
struct ll_mark {
    const uint8_t *bytes;
    struct ll_place *place;
    size_t size;
};

/*
 * struct ll_reader: lives for one decode; the three buffers are the decoder's, lent.
 *
 *      0  start, end      the text; nothing before or behind it is read
 *     16  values          stack of finished values (and keys, in objects of no known shape) of everything that is open
 *     40  marks           stack of the marks of open objects that may be learned
 *     64  scratch         a string with escapes or beyond ASCII, while it is being read
 *     80  names           known keys, or NULL: another decode holds them
 *     88  learner         known shapes, or NULL likewise
 *      .  depth, refuse_constants, missed
 *      .  reason, at      the fault; no reason: a Python exception is set
 */
struct ll_reader {
    const uint8_t *start;
    const uint8_t *end;
    PyObject **values;
    size_t values_used;
    size_t values_room;
    struct ll_mark *marks;
    size_t marks_used;
    size_t marks_room;
    uint8_t *scratch;
    size_t scratch_room;
    struct ll_names *names;
    struct ll_learner *learner;
    unsigned depth;
    bool refuse_constants;
    bool missed;
    const char *reason;
    const uint8_t *at;
};

/* Tell a fault; returns NULL, for the caller to return. */
static inline const uint8_t *ll_fault(struct ll_reader *reader, const char *reason, const uint8_t *at)
{
    reader->reason = reason;
    reader->at = at;
    return NULL;
}

/* Room for so many more; -1 with an exception. */
int ll_reserve_values(struct ll_reader *reader, size_t more);
int ll_reserve_marks(struct ll_reader *reader, size_t more);

/* Push a new reference, which is taken over. */
static inline bool ll_push(struct ll_reader *reader, PyObject *value)
{
    if (UNLIKELY(reader->values_used == reader->values_room) && ll_reserve_values(reader, 1) < 0) {
        Py_DECREF(value);
        return false;
    }
    reader->values[reader->values_used++] = value;
    return true;
}

static inline const uint8_t *ll_skip_space(const uint8_t *at, const uint8_t *end)
{
    if (LIKELY(at < end && *at > ' '))
        return at;
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* value.c: any value, of which nothing is known if place is NULL; `at` is before the end. */
const uint8_t *ll_read_value(struct ll_reader *reader, const uint8_t *at, struct ll_place *place);

/* value.c: an object, from its brace or from a value on: of its keys the first `matched` are on the stack, as pairs from
 * `base` on, and their marks above the stack of marks; `containers` says whether one of their values is a container. */
const uint8_t *ll_read_object(struct ll_reader *reader, const uint8_t *at, struct ll_place *place, size_t base,
                              size_t matched, bool containers);

/* match.c: an object by the shapes its place knows; `at` is the place after the brace. */
const uint8_t *ll_match_object(struct ll_reader *reader, const uint8_t *at, struct ll_place *place);

/* text.c: a new string of ASCII alone; a string value, whose first special byte after the quote at `quote` is neither
 * the closing quote nor past the end; a reference to the string is returned in *text. */
PyObject *ll_ascii(const uint8_t *from, size_t size);
const uint8_t *ll_read_text(struct ll_reader *reader, const uint8_t *quote, const uint8_t *special, PyObject **text);

/* number.c: a number, or one of the constants JSON does not have. Of an integral part without a sign or a leading zero
 * the first `count` digits may have been read, eight or none. */
const uint8_t *ll_read_number(struct ll_reader *reader, const uint8_t *at, size_t count, uint64_t digits);

/* names.c: the key of these plain ASCII bytes: a new reference, its hash known. */
PyObject *ll_name(struct ll_names *names, const uint8_t *from, size_t size);

#endif
