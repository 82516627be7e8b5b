"""What Lambda charges for calls, from one table of prices.

Source: AWS's Lambda pricing page, on-demand, us-east-1, first tier, read on 2026-11-01. The free tier, the lower tiers
of very large accounts, ephemeral storage over 512 MB and data transfer are left out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

REGION = "us-east-1"
READ_ON = "2026-11-01"
USD_PER_GB_SECOND = {"x86": 0.0000166667, "arm64": 0.0000133334}
"""Memory is billed in GB of 1,024 MB."""
USD_PER_MILLION_REQUESTS = 0.20
MILLION = 1_000_000


class Cost(NamedTuple):
    """A million calls at one memory size, all on warm environments, in USD; and what each per cent cold adds."""

    memory_mb: int
    billed_ms: int
    usd: dict[str, float]
    usd_per_percent_cold: dict[str, float]


def billed(milliseconds: float) -> int:
    """Durations are rounded up to the next millisecond, and none is free."""
    return max(1, math.ceil(milliseconds))


def million_calls(memory_mb: int, duration_ms: float, init_ms: float) -> Cost:
    """The price of a million calls that take ``duration_ms`` each.

    Since 2025-08-01 init is billed as well, with the invocation it precedes: a cold call costs ``init_ms`` more.
    """
    warm, cold = billed(duration_ms), billed(duration_ms + init_ms)
    gb = memory_mb / 1024
    usd = {kind: USD_PER_MILLION_REQUESTS + MILLION * gb * warm / 1000 * price for kind, price in _PRICES}
    more = {kind: MILLION / 100 * gb * (cold - warm) / 1000 * price for kind, price in _PRICES}
    return Cost(memory_mb, warm, usd, more)


_PRICES = tuple(USD_PER_GB_SECOND.items())
