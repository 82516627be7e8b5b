/*
 * Numbers: integers exact, floats rounded to the nearest as repr and json.loads have it.
 *
 * A float is w * 10^e. With w below 2^53 and |e| up to 22 both are exact as doubles, and one operation rounds right
 * (Clinger 1990). With w below 2^64 and |e| up to 27, the power of five fits 64 bits, so that product and quotient are
 * exact in 128, the quotient's remainder counting as one bit more; rounding is then done here. That is every number with
 * up to 19 digits anybody writes; the rest goes to CPython's own strtod.
 */

#include "reader.h"

#define MOST_EXACT_DIGITS 19
#define LARGEST_POWER_OF_FIVE 27

static const double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static const uint64_t powers_of_five[LARGEST_POWER_OF_FIVE + 1] = {
    1,
    5,
    25,
    125,
    625,
    3125,
    15625,
    78125,
    390625,
    1953125,
    9765625,
    48828125,
    244140625,
    1220703125,
    6103515625,
    30517578125,
    152587890625,
    762939453125,
    3814697265625,
    19073486328125,
    95367431640625,
    476837158203125,
    2384185791015625,
    11920928955078125,
    59604644775390625,
    298023223876953125,
    1490116119384765625,
    7450580596923828125,
};

/* mantissa * 2^exponent, to the nearest double, ties to even; `more`: a little above that. The mantissa has at least 54
 * bits, and the result is a normal number. */
