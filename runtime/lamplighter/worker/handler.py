"""From a handler's name to the callable: ``package/module.function``, as Lambda reads it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamplighter.worker.context import LambdaContext

    Handler = Callable[[object, LambdaContext], object]
    """Takes the event and the context; what it returns is the result."""


class InitFault(Exception):
    """The function could not be initialised. ``error_type`` is Lambda's name for why."""

    def __init__(self, error_type: str, message: str, stack_trace: Sequence[str] = ()) -> None:
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message
        self.stack_trace = list(stack_trace)
        """As ``traceback.format_list`` writes it. Of the faults Lambda has a name for only a syntax error has one."""

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}"


def resolve(name: str) -> Handler:
    """Import the handler's module and return the attribute named.

    The last dot splits, and a slash in the module's part is a dot. Whether the attribute can be called is found out by
    calling it, as on Lambda. Raises :class:`InitFault`; ``SystemExit`` and its kind pass through.
    """
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        # Lambda's message is that of unpacking a list of one.
        raise InitFault(
            "Runtime.MalformedHandlerName", f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        )
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise InitFault(
            "Runtime.BuiltInModuleConflict", f"Cannot use built-in module {module_name} as a handler module"
        )
    import importlib  # noqa: PLC0415 - the caller may never come here

    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as fault:
        raise InitFault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {fault}") from fault
    except SyntaxError as fault:
        where = f'  File "{fault.filename}" Line {fault.lineno}\n    {fault.text}'
        raise InitFault(
            "Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {fault}", [where]
        ) from fault
    try:
        handler: Handler = getattr(module, function_name)
    except AttributeError:
        raise InitFault(
            "Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'"
        ) from None
    return handler
