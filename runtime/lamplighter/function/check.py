"""Reading one table of a configuration field by field, keeping every complaint until the end.

Each method of :class:`Fields` takes one field, returns its value where that is allowed and otherwise notes a violation
and returns something harmless of the right type, so that reading goes on and one error can tell everything.
"""

from __future__ import annotations

import difflib
import os
import re
import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from lamplighter.function.limits import (
    ENVIRONMENT_BYTES_MAX,
    ENVIRONMENT_KEY_PATTERN,
    EVENT_BYTES_MAX,
    RESERVED_KEYS,
    Range,
)

_SHOWN: Final = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 100

_KEYS_ALLOWED = "a letter followed by at least one letter, digit or underscore"


class ConfigError(ValueError):
    """A configuration that cannot be served.

    ``violations`` holds one line per fault: the function and the field, the value found, and what is allowed. The
    error's own text is those lines.
    """

    def __init__(self, violations: Sequence[str]) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join(self.violations))


class Fields:
    """One table of a configuration. ``where`` opens every complaint; relative paths start at ``directory``."""

    def __init__(self, where: str, given: Mapping[str, object], directory: str) -> None:
        self.where = where
        self.given = given
        self.directory = directory
        self.violations: list[str] = []

    def refuse(self, text: str) -> None:
        """Note a fault in words."""
        self.violations.append(f"{self.where}: {text}")

    def _refuse_value(self, field: str, value: object, allowed: str) -> None:
        self.refuse(f"{field} is {_SHOWN.repr(value)}; allowed: {allowed}")

    def only(self, known: Sequence[str]) -> None:
        """Refuse every field that is not one of ``known``, and suggest the nearest that is."""
        for field in self.given:
            if field not in known:
                near = difflib.get_close_matches(field.lower(), known, n=1)
                advice = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(known)}"
                self.refuse(f"{_SHOWN.repr(field)} is not a field; {advice}")

    def table(self, field: str) -> Mapping[str, object]:
        """A table of fields; empty where it is absent."""
        value = self.given.get(field, {})
        if isinstance(value, dict):
            return value
        self._refuse_value(field, value, "a table")
        return {}

    def whole(self, field: str, allowed: Range, highest: int | None = None, because: str = "") -> int:
        """A whole number inside ``allowed``, or up to ``highest`` where another field lowers it."""
        value = self.given.get(field, allowed.default)
        high = allowed.high if highest is None else highest
        # A bool is an int to Python; `memory_mb = true` is still a mistake.
        if isinstance(value, int) and not isinstance(value, bool) and allowed.low <= value <= high:
            return value
        unit = f" ({allowed.unit}{because})" if allowed.unit else because
        self._refuse_value(field, value, f"a whole number from {allowed.low} to {high}{unit}")
        return allowed.default

    def seconds(self, field: str, default: float) -> float:
        """A finite number of seconds above 0."""
        value = self.given.get(field, default)
        # Infinity, NaN and whole numbers beyond a float's largest all fail the comparison.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max:
            return float(value)
        self._refuse_value(field, value, "a number above 0 (seconds)")
        return default

    def flag(self, field: str) -> bool:
        """True or false, false by default."""
        value = self.given.get(field, False)
        if isinstance(value, bool):
            return value
        self._refuse_value(field, value, "true or false")
        return False

    def text(self, field: str, pattern: re.Pattern[str], allowed: str, default: str | None = None) -> str:
        """A string that matches ``pattern`` as a whole; needed where there is no default."""
        value = self.given.get(field, default)
        if value is None and field not in self.given:
            self.refuse(f"{field} is missing; allowed: {allowed}")
            return ""
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self._refuse_value(field, value, allowed)
        return ""

    def choice(self, field: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        value = self.given.get(field, default)
        if isinstance(value, str) and value in choices:
            return value
        self._refuse_value(field, value, " or ".join(repr(choice) for choice in choices))
        return default

    def words(self, field: str, choices: Sequence[str]) -> tuple[str, ...]:
        """Any of a few words, in a list."""
        values = self._list(field, "words")
        for value in values:
            if value not in choices:
                self._refuse_value(field, value, ", ".join(choices))
        return tuple(str(value) for value in values)

    def folder(self, field: str, default: str) -> str:
        """A directory that exists, made absolute."""
        return self._folder(field, self.given.get(field, default))

    def folders(self, field: str, most: int) -> tuple[str, ...]:
        """Up to ``most`` directories that exist, made absolute."""
        values = self._list(field, "directories")
        if len(values) > most:
            self.refuse(f"{field} has {len(values)} entries; allowed: at most {most}")
        return tuple(self._folder(field, value) for value in values)

    def event_files(self, field: str) -> tuple[str, ...]:
        """Files that exist and hold JSON, made absolute."""
        return tuple(self._event_file(field, value) for value in self._list(field, "event files"))

    def variables(self, field: str) -> dict[str, str]:
        """Environment variables as Lambda allows them. Values are never shown: they are often secrets."""
        given = self.given.get(field, {})
        if not isinstance(given, Mapping):
            self._refuse_value(field, given, "a table of names and strings")
            return {}
        variables: dict[str, str] = {}
        for key, value in given.items():
            if not isinstance(key, str) or (key not in RESERVED_KEYS and not ENVIRONMENT_KEY_PATTERN.fullmatch(key)):
                self.refuse(f"{field} has the key {_SHOWN.repr(key)}; allowed: {_KEYS_ALLOWED}")
            elif key in RESERVED_KEYS:
                self.refuse(f"{field} has the key {key!r}; allowed: any key that Lambda does not reserve for itself")
            elif not isinstance(value, str):
                self.refuse(f"{field} has a value of type {type(value).__name__} for {key!r}; allowed: a string")
            elif "\0" in value or not _is_unicode(value):
                self.refuse(f"{field} has a value for {key!r} that is not text; allowed: UTF-8 without NUL")
            else:
                variables[key] = value
        size = len(msgspec.json.encode(variables))
        if size > ENVIRONMENT_BYTES_MAX:
            self.refuse(
                f"{field} is {size} bytes long, measured as JSON without spaces; "
                f"allowed: at most {ENVIRONMENT_BYTES_MAX} bytes, names and values together"
            )
        return variables

    def _list(self, field: str, of: str) -> Sequence[object]:
        values = self.given.get(field, ())
        if isinstance(values, list | tuple):
            return values
        self._refuse_value(field, values, f"a list of {of}")
        return ()

    def _path(self, field: str, value: object, allowed: str) -> str:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str) and value and "\0" not in value:
            return os.path.abspath(os.path.join(self.directory, value))
        self._refuse_value(field, value, allowed)
        return ""

    def _folder(self, field: str, value: object) -> str:
        path = self._path(field, value, "a directory that exists")
        if path and not os.path.isdir(path):
            self._refuse_value(field, path, "a directory that exists")
        return path

    def _event_file(self, field: str, value: object) -> str:
        allowed = "a file that holds one JSON event"
        path = self._path(field, value, allowed)
        if not path:
            return path
        try:
            with open(path, "rb") as file:
                event = file.read(EVENT_BYTES_MAX + 1)
        except OSError as fault:
            self.refuse(f"{field} is {path!r}, which cannot be read ({fault.strerror}); allowed: {allowed}")
            return path
        if len(event) > EVENT_BYTES_MAX:
            self.refuse(f"{field} is {path!r}, which is too large; allowed: at most {EVENT_BYTES_MAX} bytes of JSON")
            return path
        try:
            msgspec.json.decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            self.refuse(f"{field} is {path!r}, which is not JSON ({fault}); allowed: {allowed}")
        return path


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
