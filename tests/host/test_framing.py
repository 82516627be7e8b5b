"""Heads as they are written: the same bytes whether their headers were put into form once or at each answer."""

from __future__ import annotations

from typing import Any

import pytest

from lamplighter.host.framing import CLOSE, Standing, Unanswerable, render_head
from lamplighter.host.invocation import Header

PREAMBLE = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nx-amzn-RequestId: "
HEADERS: tuple[Header, ...] = ((b"Content-Type", b"application/json"), (b"X-Amz-Executed-Version", b"$LATEST"))


@pytest.mark.parametrize("status", [200, 204, 500])
def test_standing_headers_are_written_as_any_others(status: int) -> None:
    plain = render_head(status, PREAMBLE, "an-id", HEADERS, 12, CLOSE)
    assert render_head(status, PREAMBLE, "an-id", Standing(*HEADERS), 12, CLOSE) == plain
    assert b"\r\nContent-Type: application/json\r\nX-Amz-Executed-Version: $LATEST\r\n" in plain


def test_they_are_a_tuple_of_headers_and_what_is_made_of_them_is_no_standing_one() -> None:
    standing = Standing(*HEADERS)
    assert standing == HEADERS
    more = (*standing, (b"X-Amz-Log-Result", b"eA=="))
    head = render_head(200, PREAMBLE, "an-id", more, 2, b"")
    assert head.endswith(b"$LATEST\r\nX-Amz-Log-Result: eA==\r\n\r\n")


@pytest.mark.parametrize("header", [(b"X", b"a\r\nb"), (b"X\n", b"a"), ("X", b"a"), (b"X",)])
def test_what_http_cannot_carry_is_no_standing_header_either(header: Any) -> None:
    with pytest.raises(Unanswerable):
        Standing(header)
    with pytest.raises(Unanswerable):
        render_head(200, PREAMBLE, "an-id", (header,), 0, b"")
