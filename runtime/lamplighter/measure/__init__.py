"""What a function's own figures are: its starts, its memory, its price, and what its imports cost.

This room runs the host, the runtime interface client and Python itself as ordinary processes, and looks at them from
outside, as a caller would; then it writes what it saw as values, as JSON, and as a page that needs nothing but itself.
It promises that every figure comes from the run that reports it, that kinds of starts that are compared take turns, and
that every process it started is gone when it ends. It must never be imported by what serves functions, nor reach beyond
the loopback, nor measure with settings that a user of the host could not give.
"""
