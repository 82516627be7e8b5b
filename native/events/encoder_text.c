/*
 * Strings in quotes: mostly copied, in blocks, until a character turns up that JSON or the caller wants escaped.
 *
 * Escaped are '"', '\' and what is below the space; where only ASCII may leave, DEL and all that is not ASCII too. A
 * lone surrogate has no UTF-8 form and is escaped in either case.
 */

#include "encoder.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* `text` is stored whole, eight bytes at once, of which `size` count; 0 means that the character stands for itself. */
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

#if defined(__SSE2__)

/* Copy a block; nonzero if a byte of it is not copied but escaped. In blocks a byte above 127 counts as one. */
static inline unsigned copy_block(char *to, const unsigned char *from, unsigned char third)
{
    __m128i block = _mm_loadu_si128((const __m128i *)from);
    __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(block, _mm_set1_epi8('"')), _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(block, _mm_set1_epi8((char)third)));
    odd = _mm_or_si128(odd, _mm_cmplt_epi8(block, _mm_set1_epi8(' '))); /* signed: above 127 is below too */
    _mm_storeu_si128((__m128i *)to, block);
    return (unsigned)_mm_movemask_epi8(odd);
}

static inline int first_odd(unsigned mask)
{
    return __builtin_ctz(mask);
}

#elif defined(__aarch64__)

static inline uint64_t copy_block(char *to, const unsigned char *from, unsigned char third)
{
    uint8x16_t block = vld1q_u8(from);
    uint8x16_t odd = vorrq_u8(vceqq_u8(block, vdupq_n_u8('"')), vceqq_u8(block, vdupq_n_u8('\\')));
    odd = vorrq_u8(odd, vceqq_u8(block, vdupq_n_u8(third)));
    odd = vorrq_u8(odd, vcltq_s8(vreinterpretq_s8_u8(block), vdupq_n_s8(' ')));
    vst1q_u8((uint8_t *)to, block);
    /* Four bits a byte: NEON has no movemask. */
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(odd), 4)), 0);
}

static inline int first_odd(uint64_t mask)
{
    return __builtin_ctzll(mask) >> 2;
}

#else

static inline unsigned copy_block(char *to, const unsigned char *from, unsigned char third)
{
    unsigned odd = 0;
    for (unsigned i = 0; i < BLOCK; i++) {
        unsigned char c = from[i];
        odd |= (unsigned)(c < ' ' || c > 127 || c == '"' || c == '\\' || c == third) << i;
        to[i] = (char)c;
    }
    return odd;
}

static inline int first_odd(unsigned mask)
{
    return __builtin_ctz(mask);
}

#endif

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

static inline uint64_t has_zero_byte(uint64_t bytes)
{
    return (bytes - EACH_BYTE(1)) & ~bytes;
}

/* Whether any of eight bytes is not copied but escaped, in whatever order they are. */
static inline int any_odd(uint64_t bytes, unsigned char third)
{
    uint64_t odd = has_zero_byte(bytes ^ EACH_BYTE('"')) | has_zero_byte(bytes ^ EACH_BYTE('\\')) |
                   has_zero_byte(bytes ^ EACH_BYTE(third)) | ((bytes - EACH_BYTE(' ')) & ~bytes) | bytes;
    return (odd & EACH_BYTE(0x80)) != 0;
}

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

/* One character, whatever it is; at most 12 bytes. */
static inline char *write_character(char *at, Py_UCS4 c, unsigned char third)
{
    if (c < 0x80) {
        if (c >= ' ' && c != '"' && c != '\\' && c != third) {
            *at = (char)c;
            return at + 1;
        }
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

/*
 * The rest of a string, shorter than a block: two loads that overlap cover it, and nothing beside it is read. `left`
 * bytes of room are there, and LL_SLACK; where that may not do, more is asked for.
 */
static inline char *write_rest(struct ll_out *out, char *at, const unsigned char *from, size_t left)
{
    unsigned char third = out->third;
    if (left >= 8) {
        uint64_t head, tail;
        memcpy(&head, from, 8);
        memcpy(&tail, from + left - 8, 8);
        if (!any_odd(head, third) && !any_odd(tail, third)) {
            memcpy(at, &head, 8);
            memcpy(at + left - 8, &tail, 8);
            return at + left;
        }
    } else if (left >= 4) {
        uint32_t head, tail;
        memcpy(&head, from, 4);
        memcpy(&tail, from + left - 4, 4);
        if (!any_odd((uint64_t)head << 32 | tail, third)) {
            memcpy(at, &head, 4);
            memcpy(at + left - 4, &tail, 4);
            return at + left;
        }
    } else if (left == 0) {
        return at;
    }
    at = ll_room(out, at, 6 * BLOCK);
    for (const unsigned char *end = from + left; at != NULL && from < end; from++)
        at = write_character(at, *from, third);
    return at;
}

/* Characters of one byte: ASCII, or Latin-1. */
static char *write_narrow(struct ll_out *out, char *at, const unsigned char *from, Py_ssize_t size)
{
    const unsigned char *end = from + size;
    at = ll_room(out, at, size + 1);
    if (at == NULL)
        return NULL;
    *at++ = '"';
    while (end - from >= BLOCK) {
        __auto_type odd = copy_block(at, from, out->third);
        if (__builtin_expect(!odd, 1)) {
            from += BLOCK;
            at += BLOCK;
            continue;
        }
        from += first_odd(odd);
        at = write_character(at + first_odd(odd), *from++, out->third);
        at = ll_room(out, at, end - from);
        if (at == NULL)
            return NULL;
    }
    return write_rest(out, at, from, (size_t)(end - from));
}

/* Characters of two or four bytes; `kind` is a constant wherever this is inlined. */
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
        at = write_narrow(out, at, data, size);
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
