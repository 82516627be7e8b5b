/* The scanners of long runs, and the choice among them by what the processor can do. */

#include "scan.h"

static const uint8_t *scan_blocks(const uint8_t *from, const uint8_t *end)
{
#ifdef LL_BLOCK
    for (; end - from >= LL_BLOCK; from += LL_BLOCK) {
        const uint64_t specials = ll_specials(from);

        if (specials)
            return from + ll_first(specials);
    }
#endif
    while (from < end && !ll_is_special(*from))
        from++;
    return from;
}

#if defined(__SSE2__) && !defined(LL_NO_SIMD)
#include <immintrin.h>

__attribute__((target("avx2"))) static const uint8_t *scan_avx2(const uint8_t *from, const uint8_t *end)
{
    const __m256i quote = _mm256_set1_epi8('"'), escape = _mm256_set1_epi8('\\'), space = _mm256_set1_epi8(0x20);

    for (; end - from >= 32; from += 32) {
        const __m256i block = _mm256_loadu_si256((const __m256i *)from);
        const __m256i marks = _mm256_or_si256(_mm256_cmpeq_epi8(block, quote), _mm256_cmpeq_epi8(block, escape));
        const __m256i specials = _mm256_or_si256(marks, _mm256_cmpgt_epi8(space, block));
        const uint32_t mask = (uint32_t)_mm256_movemask_epi8(specials);

        if (mask)
            return from + __builtin_ctz(mask);
    }
    return scan_blocks(from, end);
}
#endif

const uint8_t *(*ll_scan_long)(const uint8_t *from, const uint8_t *end) = scan_blocks;
#if defined(__SSE2__) && !defined(LL_NO_SIMD)
const char *ll_scan_name = "sse2";
#elif defined(LL_BLOCK) && LL_BLOCK == 16
const char *ll_scan_name = "neon";
#elif defined(LL_BLOCK)
const char *ll_scan_name = "words";
#else
const char *ll_scan_name = "bytes";
#endif

void ll_choose_scan(void)
{
#if defined(__SSE2__) && !defined(LL_NO_SIMD)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        ll_scan_long = scan_avx2;
        ll_scan_name = "avx2";
    }
#endif
}
