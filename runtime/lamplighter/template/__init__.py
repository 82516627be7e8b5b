"""The template: a process that has run a function's init phase once, and forks workers from it.

For: warming the handler with recorded events, finding what a fork would break, the hooks around the snapshot, freezing,
and the loop that forks on request. Promises: a process that is not safe to fork is never forked, and says exactly why;
a worker shares nothing that must differ (entropy, file offsets, log stream). Works in any process, sandboxed or not,
and so must never know how a child is placed in its limits: the caller hands in ``fork``. Standard library only: it runs
on AWS too.
"""
