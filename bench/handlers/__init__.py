"""The functions the benchmarks invoke: plain Lambda handlers, served unchanged by the host and by every peer.

Each module holds one ``handler(event, context)`` whose result carries the event's request id, so that a client can tell
its own answer from any other. They promise to need no network and no credentials of the machine. They must never import
``lamplighter`` or anything of the harness.
"""
