"""The benchmarks: what Lamplighter promises about speed and density, measured beside its peers on the same machine.

This room starts the host and its peers as ordinary processes, talks to all of them with one client over loopback, and
writes one table of bars: ours, the peer's, their ratio, the bar, reached or not. It promises that every comparison is a
same-run ratio of medians, with the two sides interleaved, and that every process it starts is gone when it ends. It
must never import the ``lamplighter`` package (it sees the host only as a client and an operator would; only the codecs'
suites import ``lamplighter.events``, which is what they measure), never reach beyond loopback while it measures, and
never report a figure that was not measured in the run that reports it.
"""
