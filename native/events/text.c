/*
 * Strings.
 *
 * One of plain ASCII is copied as it is, one without escapes is left to CPython's decoder of UTF-8. One with escapes that
 * mean ASCII is written to the scratch buffer first. Of any other the source is gone through twice: once to judge it,
 * count its characters and learn how wide they are, and once to write them where they belong.
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

/* ---- characters ---- */

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

/* The same of a sequence that has been found sound. */
__attribute__((always_inline)) static inline Py_UCS4 sound_sequence(const uint8_t **at)
{
    const uint8_t *from = *at;

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

/* ---- beyond ASCII ---- */

/*
 * struct extent: what a string's source has been found to be.
 *
 *      0  count     of characters
 *      8  union_of  all of them, so that it is below 0x80, 0x100 or 0x10000 if and only if they all are
 */
struct extent {
    size_t count;
    Py_UCS4 union_of;
};

/* Judge the source from `at` to the closing quote, which is returned. */
static const uint8_t *measure(struct ll_reader *reader, const uint8_t *quote, const uint8_t *at, struct extent *extent)
{
    const uint8_t *end = reader->end, *from;
    size_t count = extent->count;
    Py_UCS4 union_of = extent->union_of, character;

    while (at < end) {
        if (*at >= 0x80) {
            from = at;
            character = next_sequence(&at, end);
            if (UNLIKELY(character == NO_CHARACTER))
                return ll_fault(reader, "Invalid UTF-8", from);
            union_of |= character;
            count++;
        } else if (*at == '\\') {
            from = at;
            character = next_escape(&at, end);
            if (UNLIKELY(character == NO_CHARACTER))
                return escape_fault(reader, quote, from);
            union_of |= character;
            count++;
        } else if (*at == '"') {
            *extent = (struct extent){count, union_of};
            return at;
        } else if (UNLIKELY(*at < 0x20)) {
            return ll_fault(reader, "Invalid control character at", at);
        } else {
            from = at++;
            if (at < end && !ll_is_special(*at))
                at = ll_scan(at, end);
            count += (size_t)(at - from);
        }
    }
    return ll_fault(reader, "Unterminated string starting at", quote);
}

/* Write the characters of a sound source, and before them those that wait in the scratch buffer, all of one width: `size`
 * of them altogether. While there is room for a block, one is written whole; what follows overwrites it from the first
 * special byte on. A character takes a byte of the source at least, so that there is as much to read. */
#ifdef LL_BLOCK
#define WRITE_PLAIN(width)                                                                                             \
    while (last - to >= LL_BLOCK) {                                                                                    \
        const uint64_t specials = ll_specials(at);                                                                     \
        uint8_t block[LL_BLOCK];                                                                                       \
                                                                                                                       \
        memcpy(block, at, sizeof block);                                                                               \
        for (int i = 0; i < LL_BLOCK; i++)                                                                             \
            to[i] = block[i];                                                                                          \
        if (specials) {                                                                                                \
            to += ll_first(specials);                                                                                  \
            at += ll_first(specials);                                                                                  \
            break;                                                                                                     \
        }                                                                                                              \
        to += LL_BLOCK;                                                                                                \
        at += LL_BLOCK;                                                                                                \
    }
#else
#define WRITE_PLAIN(width)
#endif
#define WRITER(name, width)                                                                                            \
    static void name(width *to, size_t size, const uint8_t *waiting, size_t count, const uint8_t *at,                  \
                     const uint8_t *end)                                                                               \
    {                                                                                                                  \
        width *const last = to + size;                                                                                 \
                                                                                                                       \
        while (count--)                                                                                                \
            *to++ = *waiting++;                                                                                        \
        while (to < last) {                                                                                            \
            if (*at == '\\') {                                                                                         \
                *to++ = (width)next_escape(&at, end);                                                                  \
            } else if (*at >= 0x80) {                                                                                  \
                *to++ = (width)sound_sequence(&at);                                                                    \
            } else {                                                                                                   \
                WRITE_PLAIN(width)                                                                                     \
                while (to < last && !ll_is_special(*at))                                                               \
                    *to++ = *at++;                                                                                     \
            }                                                                                                          \
        }                                                                                                              \
    }
WRITER(write_1, Py_UCS1)
WRITER(write_2, Py_UCS2)
WRITER(write_4, Py_UCS4)
#undef WRITER

/* The string whose first `count` characters, all ASCII, lie in the scratch buffer, and whose source goes on at `at`. */
static const uint8_t *read_wide(struct ll_reader *reader, const uint8_t *quote, const uint8_t *at, size_t count,
                                PyObject **text)
{
    struct extent extent = {count, 0};
    const uint8_t *end = measure(reader, quote, at, &extent);

    if (UNLIKELY(!end))
        return NULL;
    *text = PyUnicode_New((Py_ssize_t)extent.count, extent.union_of > 0x10ffff ? 0x10ffff : extent.union_of);
    if (UNLIKELY(!*text))
        return NULL;
    switch (PyUnicode_KIND(*text)) {
    case PyUnicode_1BYTE_KIND:
        write_1(PyUnicode_1BYTE_DATA(*text), extent.count, reader->scratch, count, at, end);
        break;
    case PyUnicode_2BYTE_KIND:
        write_2(PyUnicode_2BYTE_DATA(*text), extent.count, reader->scratch, count, at, end);
        break;
    default:
        write_4(PyUnicode_4BYTE_DATA(*text), extent.count, reader->scratch, count, at, end);
    }
    if (UNLIKELY(extent.count == 1)) /* of Latin-1's characters the interpreter has one string each */
        Py_SETREF(*text, PyUnicode_FromOrdinal((int)PyUnicode_READ_CHAR(*text, 0)));
    return *text ? end + 1 : NULL;
}

/* ---- escapes ---- */

/* Room for the rest of the text, once a decode; and for a block more, because copying goes by blocks. */
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

/* Copy to *to what is plain at *at; both are moved. What is copied beyond it is overwritten, or does not count. */
static inline void copy_plain(uint8_t **to, const uint8_t **at, const uint8_t *end)
{
#ifdef LL_BLOCK
    while (end - *at >= LL_BLOCK) {
        const uint64_t specials = ll_specials(*at);

        memcpy(*to, *at, LL_BLOCK);
        if (specials) {
            *to += ll_first(specials);
            *at += ll_first(specials);
            return;
        }
        *to += LL_BLOCK;
        *at += LL_BLOCK;
    }
#endif
    while (*at < end && !ll_is_special(**at))
        *(*to)++ = *(*at)++;
}

/* The string without escapes that begins after `quote`; NULL with no fault told if it is not one, or not sound. */
static const uint8_t *read_unescaped(struct ll_reader *reader, const uint8_t *quote, const uint8_t *at, PyObject **text)
{
    const uint8_t *mark = ll_scan_marks(at, reader->end);

    if (mark == reader->end || *mark != '"')
        return NULL;
    *text = PyUnicode_DecodeUTF8((const char *)quote + 1, mark - quote - 1, NULL);
    return *text ? mark + 1 : NULL;
}

const uint8_t *ll_read_text(struct ll_reader *reader, const uint8_t *quote, const uint8_t *special, PyObject **text)
{
    const uint8_t *at = quote + 1, *end = reader->end, *from;
    const size_t plain = (size_t)(special - at);
    Py_UCS4 character;
    uint8_t *to;

    if (special < end && *special >= 0x80) {
        from = read_unescaped(reader, quote, special, text);
        if (LIKELY(from))
            return from;
        if (PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
                return NULL;
            PyErr_Clear(); /* found again below, with its place */
        }
    }
    if (grow_scratch(reader, (size_t)(end - at) + 16) < 0)
        return NULL;
    to = reader->scratch;
    ll_copy(to, at, plain);
    to += plain;
    at = special;
    for (;;) {
        while (end - at >= 2 && *at == '\\' && escapes[at[1]]) {
            *to++ = escapes[at[1]];
            at += 2;
            copy_plain(&to, &at, end);
        }
        if (UNLIKELY(at == end))
            return ll_fault(reader, "Unterminated string starting at", quote);
        if (*at == '"')
            break;
        if (*at >= 0x80)
            return read_wide(reader, quote, at, (size_t)(to - reader->scratch), text);
        if (UNLIKELY(*at < 0x20))
            return ll_fault(reader, "Invalid control character at", at);
        from = at;
        character = next_escape(&at, end);
        if (UNLIKELY(character == NO_CHARACTER))
            return escape_fault(reader, quote, from);
        if (character >= 0x80)
            return read_wide(reader, quote, from, (size_t)(to - reader->scratch), text);
        *to++ = (uint8_t)character;
        copy_plain(&to, &at, end);
    }
    *text = ll_ascii(reader->scratch, (size_t)(to - reader->scratch));
    return *text ? at + 1 : NULL;
}
