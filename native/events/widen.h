/*
 * From bytes to the characters of CPython's strings, many at once. Characters are 1, 2 or 4 bytes wide, as a string's
 * kind says; the width is a constant wherever these are called, so that what is for the others is not compiled.
 */

#ifndef LAMPLIGHTER_WIDEN_H
#define LAMPLIGHTER_WIDEN_H

#include "scan.h"

static inline void ll_put(uint8_t *to, unsigned width, uint32_t character)
{
    const uint16_t half = (uint16_t)character;

    if (width == 1)
        *to = (uint8_t)character;
    else if (width == 2)
        memcpy(to, &half, sizeof half);
    else
        memcpy(to, &character, sizeof character);
}

static inline uint32_t ll_get(const uint8_t *from, unsigned width)
{
    return width == 1 ? *from : width == 2 ? ll_load16(from) : ll_load32(from);
}

#if LL_BLOCK == 16
#ifdef __SSE2__
typedef __m128i ll_halves; /* eight of 16 bits */
#else
typedef uint16x8_t ll_halves;
#endif

/* Eight characters, 2 or 4 bytes wide. */
static inline void ll_put_halves(uint8_t *to, unsigned width, ll_halves halves)
{
#ifdef __SSE2__
    const __m128i zero = _mm_setzero_si128();

    if (width == 2) {
        _mm_storeu_si128((__m128i *)to, halves);
    } else {
        _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(halves, zero));
        _mm_storeu_si128((__m128i *)(to + 16), _mm_unpackhi_epi16(halves, zero));
    }
#else
    if (width == 2) {
        vst1q_u8(to, vreinterpretq_u8_u16(halves));
    } else {
        vst1q_u8(to, vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(halves))));
        vst1q_u8(to + 16, vreinterpretq_u8_u32(vmovl_high_u16(halves)));
    }
#endif
}

/* Of the sixteen bytes at `from`, how many sound sequences of two bytes they begin with, up to eight; the characters
 * those are are put to `to`, and behind them, up to eight, what means nothing. */
static inline size_t ll_put_pairs(uint8_t *to, unsigned width, const uint8_t *from)
{
    /* The first byte is the lower one, 110xxxxx, and not all of its upper four bits are 0; the other one is 10xxxxxx. */
#ifdef __SSE2__
    const __m128i pairs = _mm_loadu_si128((const __m128i *)from);
    const __m128i marks = _mm_and_si128(pairs, _mm_set1_epi16((short)0xc0e0));
    const __m128i above = _mm_slli_epi16(_mm_and_si128(pairs, _mm_set1_epi16(0x1f)), 6);
    const __m128i below = _mm_and_si128(_mm_srli_epi16(pairs, 8), _mm_set1_epi16(0x3f));
    const __m128i halves = _mm_or_si128(above, below);
    const __m128i sound = _mm_and_si128(_mm_cmpeq_epi16(marks, _mm_set1_epi16((short)0x80c0)),
                                        _mm_cmpgt_epi16(halves, _mm_set1_epi16(0x7f)));

    ll_put_halves(to, width, halves);
    return (size_t)__builtin_ctz(~(uint32_t)_mm_movemask_epi8(sound)) / 2;
#else
    const uint16x8_t pairs = vreinterpretq_u16_u8(vld1q_u8(from));
    const uint16x8_t marks = vandq_u16(pairs, vdupq_n_u16(0xc0e0));
    const uint16x8_t above = vshlq_n_u16(vandq_u16(pairs, vdupq_n_u16(0x1f)), 6);
    const uint16x8_t below = vandq_u16(vshrq_n_u16(pairs, 8), vdupq_n_u16(0x3f));
    const uint16x8_t halves = vorrq_u16(above, below);
    const uint16x8_t sound = vandq_u16(vceqq_u16(marks, vdupq_n_u16(0x80c0)), vcgtq_u16(halves, vdupq_n_u16(0x7f)));
    const uint64_t faults = ~vget_lane_u64(vreinterpret_u64_u8(vmovn_u16(sound)), 0);

    ll_put_halves(to, width, halves);
    return faults ? (size_t)__builtin_ctzll(faults) / 8 : 8;
#endif
}
#endif

#ifdef LL_BLOCK
/* LL_BLOCK characters below U+0100, a byte each. All are read before one is written. */
static inline void ll_put_block(uint8_t *to, unsigned width, const uint8_t *from)
{
#if LL_BLOCK == 16
    if (width == 1) {
        memcpy(to, from, LL_BLOCK);
    } else {
#ifdef __SSE2__
        const __m128i block = _mm_loadu_si128((const __m128i *)from), zero = _mm_setzero_si128();

        ll_put_halves(to, width, _mm_unpacklo_epi8(block, zero));
        ll_put_halves(to + 8 * width, width, _mm_unpackhi_epi8(block, zero));
#else
        const uint8x16_t block = vld1q_u8(from);

        ll_put_halves(to, width, vmovl_u8(vget_low_u8(block)));
        ll_put_halves(to + 8 * width, width, vmovl_high_u8(block));
#endif
    }
#else
    uint64_t block = ll_load64(from);

    if (width == 1) {
        memcpy(to, &block, sizeof block);
    } else {
        for (unsigned at = 0; at < LL_BLOCK; at++, block >>= 8)
            ll_put(to + at * width, width, block & 0xff);
    }
#endif
}
#endif

/* Make `count` characters at `text` twice as wide, where they are. Behind them is room for LL_WIDEN_SLACK of those. */
#define LL_WIDEN_SLACK 16
static inline void ll_widen(uint8_t *text, size_t count, unsigned width)
{
#if LL_BLOCK == 16
    const size_t step = 16 / width;

    /* From the last on, a block at a time: what is not yet moved is never written over. */
    for (size_t at = (count + step - 1) / step * step; at; at -= step) {
        const uint8_t *from = text + (at - step) * width;
        uint8_t *to = text + (at - step) * 2 * width;

        if (width == 1)
            ll_put_block(to, 2, from);
        else
#ifdef __SSE2__
            ll_put_halves(to, 4, _mm_loadu_si128((const __m128i *)from));
#else
            ll_put_halves(to, 4, vreinterpretq_u16_u8(vld1q_u8(from)));
#endif
    }
#else
    for (size_t at = count; at--;)
        ll_put(text + at * 2 * width, 2 * width, ll_get(text + at * width, width));
#endif
}

#endif
