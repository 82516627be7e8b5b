/*
 * Looking at many bytes at once: where a run of plain text ends, and whether two runs are equal.
 *
 * "Special" is a byte that cannot stand in a JSON string as it is and mean itself alone: the quote, the backslash, a
 * control character, and everything from 0x80 on. Compared as signed, the last two are one condition: less than 0x20.
 * Nothing here reads a byte outside the given range.
 */

#ifndef LAMPLIGHTER_SCAN_H
#define LAMPLIGHTER_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(LL_NO_SIMD)
#include <emmintrin.h>
#define LL_BLOCK 16
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(LL_NO_SIMD)
#include <arm_neon.h>
#define LL_BLOCK 16
#elif !defined(LL_NO_WORDS) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LL_BLOCK 8
#endif

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

static inline uint64_t ll_load64(const void *from)
{
    uint64_t word;

    memcpy(&word, from, sizeof word);
    return word;
}

static inline uint32_t ll_load32(const void *from)
{
    uint32_t word;

    memcpy(&word, from, sizeof word);
    return word;
}

static inline uint16_t ll_load16(const void *from)
{
    uint16_t word;

    memcpy(&word, from, sizeof word);
    return word;
}

/* Of eight bytes of text, the first of which lies lowest: the high bits of those that are no digits. That of the first
 * is right, and so are those behind it up to the first byte beyond ASCII. */
static inline uint64_t ll_no_digits(uint64_t eight)
{
    const uint64_t ones = 0x0101010101010101u;

    eight ^= ones * '0';
    return ((eight + ones * (0x80 - 10)) | eight) & (ones * 0x80);
}

/* How many bytes lie before the first whose high bit is set. */
static inline unsigned ll_bytes_before(uint64_t high)
{
    return high ? (unsigned)__builtin_ctzll(high) / 8 : 8;
}

/* The number that the first `count` of these bytes are, which are digits; one at least. */
static inline uint64_t ll_number_of(uint64_t eight, unsigned count)
{
    eight ^= 0x0101010101010101u * '0';
    eight <<= 64 - 8 * count; /* zeros before them, which lie lowest */
    eight = (eight * (1 + (10 << 8))) >> 8 & 0x00ff00ff00ff00ffu;
    eight = (eight * (1 + (100 << 16))) >> 16 & 0x0000ffff0000ffffu;
    return (eight * (1 + ((uint64_t)10000 << 32))) >> 32;
}

static inline bool ll_is_special(uint8_t byte)
{
    return (int8_t)byte < 0x20 || byte == '"' || byte == '\\';
}

#ifdef LL_BLOCK
/* Which of the LL_BLOCK bytes at `from` are special; 0: none. ll_first tells the first from it. */
static inline uint64_t ll_specials(const uint8_t *from)
{
#if defined(__SSE2__) && !defined(LL_NO_SIMD)
    const __m128i block = _mm_loadu_si128((const __m128i *)from);
    const __m128i quotes = _mm_cmpeq_epi8(block, _mm_set1_epi8('"'));
    const __m128i escapes = _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'));
    const __m128i outside = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20));

    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, escapes), outside));
#elif LL_BLOCK == 16
    const uint8x16_t block = vld1q_u8(from);
    const uint8x16_t quotes = vceqq_u8(block, vdupq_n_u8('"'));
    const uint8x16_t escapes = vceqq_u8(block, vdupq_n_u8('\\'));
    const uint8x16_t outside = vcltq_s8(vreinterpretq_s8_u8(block), vdupq_n_s8(0x20));
    const uint8x16_t all = vorrq_u8(vorrq_u8(quotes, escapes), outside);

    /* Four bits a byte: there is no movemask. */
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(all), 4)), 0);
#else
    /* Borrows run upwards only, so that the lowest bit set is exact, and it alone is asked for. */
    const uint64_t ones = 0x0101010101010101u, block = ll_load64(from);
    const uint64_t quotes = block ^ (ones * '"'), escapes = block ^ (ones * '\\');

    return ((block - ones * 0x20) | (quotes - ones) | (escapes - ones) | block) & (ones * 0x80);
#endif
}

static inline size_t ll_first(uint64_t specials)
{
#if defined(__SSE2__) && !defined(LL_NO_SIMD)
    return (size_t)__builtin_ctzll(specials);
#elif LL_BLOCK == 16
    return (size_t)__builtin_ctzll(specials) >> 2;
#else
    return (size_t)__builtin_ctzll(specials) >> 3;
#endif
}
#endif

/* The rest of a long run: chosen at import for the processor this is (scan.c). */
extern const uint8_t *(*ll_scan_long)(const uint8_t *from, const uint8_t *end);

/* The first special byte in [from, end), or end. */
static inline const uint8_t *ll_scan(const uint8_t *from, const uint8_t *end)
{
#ifdef LL_BLOCK
    for (int blocks = 0; end - from >= LL_BLOCK; blocks++) {
        const uint64_t specials = ll_specials(from);

        if (specials)
            return from + ll_first(specials);
        from += LL_BLOCK;
        if (blocks == 3)
            return ll_scan_long(from, end);
    }
#endif
    while (from < end && !ll_is_special(*from))
        from++;
    return from;
}

/* Whether size bytes at a and at b are equal. Inline, because most runs are shorter than a call to memcmp is long. */
static inline bool ll_same(const void *a, const void *b, size_t size)
{
    const uint8_t *left = a, *right = b;

#if defined(__SSE2__) && !defined(LL_NO_SIMD)
    if (size >= 16) {
        const size_t last = size - 16;
        size_t at = 0;

        for (;;) { /* the last block overlaps the one before it */
            const __m128i equal = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(left + at)),
                                                 _mm_loadu_si128((const __m128i *)(right + at)));

            if (_mm_movemask_epi8(equal) != 0xffff)
                return false;
            if (at == last)
                return true;
            at = at + 16 < last ? at + 16 : last;
        }
    }
#endif
    if (size >= 8) {
        const size_t last = size - 8;

        for (size_t at = 0; at < last; at += 8)
            if (ll_load64(left + at) != ll_load64(right + at))
                return false;
        return ll_load64(left + last) == ll_load64(right + last);
    }
    if (size >= 4)
        return ll_load32(left) == ll_load32(right) && ll_load32(left + size - 4) == ll_load32(right + size - 4);
    if (size >= 2)
        return ll_load16(left) == ll_load16(right) && left[size - 1] == right[size - 1];
    return size == 0 || *left == *right;
}

/* memcpy of what is mostly short. The two do not overlap. */
static inline void ll_copy(void *to, const void *from, size_t size)
{
    char *into = to;
    const char *source = from;

    if (size > 64) {
        memcpy(into, source, size);
    } else if (size >= 16) {
        const size_t last = size - 16;

        for (size_t at = 0; at < last; at += 16)
            memcpy(into + at, source + at, 16);
        memcpy(into + last, source + last, 16);
    } else if (size >= 8) {
        memcpy(into, source, 8);
        memcpy(into + size - 8, source + size - 8, 8);
    } else if (size >= 4) {
        memcpy(into, source, 4);
        memcpy(into + size - 4, source + size - 4, 4);
    } else {
        for (size_t at = 0; at < size; at++)
            into[at] = source[at];
    }
}

/* Choose ll_scan_long. */
void ll_choose_scan(void);
/* What was chosen: "avx2", "sse2", "neon", "words" or "bytes". */
extern const char *ll_scan_name;

#endif
