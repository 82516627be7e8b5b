"""Admission: which function an invocation is for, and whether it may have a place. The HTTP front's application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamplighter.host import invoke_api
from lamplighter.host.invocation import Invocation
from lamplighter.host.invoke_api import Refusal
from lamplighter.host.pool import Pool

if TYPE_CHECKING:
    from lamplighter.host.server import Host

EMULATOR_NAME = "function"
"""The one name AWS's emulator serves; an alias here while a host serves a single function."""
_LATEST = "$LATEST"
_ROUTES = 1_024
"""Spellings of function names kept resolved. Only known functions get in, so only qualifiers and ARN forms multiply."""


class Admission:
    """The :class:`~lamplighter.host.invocation.Application` of a host."""

    def __init__(self, host: Host, pools: dict[str, Pool]) -> None:
        self._host = host
        self._pools = pools
        self._routes: dict[tuple[str, str], tuple[Pool, str]] = {}
        self.closed = False
        """Set while the host stops: what still arrives is told to come again."""

    def invoke(self, invocation: Invocation) -> None:
        """Answer through ``invocation.reply``, exactly once."""
        route = self._routes.get((invocation.function, invocation.qualifier))
        if route is None:
            try:
                route = self._resolve(invocation.function, invocation.qualifier)
            except Refusal as refusal:
                invocation.reply(*refusal.answer)
                return
        pool, invocation.route = route
        if self.closed:
            invocation.reply(*invoke_api.shutting_down())
        elif invocation.dry_run:
            invocation.reply(204, (), b"")
        else:
            pool.acquire(invocation)

    def _resolve(self, text: str, qualifier: str) -> tuple[Pool, str]:
        """The pool, and the ARN that the function is told: as it was asked for, qualifier included."""
        config = self._host.config
        named = invoke_api.parse_function_name(text, region=config.region)
        name = named.name
        asked = qualifier or named.qualifier or ""
        pool = self._pools.get(name)
        if pool is None and name == EMULATOR_NAME and len(self._pools) == 1:
            pool = next(iter(self._pools.values()))
            name = pool.config.name
        arn = f"arn:aws:lambda:{config.region}:{config.account}:function:{name}"
        foreign = named.account is not None and named.account != config.account
        if pool is None or foreign or asked not in ("", _LATEST):
            raise Refusal(invoke_api.function_not_found(f"{arn}:{asked or _LATEST}"))
        route = pool, f"{arn}:{asked}" if asked else arn
        if len(self._routes) < _ROUTES:
            self._routes[text, qualifier] = route
        return route

    def health(self) -> tuple[bool, dict[str, object]]:
        return True, {"status": "stopping" if self.closed else "ok"}

    def ready(self) -> tuple[bool, dict[str, object]]:
        ready = not self.closed and all(pool.is_ready for pool in self._pools.values())
        functions = {name: pool.facts() for name, pool in self._pools.items()}
        return ready, {"ready": ready, "functions": functions, "enforcement": self._host.enforcement}
