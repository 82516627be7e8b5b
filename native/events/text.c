/*
 * Strings.
 *
 * One of plain ASCII is copied as it is. Any other is written to the scratch buffer first, in one pass over the source:
 * as bytes, then 2 or 4 bytes a character from the first one on that wants them, those before it being widened. So the
 * string is made when its length and its kind are known, and is made once.
 */

#include "reader.h"
#include "widen.h"

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

/* ---- characters ---- */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_WORDS
#endif

#define NO_CHARACTER ((Py_UCS4)-1)

static inline bool continues(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The character of the UTF-8 sequence at *at, whose first byte is 0x80 or more; *at is moved past it. NO_CHARACTER if it
 * is not sound: no overlong form, no surrogate, nothing beyond U+10FFFF (Unicode 15, table 3-7). */
__attribute__((always_inline)) static inline Py_UCS4 next_sequence(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *from = *at;
    const size_t left = (size_t)(end - from);
    const uint8_t lead = from[0];
    Py_UCS4 character;

#ifdef LITTLE_ENDIAN_WORDS
    if (LIKELY(left >= 4)) { /* the marks of all its bytes at once */
        const uint32_t four = ll_load32(from);

        if ((four & 0xc0e0) == 0x80c0) {
            *at += 2;
            character = (four & 0x1f) << 6 | (four >> 8 & 0x3f);
            return LIKELY(character >= 0x80) ? character : NO_CHARACTER;
        }
        if ((four & 0xc0c0f0) == 0x8080e0) {
            *at += 3;
            character = (four & 0x0f) << 12 | (four >> 2 & 0xfc0) | (four >> 16 & 0x3f);
            return LIKELY(character >= 0x800 && (character & 0xf800) != 0xd800) ? character : NO_CHARACTER;
        }
        if ((four & 0xc0c0c0f8) == 0x808080f0) {
            *at += 4;
            character = (four & 0x07) << 18 | (four << 4 & 0x3f000) | (four >> 10 & 0xfc0) |
                        (four >> 24 & 0x3f);
            return LIKELY(character >= 0x10000 && character <= 0x10ffff) ? character : NO_CHARACTER;
        }
        return NO_CHARACTER;
    }
#endif
    if (lead < 0xe0) {
        if (lead < 0xc2 || left < 2 || !continues(from[1]))
            return NO_CHARACTER;
        *at += 2;
        return (Py_UCS4)(lead & 0x1f) << 6 | (from[1] & 0x3f);
    }
    if (lead < 0xf0) {
        if (left < 3 || !continues(from[1]) || !continues(from[2]))
            return NO_CHARACTER;
        *at += 3;
        character = (Py_UCS4)(lead & 0x0f) << 12 | (Py_UCS4)(from[1] & 0x3f) << 6 | (from[2] & 0x3f);
        return character < 0x800 || (character & 0xf800) == 0xd800 ? NO_CHARACTER : character;
    }
    if (lead > 0xf4 || left < 4 || !continues(from[1]) || !continues(from[2]) || !continues(from[3]))
        return NO_CHARACTER;
    *at += 4;
    character = (Py_UCS4)(lead & 0x07) << 18 | (Py_UCS4)(from[1] & 0x3f) << 12 | (Py_UCS4)(from[2] & 0x3f) << 6 |
                (from[3] & 0x3f);
    return character < 0x10000 || character > 0x10ffff ? NO_CHARACTER : character;
}

/* What a hexadecimal digit counts; of what is none, bits that stay above the lowest 16 wherever they are shifted. */
#define NO_DIGIT 0x00ff0000
static const uint32_t digits[256] = {
    [0 ... '0' - 1] = NO_DIGIT,       ['9' + 1 ... 'A' - 1] = NO_DIGIT,
    ['F' + 1 ... 'a' - 1] = NO_DIGIT, ['f' + 1 ... 255] = NO_DIGIT,
    ['0'] = 0,  ['1'] = 1,  ['2'] = 2,  ['3'] = 3,  ['4'] = 4,  ['5'] = 5,  ['6'] = 6,  ['7'] = 7,
    ['8'] = 8,  ['9'] = 9,  ['a'] = 10, ['b'] = 11, ['c'] = 12, ['d'] = 13, ['e'] = 14, ['f'] = 15,
    ['A'] = 10, ['B'] = 11, ['C'] = 12, ['D'] = 13, ['E'] = 14, ['F'] = 15,
};

/* Four hexadecimal digits; NO_CHARACTER if they are not. */
static inline Py_UCS4 four_digits(const uint8_t *at, const uint8_t *end)
{
    Py_UCS4 value;

    if (UNLIKELY(end - at < 4))
        return NO_CHARACTER;
    value = digits[at[0]] << 12 | digits[at[1]] << 8 | digits[at[2]] << 4 | digits[at[3]];
    return value <= 0xffff ? value : NO_CHARACTER;
}

/* What a backslash and this byte mean; 0: nothing. */
static const uint8_t escapes[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

/* The character of the escape at *at, with the second half of a pair if one follows; *at is moved past it. A half alone
 * is a character, as for json.loads. NO_CHARACTER if it is no escape. */
static inline Py_UCS4 next_escape(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *from = *at;
    Py_UCS4 first, second;

    if (UNLIKELY(end - from < 2))
        return NO_CHARACTER;
    if (from[1] != 'u') {
        *at += 2;
        return escapes[from[1]] ? escapes[from[1]] : NO_CHARACTER;
    }
    first = four_digits(from + 2, end);
    *at += 6;
    if ((first & ~(Py_UCS4)0x3ff) == 0xd800 && end - from >= 12 && from[6] == '\\' && from[7] == 'u') {
        second = four_digits(from + 8, end);
        if ((second & ~(Py_UCS4)0x3ff) == 0xdc00) {
            *at += 6;
            return 0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
        }
    }
    return first;
}

static const uint8_t *escape_fault(struct ll_reader *reader, const uint8_t *quote, const uint8_t *at)
{
    if (reader->end - at < 2)
        return ll_fault(reader, "Unterminated string starting at", quote);
    return ll_fault(reader, at[1] == 'u' ? "Invalid \\uXXXX escape" : "Invalid \\escape", at);
}

/* ---- what is not copied as it is ---- */

#define LEAST_SCRATCH 1024
#define SPARE 64 /* characters, more than a step */
#ifdef LL_BLOCK
#define STEP LL_BLOCK
#else
#define STEP 1
#endif

/* Make room for so many bytes in the scratch buffer, which keeps what is in it; -1 with an exception. */
static int grow_scratch(struct ll_reader *reader, size_t need)
{
    size_t larger = reader->scratch_room ? reader->scratch_room * 2 : LEAST_SCRATCH;
    uint8_t *moved;

    larger = larger < need ? need : larger;
    moved = PyMem_Realloc(reader->scratch, larger);
    if (!moved) {
        PyErr_NoMemory();
        return -1;
    }
    reader->scratch = moved;
    reader->scratch_room = larger;
    return 0;
}

static inline int reserve_scratch(struct ll_reader *reader, size_t need)
{
    return LIKELY(need <= reader->scratch_room) ? 0 : grow_scratch(reader, need);
}

/* How far the source may be read on from `at` before the `count` characters in the scratch buffer, and a character more
 * for each byte, want more room than there is; NULL with an exception. */
__attribute__((always_inline)) static inline const uint8_t *reach(struct ll_reader *reader, const uint8_t *at,
                                                                  size_t count, unsigned width)
{
    const size_t left = (size_t)(reader->end - at);
    size_t room;

    if (UNLIKELY(reserve_scratch(reader, (count + SPARE) * width) < 0))
        return NULL;
    room = reader->scratch_room / width - count;
    return left <= room ? reader->end : at + room;
}

/* Put the sequences of two bytes at *at many at once, or those of three in a row; *at is moved past them. What is left,
 * and what is unsound, is next_sequence's. Returns where the next character goes. */
__attribute__((always_inline)) static inline uint8_t *put_sequences(uint8_t *to, unsigned width, const uint8_t **at,
                                                                    const uint8_t *stop)
{
#if LL_BLOCK == 16
    if (**at < 0xe0 && stop - *at >= 16 && (*at)[2] >= 0x80) { /* not for one alone */
        const size_t pairs = ll_put_pairs(to, width, *at);

        *at += pairs * 2;
        return to + pairs * width;
    }
#endif
#ifdef LITTLE_ENDIAN_WORDS
    if (**at >= 0xe0) {
        for (uint32_t four; stop - *at >= 4; *at += 3) {
            four = ll_load32(*at);
            /* Not the marks of three bytes; or an overlong form; or a surrogate. */
            if ((four & 0xc0c0f0) != 0x8080e0 || (four & 0x200f) == 0 || (four & 0x200f) == 0x200d)
                break;
            ll_put(to, width, (four & 0x0f) << 12 | (four >> 2 & 0xfc0) | (four >> 16 & 0x3f));
            to += width;
        }
    }
#endif
    return to;
}

/*
 * Read the source on from the special byte at `at`, as long as its characters are `most` or less, and put them behind
 * the `*count` that are in the scratch buffer, as wide as `most` is. Returns the place of the closing quote; or of the
 * first character that is larger, which is then in *beyond.
 */
__attribute__((always_inline)) static inline const uint8_t *read_up_to(const Py_UCS4 most, struct ll_reader *reader,
                                                                       const uint8_t *quote, const uint8_t *at,
                                                                       size_t *count, Py_UCS4 *beyond)
{
    const unsigned width = most < 0x100 ? 1 : most < 0x10000 ? 2 : 4;
    const uint8_t *const end = reader->end, *stop = reach(reader, at, *count, width), *from;
    Py_UCS4 character;
    uint8_t *to;

    if (UNLIKELY(!stop))
        return NULL;
    to = reader->scratch + *count * width;
    for (;;) {
        if (*at == '\\') {
            do {
                from = at;
                if (LIKELY(end - at >= 2 && escapes[at[1]])) {
                    ll_put(to, width, escapes[at[1]]);
                    to += width;
                    at += 2;
                    break; /* what follows is mostly plain */
                }
                character = next_escape(&at, end);
                if (UNLIKELY(character == NO_CHARACTER))
                    return escape_fault(reader, quote, from);
                if (character > most)
                    goto beyond;
                ll_put(to, width, character);
                to += width;
            } while (at < stop && *at == '\\');
        } else if (*at >= 0x80) {
        sequences:
            do {
                from = at;
                if (width > 1)
                    to = put_sequences(to, width, &at, stop);
                if (at != from)
                    continue;
                character = next_sequence(&at, end);
                if (UNLIKELY(character == NO_CHARACTER))
                    return ll_fault(reader, "Invalid UTF-8", from);
                if (character > most)
                    goto beyond;
                ll_put(to, width, character);
                to += width;
            } while (at < stop && *at >= 0x80);
            if (width > 1 && stop - at >= 2 && at[1] >= 0x80 && !ll_is_special(*at)) { /* between two words */
                ll_put(to, width, *at++);
                to += width;
                goto sequences;
            }
        } else if (LIKELY(*at == '"')) {
            *count = (size_t)(to - reader->scratch) / width;
            return at;
        } else {
            return ll_fault(reader, "Invalid control character at", at);
        }
        for (;;) { /* up to the next special byte */
#ifdef LL_BLOCK
            if (LIKELY(stop - at >= LL_BLOCK)) {
                const uint64_t specials = ll_specials(at);

                ll_put_block(to, width, at); /* what is put too much is written over, or does not count */
                if (specials) {
                    to += ll_first(specials) * width;
                    at += ll_first(specials);
                    break;
                }
                to += LL_BLOCK * width;
                at += LL_BLOCK;
                continue;
            }
#endif
            if (UNLIKELY(at == end))
                return ll_fault(reader, "Unterminated string starting at", quote);
            if (UNLIKELY(stop < end && stop - at < STEP)) {
                *count = (size_t)(to - reader->scratch) / width;
                stop = reach(reader, at, *count, width);
                if (UNLIKELY(!stop))
                    return NULL;
                to = reader->scratch + *count * width;
                continue;
            }
            if (ll_is_special(*at))
                break;
            ll_put(to, width, *at++);
            to += width;
        }
    }
beyond:
    *beyond = character;
    *count = (size_t)(to - reader->scratch) / width;
    return from;
}

/* Make the `count` characters in the scratch buffer twice as wide; -1 with an exception. */
static inline int widen(struct ll_reader *reader, size_t count, const unsigned width)
{
    if (UNLIKELY(reserve_scratch(reader, (count + LL_WIDEN_SLACK) * 2 * width) < 0))
        return -1;
    ll_widen(reader->scratch, count, width);
    return 0;
}

/* The string whose first `count` characters, all ASCII, lie in the scratch buffer, and whose source goes on at `at` with
 * `character`. They become wider when the first one comes that has to be. */
static const uint8_t *read_wide(struct ll_reader *reader, const uint8_t *quote, const uint8_t *at, size_t count,
                                Py_UCS4 character, PyObject **text)
{
    Py_UCS4 most = 0xff;
    unsigned width = 1;

    if (character <= 0xff)
        at = read_up_to(0xff, reader, quote, at, &count, &character);
    if (at && character > 0xff) {
        if (widen(reader, count, 1) < 0)
            return NULL;
        most = 0xffff;
        width = 2;
        if (character <= 0xffff)
            at = read_up_to(0xffff, reader, quote, at, &count, &character);
    }
    if (at && character > 0xffff) {
        if (widen(reader, count, 2) < 0)
            return NULL;
        most = 0x10ffff;
        width = 4;
        at = read_up_to(0x10ffff, reader, quote, at, &count, &character);
    }
    if (UNLIKELY(!at))
        return NULL;
    if (UNLIKELY(count == 1 && width == 1)) { /* of Latin-1's characters the interpreter has one string each */
        *text = PyUnicode_FromOrdinal(*reader->scratch);
    } else {
        *text = PyUnicode_New((Py_ssize_t)count, most);
        if (LIKELY(*text))
            memcpy(PyUnicode_DATA(*text), reader->scratch, count * width);
    }
    return LIKELY(*text) ? at + 1 : NULL;
}

const uint8_t *ll_read_text(struct ll_reader *reader, const uint8_t *quote, const uint8_t *special, PyObject **text)
{
    const uint8_t *at;
    size_t count = (size_t)(special - quote - 1);
    Py_UCS4 character = 0;

    if (UNLIKELY(special == reader->end))
        return ll_fault(reader, "Unterminated string starting at", quote);
    if (UNLIKELY(reserve_scratch(reader, count) < 0))
        return NULL;
    ll_copy(reader->scratch, quote + 1, count);
    at = read_up_to(0x7f, reader, quote, special, &count, &character);
    if (UNLIKELY(!at))
        return NULL;
    if (character)
        return read_wide(reader, quote, at, count, character, text);
    *text = ll_ascii(reader->scratch, count);
    return *text ? at + 1 : NULL;
}
