"""The bootstrap: a runtime interface client, for every place where ``AWS_LAMBDA_RUNTIME_API`` is set.

This room takes awslambdaric's place: it fetches events over the Runtime API, runs them through
:func:`lamplighter.worker.loop.serve`, and posts the answers; on AWS Lambda, in a container image, behind the emulator.
It promises that an invocation is answered once and never lost, that no answer of a server makes it hang or crash, and
that its start adds next to nothing to Python's own. It imports the standard library as late as it can,
:mod:`lamplighter.worker` and, where there is a snapshot or a fork, :mod:`lamplighter.template`. It must never import
the host or the sandbox, interpret an event, or put a time limit on waiting for one.
"""

VERSION = "0.1.0"
"""The package's; read from its metadata it would cost more than the rest of the start."""
