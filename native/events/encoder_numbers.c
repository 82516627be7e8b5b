/*
 * Numbers as Python's repr() writes them.
 *
 * A double becomes the shortest digits that read back as it, and of those the nearest: the algorithm is Schubfach
 * (Raffaello Giulietti, "The Schubfach way to render doubles", 2020), which needs three 64 x 128 bit products and one
 * table. Where the compiler has no 128-bit integers, Python's own routine does it.
 */

#include <math.h>

#include "encoder.h"
#include "powers.h"

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445"
                            "46474849505152535455565758596061626364656667686970717273747576777879808182838485868788899091"
                            "9293949596979899";

static inline void write_pair(char *at, unsigned number)
{
    memcpy(at, pairs + 2 * number, 2);
}

static inline void write_eight(char *at, uint32_t number)
{
    uint32_t high = number / 10000, low = number % 10000;
    write_pair(at, high / 100);
    write_pair(at + 2, high % 100);
    write_pair(at + 4, low / 100);
    write_pair(at + 6, low % 100);
}

/* Fewer than nine digits, without leading zeros. */
static inline char *write_few(char *at, uint32_t number)
{
    if (number < 100) {
        if (number < 10) {
            *at = (char)('0' + number);
            return at + 1;
        }
        write_pair(at, number);
        return at + 2;
    }
    char digits[16] = {0};
    write_eight(digits, number);
    int zeros = number < 10000 ? number < 1000 ? 5 : 4 : number < 1000000 ? number < 100000 ? 3 : 2 : number < 10000000;
    memcpy(at, digits + zeros, 8); /* what lies past the digits is overwritten, or room */
    return at + 8 - zeros;
}

static inline char *write_unsigned(char *at, uint64_t number)
{
    if (number < 100000000)
        return write_few(at, (uint32_t)number);
    uint64_t high = number / 100000000;
    uint32_t low = (uint32_t)(number % 100000000);
    if (high < 100000000) {
        at = write_few(at, (uint32_t)high);
    } else {
        at = write_few(at, (uint32_t)(high / 100000000));
        write_eight(at, (uint32_t)(high % 100000000));
        at += 8;
    }
    write_eight(at, low);
    return at + 8;
}

char *ll_write_int64(char *at, int64_t value)
{
    uint64_t number = (uint64_t)value;
    if (value < 0) {
        *at++ = '-';
        number = 0 - number;
    }
    return write_unsigned(at, number);
}

#if defined(__SIZEOF_INT128__) && !defined(LL_NO_INT128)

typedef unsigned __int128 uint128;

struct decimal {
    uint64_t digits;
    int exponent;
};

/* The upper 64 of the 192 bits of power x factor; the lowest bit tells whether anything was cut off. */
static inline uint64_t round_to_odd(uint64_t high, uint64_t low, uint64_t factor)
{
    uint128 sum = (uint128)high * factor + (uint64_t)((uint128)low * factor >> 64);
    return (uint64_t)(sum >> 64) | ((uint64_t)sum > 1);
}

static inline int floor_log2_of_power_of_ten(int exponent)
{
    return exponent * 1741647 >> 19;
}

/* The shortest digits of significand x 2^exponent; names as in section 9 of the paper. */
static struct decimal shortest(uint64_t significand, int exponent, int lower_is_closer)
{
    int is_even = (significand & 1) == 0;
    uint64_t middle = 4 * significand;
    int k = (exponent * 1262611 - (lower_is_closer ? 524031 : 0)) >> 22;
    int h = exponent + floor_log2_of_power_of_ten(-k) + 1;
    const uint64_t *power = ll_powers[-k - LL_POWERS_LOW];
    /* The table is rounded down; the algorithm wants inexact powers rounded up. */
    uint64_t inexact = -k < 0 || -k > 55;
    uint64_t low = power[1] + inexact, high = power[0] + (low < inexact);
    uint64_t v = round_to_odd(high, low, middle << h);
    uint64_t lower = round_to_odd(high, low, (middle - 2 + (uint64_t)lower_is_closer) << h) + (uint64_t)!is_even;
    uint64_t upper = round_to_odd(high, low, (middle + 2) << h) - (uint64_t)!is_even;
    uint64_t s = v / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
        int below = lower <= 40 * tens, above = 40 * tens + 40 <= upper;
        if (below != above)
            return (struct decimal){tens + (uint64_t)above, k + 1};
    }
    int below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above)
        return (struct decimal){s + (uint64_t)above, k};
    uint64_t half = 4 * s + 2;
    return (struct decimal){s + (v > half || (v == half && (s & 1))), k};
}

static inline void strip_zeros(struct decimal *number, uint64_t power, int zeros)
{
    if (number->digits % power == 0) {
        number->digits /= power;
        number->exponent += zeros;
    }
}

/* As repr() lays digits out: with an exponent outside 1e-4 to 1e16, otherwise with a point and a digit after it. */
static char *lay_out(char *at, struct decimal number)
{
    /* Up to 16 zeros stand at the end; seldom none, and often most of 16. */
    strip_zeros(&number, 100000000, 8);
    strip_zeros(&number, 100000000, 8);
    strip_zeros(&number, 10000, 4);
    strip_zeros(&number, 100, 2);
    strip_zeros(&number, 10, 1);
    char digits[32];
    int count = (int)(write_unsigned(digits, number.digits) - digits);
    int point = count + number.exponent;
    if (point > 0 && point <= 16) {
        if (point >= count) {
            memcpy(at, digits, 24);
            memset(at + count, '0', (size_t)(point - count));
            memcpy(at + point, ".0", 2);
            return at + point + 2;
        }
        memcpy(at, digits, 24);
        at[point] = '.';
        memcpy(at + point + 1, digits + point, 24 - 8);
        return at + count + 1;
    }
    if (point > -4 && point <= 0) {
        memcpy(at, "0.000", 5);
        memcpy(at + 2 - point, digits, 24);
        return at + 2 - point + count;
    }
    *at++ = digits[0];
    if (count > 1) {
        *at++ = '.';
        memcpy(at, digits + 1, 24);
        at += count - 1;
    }
    *at++ = 'e';
    int exponent = point - 1;
    *at++ = exponent < 0 ? '-' : '+';
    unsigned size = (unsigned)(exponent < 0 ? -exponent : exponent);
    if (size >= 100) {
        *at++ = (char)('0' + size / 100);
        size %= 100;
    }
    write_pair(at, size);
    return at + 2;
}

static char *write_finite(char *at, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (bits >> 63)
        *at++ = '-';
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int biased = (int)(bits >> 52 & 0x7ff);
    double size = fabs(value);
    if (size < 9007199254740992.0 && size == (double)(uint64_t)size) {
        at = write_unsigned(at, (uint64_t)size);
        memcpy(at, ".0", 2);
        return at + 2;
    }
    if (biased == 0)
        return lay_out(at, shortest(fraction, -1074, 0));
    return lay_out(at, shortest(fraction | UINT64_C(1) << 52, biased - 1075, fraction == 0 && biased > 1));
}

#else

static char *write_finite(char *at, double value)
{
    char *text = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (text == NULL)
        return NULL;
    size_t size = strlen(text);
    memcpy(at, text, size);
    PyMem_Free(text);
    return at + size;
}

#endif

char *ll_write_double(char *at, double value)
{
    if (isfinite(value))
        return write_finite(at, value);
    const char *text = isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
    size_t size = strlen(text);
    memcpy(at, text, size);
    return at + size;
}
