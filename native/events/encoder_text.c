/*
 * Strings in quotes: mostly copied, in blocks, until a character turns up that JSON or the caller wants escaped.
 *
 * Escaped are '"', '\' and what is below the space; where only ASCII may leave, DEL and all that is not ASCII too. A
 * lone surrogate has no UTF-8 form and is escaped in either case.
 */

#include "encoder.h"

#if defined(__SSE2__) && !defined(LL_NO_SIMD)
#include <emmintrin.h>
#elif defined(__aarch64__) && !defined(LL_NO_SIMD)
#include <arm_neon.h>
#endif

/* `text` is stored whole, eight bytes at once, of which `size` count. */
struct escape {
    char text[7];
    unsigned char size;
};

#define U00(digits) {"\\u00" digits, 6}
static const struct escape escapes[128] = {
    U00("00"), U00("01"), U00("02"), U00("03"), U00("04"), U00("05"), U00("06"), U00("07"), {"\\b", 2}, {"\\t", 2},
    {"\\n", 2}, U00("0b"), {"\\f", 2}, {"\\r", 2}, U00("0e"), U00("0f"), U00("10"), U00("11"), U00("12"), U00("13"),
    U00("14"), U00("15"), U00("16"), U00("17"), U00("18"), U00("19"), U00("1a"), U00("1b"), U00("1c"), U00("1d"),
    U00("1e"), U00("1f"), ['"'] = {"\\\"", 2}, ['\\'] = {"\\\\", 2}, [0x7f] = U00("7f"),
};

enum { BLOCK = 16 };

/* A block's odd bytes are those that are not copied but escaped; one above 127 counts as odd in any case. */
#if defined(__SSE2__) && !defined(LL_NO_SIMD)

typedef unsigned odd_bytes;

static inline odd_bytes find_odd(const unsigned char *from, unsigned char third)
{
    __m128i block = _mm_loadu_si128((const __m128i *)from);
    __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(block, _mm_set1_epi8('"')), _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(block, _mm_set1_epi8((char)third)));
    odd = _mm_or_si128(odd, _mm_cmplt_epi8(block, _mm_set1_epi8(' '))); /* signed: above 127 is below too */
    return (odd_bytes)_mm_movemask_epi8(odd);
}

static inline odd_bytes without_first(odd_bytes odd, size_t count)
{
    return odd >> count;
}

static inline int first_odd(odd_bytes odd)
{
    return __builtin_ctz(odd);
}

#elif defined(__aarch64__) && !defined(LL_NO_SIMD)

typedef uint64_t odd_bytes; /* four bits a byte: NEON has no movemask */

static inline odd_bytes find_odd(const unsigned char *from, unsigned char third)
{
    uint8x16_t block = vld1q_u8(from);
    uint8x16_t odd = vorrq_u8(vceqq_u8(block, vdupq_n_u8('"')), vceqq_u8(block, vdupq_n_u8('\\')));
    odd = vorrq_u8(odd, vceqq_u8(block, vdupq_n_u8(third)));
    odd = vorrq_u8(odd, vcltq_s8(vreinterpretq_s8_u8(block), vdupq_n_s8(' ')));
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(odd), 4)), 0);
}

static inline odd_bytes without_first(odd_bytes odd, size_t count)
{
    return odd >> 4 * count;
}

static inline int first_odd(odd_bytes odd)
{
    return __builtin_ctzll(odd) >> 2;
}

#else

typedef unsigned odd_bytes;

static inline odd_bytes find_odd(const unsigned char *from, unsigned char third)
{
    odd_bytes odd = 0;
    for (unsigned i = 0; i < BLOCK; i++) {
        unsigned char c = from[i];
        odd |= (odd_bytes)(c < ' ' || c > 127 || c == '"' || c == '\\' || c == third) << i;
    }
    return odd;
}

static inline odd_bytes without_first(odd_bytes odd, size_t count)
{
    return odd >> count;
}

static inline int first_odd(odd_bytes odd)
{
    return __builtin_ctz(odd);
}

#endif

static inline char *write_hex4(char *at, unsigned code)
{
    static const char digits[] = "0123456789abcdef";
    at[0] = '\\';
    at[1] = 'u';
    at[2] = digits[code >> 12];
    at[3] = digits[code >> 8 & 15];
    at[4] = digits[code >> 4 & 15];
    at[5] = digits[code & 15];
    return at + 6;
}