static double rounded(uint64_t mantissa, int exponent, bool more)
{
    const int drop = 64 - __builtin_clzll(mantissa) - 53;
    const uint64_t kept = mantissa >> drop, dropped = mantissa & (((uint64_t)1 << drop) - 1);
    const uint64_t half = (uint64_t)1 << (drop - 1);
    const bool up = dropped > half || (dropped == half && (more || (kept & 1)));
    /* The implicit bit of `kept` adds 1 to the exponent; so does the carry out of rounding. */
    const uint64_t bits = ((uint64_t)(exponent + drop + 52 + 1023 - 1) << 52) + kept + up;
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* digits * 10^exponent; digits is not 0, and |exponent| at most 27. */
static double scaled(uint64_t digits, int exponent)
{
    const int shift = __builtin_clzll(digits);

    if (exponent >= 0) {
        const unsigned __int128 product = (unsigned __int128)digits * powers_of_five[exponent];
        const uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
        int up;

        if (!high) {
            up = __builtin_clzll(low);
            return rounded(low << up, exponent - up, false);
        }
        up = __builtin_clzll(high);
        return rounded((uint64_t)(product << up >> 64), exponent + 64 - up, (uint64_t)(product << up) != 0);
    }
    const uint64_t divisor = powers_of_five[-exponent];
    const int raised = __builtin_clzll(divisor);
    const uint64_t above = digits << shift, below = divisor << raised;
    /* Half of `above` is below `below`, whose top bit is set: the quotient has 63 or 64 bits. */
    const unsigned __int128 numerator = (unsigned __int128)above << 63;
    const uint64_t quotient = (uint64_t)(numerator / below);
    const bool more = numerator != (unsigned __int128)quotient * below;

    return rounded(quotient, exponent - 63 - shift + raised, more);
}

/* A terminated copy of [from, end), for the functions that want one. */
static char *copy_of(const uint8_t *from, const uint8_t *end)
{
    const size_t size = (size_t)(end - from);
    char *copy = PyMem_Malloc(size + 1);

    if (!copy) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(copy, from, size);
    copy[size] = 0;
    return copy;
}

static PyObject *slow_float(const uint8_t *from, const uint8_t *end)
{
    char *copy = copy_of(from, end);
    double value;

    if (!copy)
        return NULL;
    value = PyOS_string_to_double(copy, NULL, NULL); /* too large a number is an infinity, as for json.loads */
    PyMem_Free(copy);
    if (value == -1.0 && PyErr_Occurred())
        return NULL;
    return PyFloat_FromDouble(value);
}

static PyObject *slow_integer(struct ll_reader *reader, const uint8_t *from, const uint8_t *end)
{
    char *copy = copy_of(from, end);
    PyObject *value;

    if (!copy)
        return NULL;
    value = PyLong_FromString(copy, NULL, 10);
    PyMem_Free(copy);
    if (!value && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        ll_fault(reader, "Integer with more digits than sys.get_int_max_str_digits() allows", from);
    }
    return value;
}

static inline bool is_digit(const uint8_t *at, const uint8_t *end)
{
    return at < end && (uint8_t)(*at - '0') < 10;
}

/* Append the digits at `at` to *value, which wraps when they are too many: the place after them. */
static inline const uint8_t *read_digits(const uint8_t *at, const uint8_t *end, uint64_t *value)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    static const uint64_t tens[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};

    while (end - at >= 8) {
        const uint64_t eight = ll_load64(at);
        const unsigned count = ll_bytes_before(ll_no_digits(eight));

        if (count == 0)
            return at;
        *value = *value * tens[count] + ll_number_of(eight, count);
        at += count;
        if (count < 8)
            return at;
    }
#endif
    for (; is_digit(at, end); at++)
        *value = *value * 10 + (uint8_t)(*at - '0');
    return at;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* The place after a number with a point between its digits, all of which and what ends it are among the eight bytes at
 * `first`; NULL if there is none. `others`: those that are no digits. So few digits and so small a power are exact. */
static inline const uint8_t *short_fraction(const uint8_t *first, uint64_t eight, uint64_t others, double *value)
{
    const uint64_t behind = others & (others - 1); /* what is no digit, without the first */
    unsigned point, last;
    uint64_t before;

    if (!behind || (others & 0x80))
        return NULL;
    point = (unsigned)__builtin_ctzll(others) / 8;
    last = (unsigned)__builtin_ctzll(behind) / 8;
    if (first[point] != '.' || last - point < 2)
        return NULL;
    if (UNLIKELY((*first == '0' && point > 1) || (first[last] | 0x20) == 'e'))
        return NULL;
    before = ((uint64_t)1 << 8 * point) - 1;
    eight = (eight & before) | (eight >> 8 & ~before); /* without the point */
    *value = (double)ll_number_of(eight, last - 1) / powers_of_ten[last - point - 1];
    return first + last;
}
#endif

static const uint8_t *constant(struct ll_reader *reader, const uint8_t *at, const char *name, double value)
{
    const size_t size = strlen(name);
    PyObject *number;

    if ((size_t)(reader->end - at) < size || memcmp(at, name, size) != 0)
        return ll_fault(reader, "Expecting value", at);
    if (reader->refuse_constants)
        return ll_fault(reader, "JSON has no NaN or Infinity", at);
    number = PyFloat_FromDouble(value);
    return number && ll_push(reader, number) ? at + size : NULL;
}

const uint8_t *ll_read_number(struct ll_reader *reader, const uint8_t *at, size_t count, uint64_t digits)
{
    const uint8_t *end = reader->end, *from = at, *first;
    bool negative = false, is_float = false;
    int exponent = 0;
    PyObject *number;

    if (count) {
        first = at;
        at = read_digits(at + count, end, &digits);
    } else {
        negative = *at == '-';
        at += negative;
        first = at;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        if (LIKELY(end - at >= 8)) {
            const uint64_t eight = ll_load64(at), others = ll_no_digits(eight);
            double value;

            at = short_fraction(first, eight, others, &value);
            if (at) {
                number = PyFloat_FromDouble(negative ? -value : value);
                return LIKELY(number) && ll_push(reader, number) ? at : NULL;
            }
            at = first;
            if (others && !(others & 0x80) && *at != '0') {
                digits = ll_number_of(eight, ll_bytes_before(others));
                at += ll_bytes_before(others);
                goto integral;
            }
        }
#endif
        if (UNLIKELY(!is_digit(at, end))) {
            if (at < end && *at == 'I')
                return negative ? constant(reader, from, "-Infinity", -Py_HUGE_VAL)
                                : constant(reader, from, "Infinity", Py_HUGE_VAL);
            return constant(reader, from, "NaN", Py_NAN);
        }
        if (*at == '0') /* nothing may follow it that is part of an integer */
            at++;
        else
            at = read_digits(at, end, &digits);
    }
integral:
    count = (size_t)(at - first);
    if (at < end && *at == '.') {
        const uint8_t *fraction = at + 1;

        at = read_digits(fraction, end, &digits);
        if (LIKELY(at > fraction)) {
            exponent = (int)(fraction - at);
            count += (size_t)(at - fraction);
            is_float = true;
        } else { /* the number ends before the point */
            at--;
        }
    }
    if (at < end && (*at | 0x20) == 'e') {
        const bool is_signed = end - at > 1 && (at[1] == '-' || at[1] == '+');
        const uint8_t *digit = at + 1 + is_signed;
        int power = 0;

        if (is_digit(digit, end)) { /* else the number ends before the letter */
            for (; is_digit(digit, end); digit++)
                power = power < 100000 ? power * 10 + (*digit - '0') : power;
            exponent += is_signed && at[1] == '-' ? -power : power;
            at = digit;
            is_float = true;
        }
    }
    if (LIKELY(!is_float)) {
        if (UNLIKELY(count > 18))
            number = slow_integer(reader, from, at);
        else
            number = PyLong_FromLongLong(negative ? -(long long)digits : (long long)digits);
        return number && ll_push(reader, number) ? at : NULL;
    }
    if (UNLIKELY(count > MOST_EXACT_DIGITS)) {
        number = slow_float(from, at);
    } else if (digits < (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22) {
        const double whole = (double)digits;
        const double value = exponent < 0 ? whole / powers_of_ten[-exponent] : whole * powers_of_ten[exponent];

        number = PyFloat_FromDouble(negative ? -value : value);
    } else if (digits == 0) {
        number = PyFloat_FromDouble(negative ? -0.0 : 0.0);
    } else if (exponent >= -LARGEST_POWER_OF_FIVE && exponent <= LARGEST_POWER_OF_FIVE) {
        const double value = scaled(digits, exponent);

        number = PyFloat_FromDouble(negative ? -value : value);
    } else {
        number = slow_float(from, at);
    }
    return number && ll_push(reader, number) ? at : NULL;
}
