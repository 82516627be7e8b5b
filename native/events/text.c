/*
 * Strings.
 *
 * One of plain ASCII is copied as it is. Any other is read into the scratch buffer as UTF-8, in which a lone surrogate
 * that was escaped takes the three bytes UTF-8 would give it; so what lies there is sound by construction, never longer
 * than its source, and its characters can be counted and widened without a further check.
 */

#include "reader.h"

/* PyUnicode_New and a memcpy, without the calls: most of what a decode allocates is this. Bound to this interpreter by
 * the public struct alone; debug and free-threaded builds keep more in an object's head, and take the public way. */
#if PY_VERSION_HEX < 0x030f0000 && !defined(Py_GIL_DISABLED) && !defined(Py_DEBUG) && !defined(Py_REF_DEBUG) && \
    !defined(Py_TRACE_REFS) && !defined(PYPY_VERSION)
#define DIRECT_ASCII 1
#else
#define DIRECT_ASCII 0
#endif

PyObject *ll_ascii(const uint8_t *from, size_t size)
{
    if (size <= 1) /* the interpreter shares these */
        return size ? PyUnicode_FromOrdinal(*from) : PyUnicode_New(0, 0);
#if DIRECT_ASCII
    PyASCIIObject *text = PyObject_Malloc(sizeof *text + size + 1);

    if (UNLIKELY(!text))
        return PyErr_NoMemory();
    memset(text, 0, sizeof *text);
    ((PyObject *)text)->ob_refcnt = 1;
    ((PyObject *)text)->ob_type = &PyUnicode_Type;
    text->length = (Py_ssize_t)size;
    text->hash = -1;
    text->state.kind = PyUnicode_1BYTE_KIND;
    text->state.compact = 1;
    text->state.ascii = 1;
#if PY_VERSION_HEX < 0x030c0000
    text->state.ready = 1;
#endif
    ll_copy(text + 1, from, size);
    ((char *)(text + 1))[size] = 0;
    return (PyObject *)text;
#else
    PyObject *text = PyUnicode_New((Py_ssize_t)size, 127);

    if (text)
        memcpy(PyUnicode_DATA(text), from, size);
    return text;
#endif
}

/* The code point of the sound sequence at `at`, which is moved past it. */
static inline Py_UCS4 next_character(const uint8_t **at)
{
    const uint8_t *from = *at;

    if (from[0] < 0x80) {
        *at += 1;
        return from[0];
    }
    if (from[0] < 0xe0) {
        *at += 2;
        return (Py_UCS4)(from[0] & 0x1f) << 6 | (from[1] & 0x3f);
    }
    if (from[0] < 0xf0) {
        *at += 3;
        return (Py_UCS4)(from[0] & 0x0f) << 12 | (Py_UCS4)(from[1] & 0x3f) << 6 | (from[2] & 0x3f);
    }
    *at += 4;
    return (Py_UCS4)(from[0] & 0x07) << 18 | (Py_UCS4)(from[1] & 0x3f) << 12 | (Py_UCS4)(from[2] & 0x3f) << 6 |
           (from[3] & 0x3f);
}

/* The string of `count` characters, the greatest of about `greatest`, that lies at [from, end) in sound UTF-8. */
static PyObject *widen(const uint8_t *from, const uint8_t *end, size_t count, Py_UCS4 greatest)
{
    PyObject *text = PyUnicode_New((Py_ssize_t)count, greatest);
    size_t at = 0;

    if (UNLIKELY(!text))
        return NULL;
    if (greatest < 0x100) {
        Py_UCS1 *to = PyUnicode_1BYTE_DATA(text);
        while (from < end)
            to[at++] = (Py_UCS1)next_character(&from);
    } else if (greatest < 0x10000) {
        Py_UCS2 *to = PyUnicode_2BYTE_DATA(text);
        while (from < end)
            to[at++] = (Py_UCS2)next_character(&from);
    } else {
        Py_UCS4 *to = PyUnicode_4BYTE_DATA(text);
        while (from < end)
            to[at++] = next_character(&from);
    }
    if (count == 1) { /* of Latin-1's characters the interpreter has one string each */
        PyObject *one = PyUnicode_FromOrdinal((int)PyUnicode_READ_CHAR(text, 0));

        Py_DECREF(text);
        return one;
    }
    return text;
}

/* The length of the UTF-8 sequence at `at`, which begins with a byte from 0x80 on; 0 if it is not sound. No overlong
 * form, no surrogate, nothing beyond U+10FFFF (Unicode 15, table 3-7). */
