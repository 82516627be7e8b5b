"""What a host stands on before it serves anything: its directory, its cgroups, its lifeline, and the survey of them.

``lamplighter serve`` and ``lamplighter doctor`` both start here, so that what the one prints is what the other does.
"""

from __future__ import annotations

import os
import socket

from lamplighter.function.limits import DEFAULT_TMP_STORE
from lamplighter.host.workspace import Workspace, default_base, remove_leftovers
from lamplighter.sandbox import survey
from lamplighter.sandbox.hierarchy import Hierarchy, own_cgroups
from lamplighter.sandbox.native import adopt_orphans
from lamplighter.sandbox.nest import Nest, keeper_program
from lamplighter.sandbox.survey import Survey
from lamplighter.sandbox.users import available


class Ground:
    """Made once; :meth:`close` gives everything back. Raises ``OSError`` where not even a directory can be had."""

    def __init__(self, tmp_store: str = DEFAULT_TMP_STORE) -> None:
        base, bases = default_base(), own_cgroups()
        self.said = remove_leftovers(base, bases)
        """A line for each thing that a dead host had left."""
        self.workspace = Workspace(base)
        no_cgroups = ""
        try:
            self.hierarchy = Hierarchy(bases, self.workspace.name)
        except OSError as fault:
            no_cgroups = fault.strerror or str(fault)
            self.hierarchy = Hierarchy({}, self.workspace.name)
        self.no_cgroups = no_cgroups
        self.keeper_program = keeper_program()
        # A socket, because a pipe can be opened anew through /proc, for writing too.
        ours, theirs = socket.socketpair()
        self.lifeline = theirs.fileno()
        self._lifeline: tuple[socket.socket, ...] = (ours, theirs)
        slot = self.workspace.claim_slot()
        staging = self.workspace.staging()
        self.nests, self.no_nests = Nest.best(
            staging=staging, slot=slot, program=self.keeper_program, lifeline=self.lifeline
        )
        no_networks = "" if self.nests == "none" else self._no_networks(staging, slot)
        self.workspace.release_slot(slot)
        users, no_users = 0, ""
        if self.nests == "none":
            adopt_orphans()
            users, no_users = available()
        found = survey.Ground(
            self.hierarchy,
            no_cgroups,
            self.nests,
            self.no_nests,
            staging,
            users,
            no_users,
            no_networks,
            tmp_store,
        )
        self.survey = Survey(found)

    def _no_networks(self, staging: str, slot: int) -> str:
        return Nest.obstacle(
            staging=staging,
            slot=slot,
            program=self.keeper_program,
            lifeline=self.lifeline,
            kind=self.nests,
            own_network=True,
        )

    def let_go(self) -> None:
        """Whatever is left in a nest ends here at the latest: its keeper reads end of file."""
        for end in self._lifeline:
            end.close()

    def close(self) -> bool:
        """Give everything back. False if a cgroup could not be removed."""
        self.let_go()
        os.close(self.keeper_program)
        removed = self.hierarchy.remove()
        self.workspace.close()
        return removed
