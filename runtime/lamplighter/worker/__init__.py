"""The worker: what runs a function's code, one invocation at a time.

This room resolves a handler, sets up logging, waits for events on a transport, calls the handler and answers; in the
template before the freeze, in a forked worker, inside a sandbox, and on AWS itself. It promises that a handler cannot
tell it from the Python runtime of AWS Lambda: the same context object, the same bytes out, the same errors, the same
log lines, and the same exit status when the handler ends the process.

It imports the standard library and :mod:`lamplighter.events`, and what is slow to import only once it is needed. It
must never know how it was started, what limits it runs under or who is at the other end of its transport; it must
never catch more than ``Exception`` from user code, install a signal handler, or start a thread.
"""