static size_t sequence(const uint8_t *at, const uint8_t *end)
{
    const size_t left = (size_t)(end - at);
    const uint8_t lead = at[0];

    if (lead < 0xc2 || lead > 0xf4 || left < 2)
        return 0;
    if (lead < 0xe0)
        return (at[1] & 0xc0) == 0x80 ? 2 : 0;
    if (lead < 0xf0) {
        const uint8_t least = lead == 0xe0 ? 0xa0 : 0x80, most = lead == 0xed ? 0x9f : 0xbf;

        return left >= 3 && at[1] >= least && at[1] <= most && (at[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    const uint8_t least = lead == 0xf0 ? 0x90 : 0x80, most = lead == 0xf4 ? 0x8f : 0xbf;

    return left >= 4 && at[1] >= least && at[1] <= most && (at[2] & 0xc0) == 0x80 && (at[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* Four hexadecimal digits, or -1. */
static int32_t four_digits(const uint8_t *at, const uint8_t *end)
{
    int32_t value = 0;

    if (end - at < 4)
        return -1;
    for (int digit = 0; digit < 4; digit++) {
        const uint8_t byte = at[digit], letter = byte | 0x20;

        if (byte >= '0' && byte <= '9')
            value = value << 4 | (byte - '0');
        else if (letter >= 'a' && letter <= 'f')
            value = value << 4 | (letter - 'a' + 10);
        else
            return -1;
    }
    return value;
}

static uint8_t *put_character(uint8_t *to, Py_UCS4 character)
{
    if (character < 0x80) {
        *to++ = (uint8_t)character;
    } else if (character < 0x800) {
        *to++ = (uint8_t)(0xc0 | character >> 6);
        *to++ = (uint8_t)(0x80 | (character & 0x3f));
    } else if (character < 0x10000) {
        *to++ = (uint8_t)(0xe0 | character >> 12);
        *to++ = (uint8_t)(0x80 | (character >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (character & 0x3f));
    } else {
        *to++ = (uint8_t)(0xf0 | character >> 18);
        *to++ = (uint8_t)(0x80 | (character >> 12 & 0x3f));
        *to++ = (uint8_t)(0x80 | (character >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (character & 0x3f));
    }
    return to;
}

/* The character of the \u escape at `at`, with the second half of a pair if one follows: the place after it. */
static const uint8_t *unicode_escape(struct ll_reader *reader, const uint8_t *at, Py_UCS4 *character)
{
    int32_t first = four_digits(at + 2, reader->end), second;

    if (first < 0)
        return ll_fault(reader, "Invalid \\uXXXX escape", at);
    at += 6;
    if (first >= 0xd800 && first < 0xdc00 && reader->end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        second = four_digits(at + 2, reader->end);
        if (second >= 0xdc00 && second < 0xe000) {
            *character = 0x10000 + ((Py_UCS4)(first - 0xd800) << 10) + (Py_UCS4)(second - 0xdc00);
            return at + 6;
        }
    }
    *character = (Py_UCS4)first;
    return at;
}

/* What a backslash and this byte mean; 0: nothing. */
static const uint8_t escapes[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

/* Room for the rest of the text, once a decode; a block more, because copying goes by blocks. */
static int grow_scratch(struct ll_reader *reader, size_t need)
{
    uint8_t *larger;

    if (LIKELY(need <= reader->scratch_room))
        return 0;
    larger = PyMem_Malloc(need);
    if (!larger) {
        PyErr_NoMemory();
        return -1;
    }
    PyMem_Free(reader->scratch);
    reader->scratch = larger;
    reader->scratch_room = need;
    return 0;
}

const uint8_t *ll_read_text(struct ll_reader *reader, const uint8_t *quote, const uint8_t *special, PyObject **text)
{
    const uint8_t *at = quote + 1, *end = reader->end;
    Py_UCS4 greatest = 0x7f, character;
    size_t trailing = 0, size;
    uint8_t *to;

    if (grow_scratch(reader, (size_t)(end - at) + 2 * 16) < 0)
        return NULL;
    to = reader->scratch;
    for (;;) {
        ll_copy(to, at, (size_t)(special - at));
        to += special - at;
        at = special;
        if (UNLIKELY(at == end))
            return ll_fault(reader, "Unterminated string starting at", quote);
        if (*at == '"')
            break;
        if (*at == '\\') {
            if (UNLIKELY(end - at < 2))
                return ll_fault(reader, "Unterminated string starting at", quote);
            if (at[1] == 'u') {
                at = unicode_escape(reader, at, &character);
                if (UNLIKELY(!at))
                    return NULL;
                if (character > greatest)
                    greatest = character;
                trailing += (character >= 0x80) + (character >= 0x800) + (character >= 0x10000);
                to = put_character(to, character);
            } else {
                if (UNLIKELY(!escapes[at[1]]))
                    return ll_fault(reader, "Invalid \\escape", at);
                *to++ = escapes[at[1]];
                at += 2;
            }
        } else if (*at < 0x20) {
            return ll_fault(reader, "Invalid control character at", at);
        } else {
            do {
                const uint8_t *from = at;

                size = sequence(at, end);
                if (UNLIKELY(!size))
                    return ll_fault(reader, "Invalid UTF-8", at);
                character = next_character(&from);
                if (character > greatest)
                    greatest = character;
                trailing += size - 1;
                memcpy(to, at, size);
                to += size;
                at += size;
            } while (at < end && *at >= 0x80);
        }
        special = ll_scan(at, end);
    }
    size = (size_t)(to - reader->scratch);
    *text = greatest < 0x80 ? ll_ascii(reader->scratch, size) : widen(reader->scratch, to, size - trailing, greatest);
    return *text ? at + 1 : NULL;
}
