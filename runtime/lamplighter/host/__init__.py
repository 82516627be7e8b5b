"""The host: serves the Lambda Invoke API on one machine, from workers forked inside enforced limits.

For: the HTTP front, admission, the pool of execution environments of each function, deadlines, logs and reports; and
the one process that joins template and sandbox. Promises: each accepted invocation gets exactly one answer; nothing of
a function outlives its environment, and nothing of the host outlives the host. Must never: run user code in its own
process, block its event loop on a function, or import ``cli`` or ``bootstrap``.
"""