/* A character that is not copied; at most 12 bytes. */
static inline char *write_odd(char *at, Py_UCS4 c, unsigned char third)
{
    if (c < 0x80) {
        memcpy(at, &escapes[c], 8);
        return at + escapes[c].size;
    }
    if (third != '"') {
        if (c < 0x10000)
            return write_hex4(at, c);
        at = write_hex4(at, 0xd800 + ((c - 0x10000) >> 10));
        return write_hex4(at, 0xdc00 + (c & 0x3ff));
    }
    if (c < 0x800) {
        at[0] = (char)(0xc0 | c >> 6);
        at[1] = (char)(0x80 | (c & 0x3f));
        return at + 2;
    }
    if (c < 0x10000) {
        if ((c & 0xf800) == 0xd800)
            return write_hex4(at, c);
        at[0] = (char)(0xe0 | c >> 12);
        at[1] = (char)(0x80 | (c >> 6 & 0x3f));
        at[2] = (char)(0x80 | (c & 0x3f));
        return at + 3;
    }
    at[0] = (char)(0xf0 | c >> 18);
    at[1] = (char)(0x80 | (c >> 12 & 0x3f));
    at[2] = (char)(0x80 | (c >> 6 & 0x3f));
    at[3] = (char)(0x80 | (c & 0x3f));
    return at + 4;
}

/* Copy fewer than BLOCK bytes: two moves that overlap, and nothing beside the bytes is read. */
static inline void copy_few(char *at, const unsigned char *from, size_t count)
{
    if (count >= 8) {
        uint64_t head, tail;
        memcpy(&head, from, 8);
        memcpy(&tail, from + count - 8, 8);
        memcpy(at, &head, 8);
        memcpy(at + count - 8, &tail, 8);
    } else if (count >= 4) {
        uint32_t head, tail;
        memcpy(&head, from, 4);
        memcpy(&tail, from + count - 4, 4);
        memcpy(at, &head, 4);
        memcpy(at + count - 4, &tail, 4);
    } else if (count > 0) {
        at[0] = (char)from[0];
        at[count / 2] = (char)from[count / 2];
        at[count - 1] = (char)from[count - 1];
    }
}

/*
 * Characters of one byte: ASCII, or Latin-1. At least BLOCK bytes that may be read lie before them, the head of the
 * string object: so the last block of a string is one that ends with it, however short the string is.
 */
static char *write_narrow(struct ll_out *out, char *at, const unsigned char *from, Py_ssize_t size)
{
    const unsigned char *end = from + size;
    unsigned char third = out->third;
    at = ll_room(out, at, size);
    if (at == NULL)
        return NULL;
    *at++ = '"';
    for (;;) {
        size_t left = (size_t)(end - from);
        odd_bytes odd;
        if (left >= BLOCK) {
            odd = find_odd(from, third);
            memcpy(at, from, BLOCK);
            if (__builtin_expect(odd == 0, 1)) {
                from += BLOCK;
                at += BLOCK;
                continue;
            }
        } else {
            odd = without_first(find_odd(end - BLOCK, third), BLOCK - left);
            if (left == 0 || __builtin_expect(odd == 0, 1)) {
                copy_few(at, from, left);
                return at + left;
            }
            copy_few(at, from, (size_t)first_odd(odd));
        }
        from += first_odd(odd);
        at = write_odd(at + first_odd(odd), *from++, third);
        at = ll_room(out, at, end - from);
        if (at == NULL)
            return NULL;
    }
}

static inline char *write_character(char *at, Py_UCS4 c, unsigned char third)
{
    if (c < 0x80 && c >= ' ' && c != '"' && c != '\\' && c != third) {
        *at = (char)c;
        return at + 1;
    }
    return write_odd(at, c, third);
}

/* Characters of any width, one by one; `kind` is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) char *write_wide(struct ll_out *out, char *at, const void *data, int kind,
                                                              Py_ssize_t size)
{
    unsigned char third = out->third;
    *at++ = '"';
    for (Py_ssize_t i = 0; i < size;) {
        Py_ssize_t stop = size - i > BLOCK ? i + BLOCK : size;
        at = ll_room(out, at, 12 * (stop - i));
        if (at == NULL)
            return NULL;
        for (; i < stop; i++)
            at = write_character(at, PyUnicode_READ(kind, data, i), third);
    }
    return at;
}

char *ll_write_text(struct ll_out *out, char *at, PyObject *text)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(text) < 0)
        return NULL;
#endif
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t size = PyUnicode_GET_LENGTH(text);
    switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
        at = PyUnicode_IS_COMPACT(text) ? write_narrow(out, at, data, size)
                                        : write_wide(out, at, data, PyUnicode_1BYTE_KIND, size);
        break;
    case PyUnicode_2BYTE_KIND:
        at = write_wide(out, at, data, PyUnicode_2BYTE_KIND, size);
        break;
    default:
        at = write_wide(out, at, data, PyUnicode_4BYTE_KIND, size);
    }
    if (at == NULL)
        return NULL;
    *at++ = '"';
    return ll_room(out, at, 0);
}
