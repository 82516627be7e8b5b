"""The sandbox: what a function may use and see, enforced by the kernel.

For: cgroup leaves with limits, nests (user, pid, mount and ipc namespaces with a root of their own), the processes in
them, and the fork of a worker. Promises: every limit it reports is held by the kernel, or it says that it is not; every
object here has an explicit end and leaves nothing behind. Must never: know about functions, events or HTTP, or import a
sibling room.
"""
