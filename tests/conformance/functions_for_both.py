"""Functions that awslambdaric and Lamplighter both run: the event's ``do`` says which."""

import asyncio
import collections
import decimal
import enum
import json
import logging
import os
import sys
import typing

D = decimal.Decimal
logger = logging.getLogger("app")


class Point(typing.NamedTuple):
    x: int
    y: object


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 3


class OrderRefused(Exception):
    def __init__(self, code):
        super().__init__(code, "order refused")
        self.code = code

    def __str__(self):
        return f"refused with {self.code}\nand a second line"


class Text(str):
    pass


circular = []
circular.append({"again": circular})


def deep(n):
    if n == 0:
        raise ValueError("at the bottom")
    return deep(n - 1)


def chained():
    try:
        {}["missing"]
    except KeyError as cause:
        raise OrderRefused(7) from cause


def grouped():
    raise ExceptionGroup("two at once", [ValueError("one"), OSError(2, "No such file", "/nowhere")])


def in_a_lambda():
    divide = {"by": lambda number: 1 / number}
    return divide["by"](0)


def from_a_string():
    exec(compile("def f():\n    raise RuntimeError('from nowhere')\nf()", "<made up>", "exec"))


RESULTS = {
    "none": None,
    "true": True,
    "int": 7,
    "big int": 10**40,
    "float": 0.1,
    "exponent": 1e16,
    "nan": float("nan"),
    "infinities": [float("inf"), -float("inf"), {float("nan"): float("inf")}],
    "string": "plain",
    "unicode": {"ключ": 'значение \u2028 \U0001f600 \x7f \x00 " \\ / é'},
    "empty": [[], {}, "", ()],
    "nested": {"statusCode": 200, "headers": {"a": "b"}, "body": json.dumps({"x": [1, 2, {"y": None}]})},
    "keys": {0: 1, 2.5: 2, None: 3, True: 4, "s": 5},
    "decimal": D("1.10"),
    "decimals": {"price": D("1.10"), "list": [D("1E+3"), D("0E-10"), D("-0"), D("NaN"), D("-Infinity")]},
    "named tuple": Point(1, [Point(2, D("3.50"))]),
    "int enum": {"level": Level.LOW, Level.LOW: 1},
    "str subclass": {Text("é"): Text("ü")},
    "ordered": collections.OrderedDict(b=1, a=collections.Counter("aab")),
    "bytes": b"\x00\xffraw",
    "bytes inside": {"a": [b"text", {b"key": b"\xc3\xa9"}]},
    "bad bytes inside": [b"\xff"],
    "set": {"a": {1}},
    "enum": Colour.RED,
    "object": Point,
    "circular": circular,
    "bad key": {(1, 2): 3},
    "bytearray": bytearray(b"x"),
    "surrogate in error": {"a": {"\u20ac"}},
}


def describe(context):
    return {
        "repr": repr(context),
        "vars": sorted(vars(context)),
        "type": type(context).__name__,
        "client": repr(context.client_context),
        "custom": context.client_context and context.client_context.custom,
        "env": context.client_context and context.client_context.env,
        "title": context.client_context and context.client_context.client and context.client_context.client.app_title,
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "w3c": context.w3c(),
        "time": 0 < context.get_remaining_time_in_millis() <= 60_000,
        "time type": type(context.get_remaining_time_in_millis()).__name__,
        "facts": [
            context.aws_request_id,
            context.function_name,
            context.function_version,
            context.memory_limit_in_mb,
            context.log_group_name,
            context.log_stream_name,
            context.invoked_function_arn,
            context.tenant_id,
        ],
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }


def log_levels(context):
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)("%s says %d: é \U0001f600", level, 5)
    logger.log(35, "between the levels")
    logging.getLogger().warning("root")


def log_shapes(context):
    logger.error({"a": 1, "b": [None, D("1.5")], "é": Colour.RED})
    logger.error("with extras", extra={"order": 5, "none": None, "obj": Colour.RED, "level": "mine", "tenantId": "x"})
    logger.error("two\nlines\r\nand a tab\t.")
    logger.error("")
    logger.error(None)
    try:
        deep(1)
    except ValueError:
        logger.exception("caught %s", "it")
        logger.error({"with": "exc"}, exc_info=True)
        logger.error("stack", stack_info=False)
    context.log("no newline")
    context.log({"not": "a string"})
    context.log("\n")
    print("printed", 1, None)
    print("no end", end="")
    sys.stderr.write("to stderr\n")
    sys.stdout.writelines(["a\n", "b\n"])


def log_in_a_task(context):
    async def inner():
        logger.error("from a coroutine")

    asyncio.run(inner())


def log_badly(context):
    # Nothing swallows this: the two sides' own frames differ, so it is not let out.
    try:
        logger.error("%d", "not a number")
    except TypeError as fault:
        return str(fault)


def log_without_handlers(context):
    root = logging.getLogger()
    kept, root.handlers = root.handlers, []
    try:
        context.log("still heard\n")
    finally:
        root.handlers = kept


ACTIONS = {
    "describe": describe,
    "log levels": log_levels,
    "log shapes": log_shapes,
    "log in a task": log_in_a_task,
    "log badly": log_badly,
    "log without handlers": log_without_handlers,
    "raise": lambda context: deep(3),
    "raise chained": lambda context: chained(),
    "raise group": lambda context: grouped(),
    "raise in a lambda": lambda context: in_a_lambda(),
    "raise from a string": lambda context: from_a_string(),
    "raise without message": lambda context: deep_call(KeyError()),
    "raise key error": lambda context: {}["é"],
    "raise unicode": lambda context: deep_call(ValueError("ключ \U0001f600\n  indented\n")),
    "raise deep down": lambda context: deep(60),
    "set attribute": lambda context: setattr(context, "own", 1) or vars(context)["own"],
}


def deep_call(exception):
    raise exception


def handler(event, context):
    if isinstance(event, dict) and "do" in event:
        return ACTIONS[event["do"]](context)
    if isinstance(event, dict) and "result" in event:
        return RESULTS[event["result"]]
    return {"echo": event, "type": type(event).__name__}
