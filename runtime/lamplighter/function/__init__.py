"""What a function is: its configuration, where its code lies, and the environment variables its sandbox has.

This room turns what an operator wrote (a table of ``lamplighter.toml``, or options of ``lamplighter serve``) into a
:class:`~lamplighter.function.config.FunctionConfig` that every other room may believe. It promises that such a value
is inside Lambda's ranges, that its paths are absolute and were there when it was made, and that whatever is wrong is
said all at once, by field name, value and what is allowed. It must never start a process, import a function's code, or
hold anything that changes while the host runs; and it imports no other room of the package.
"""
