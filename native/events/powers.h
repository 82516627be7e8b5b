/* Powers of ten as 128-bit fractions: what turns decimal digits into a double, and a double into its digits. */

#ifndef LAMPLIGHTER_POWERS_H
#define LAMPLIGHTER_POWERS_H

#include <stdint.h>

#define LL_POWERS_LOW (-342)
#define LL_POWERS_HIGH 324

extern const uint64_t ll_powers[LL_POWERS_HIGH - LL_POWERS_LOW + 1][2];

#endif
