"""One JSON object of config.json, read with its types and ranges checked: whoever reads a field reads it by this."""

from __future__ import annotations

import os

from pycontainer.errors import UsageError
from pycontainer.kernel.id_map import IdMap

Json = dict[str, object]

# Bytes, without the NUL that ends them: PATH_MAX; MAX_ARG_STRLEN of execve(2); HOST_NAME_MAX and __NEW_UTS_LEN.
LONGEST_PATH = 4095
LONGEST_ARGUMENT = 131071
LONGEST_NAME = 64
_MOST_GROUPS = 65536  # NGROUPS_MAX of setgroups(2)
_LONGEST_SHOWN = 60  # characters of a wrong value that an error repeats

_INT64 = 1 << 63
_UINT64 = 1 << 64
# because -1, all ones, means "leave it as it is" to setresuid(2), and the process is root at that moment
_LAST_ID = (1 << 32) - 2


def shown(value: str) -> str:
    """A value for an error, which has one line."""
    return repr(value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…")


def asks(value: object) -> bool:
    """Whether a value says anything: not null, 0, false, empty, or an object of nothing but these."""
    # Not by recursion, because it may be as deep as JSON can be.
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.values())
        elif value:
            return True
    return False


class Fields:
    """One JSON object; errors name the field's full path. null is what other engines write for what they leave out."""

    __slots__ = ("data", "path")

    def __init__(self, data: object, path: str) -> None:
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise UsageError("read config.json", path, "must be an object")
        self.data: Json = data
        self.path = path

    def at(self, name: str) -> str:
        """The full path of a field."""
        name = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…"
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, cause: str, hint: str = "") -> UsageError:
        """The error that a field raises."""
        return UsageError("read config.json", self.at(name), cause, hint)

    def text(self, name: str, default: str = "", *, longest: int = LONGEST_PATH) -> str:
        """A string of at most `longest` bytes, without what no string of the kernel's can hold."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        self._check_text(name, value, longest)
        return value

    def _check_text(self, name: str, value: str, longest: int) -> None:
        if "\0" in value:
            raise self.wrong(name, "has a NUL in it")
        try:
            # Bytes that are no UTF-8 stand in Python's strings as U+DC80 to U+DCFF, and so in files that it wrote.
            size = len(value) if value.isascii() else len(value.encode(errors="surrogateescape"))
        except UnicodeEncodeError:
            raise self.wrong(name, "has half a surrogate pair in it, which is no text") from None
        if size > longest:
            raise self.wrong(name, f"is longer than {longest} bytes")

    def number(self, name: str, default: int = 0, *, low: int = -_INT64, high: int = _UINT64 - 1) -> int:
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "must be a whole number")
        if not low <= value <= high:
            raise self.wrong(name, f"must be {low} to {high}")
        return value

    def optional_number(self, name: str, *, low: int = -_INT64, high: int = _UINT64 - 1) -> int | None:
        return self.number(name, low=low, high=high) if self.data.get(name) is not None else None

    def required_number(self, name: str, *, low: int = -_INT64, high: int = _UINT64 - 1) -> int:
        if self.data.get(name) is None:
            raise self.wrong(name, "is missing: a whole number")
        return self.number(name, low=low, high=high)

    def limit(self, name: str) -> int:
        """An int64 that is -1 for no limit; 0 where it is missing."""
        return self.number(name, low=-1, high=_INT64 - 1)

    def flag(self, name: str) -> bool:
        value = self.data.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def _list(self, name: str, expected: str) -> list[object]:
        value = self.data.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, f"must be {expected}")
        return value

    def texts(self, name: str, *, longest: int = LONGEST_PATH) -> list[str]:
        found: list[str] = []
        for item in self._list(name, "an array of strings"):
            if not isinstance(item, str):
                raise self.wrong(name, "must be an array of strings")
            self._check_text(name, item, longest)
            found.append(item)
        return found

    def paths(self, name: str) -> list[str]:
        found = self.texts(name)
        for path in found:
            if not path.startswith("/"):
                raise self.wrong(name, f"must be absolute paths, not {shown(path)}")
            if not os.path.normpath(path).strip("/"):
                raise self.wrong(name, f"{shown(path)} is the root itself")
        return found

    def id(self, name: str) -> int:
        return self.number(name, low=0, high=_LAST_ID)

    def ids(self, name: str) -> list[int]:
        found: list[int] = []
        items = self._list(name, "an array of whole numbers")
        if len(items) > _MOST_GROUPS:
            raise self.wrong(name, f"must be at most {_MOST_GROUPS} ids")
        for item in items:
            if not isinstance(item, int) or isinstance(item, bool):
                raise self.wrong(name, "must be an array of whole numbers")
            if not 0 <= item <= _LAST_ID:
                raise self.wrong(name, f"must be ids from 0 to {_LAST_ID}")
            found.append(item)
        return found

    def object(self, name: str) -> Fields:
        return Fields(self.data.get(name), self.at(name))

    def objects(self, name: str) -> list[Fields]:
        items = self._list(name, "an array")
        return [Fields(item, f"{self.at(name)}[{position}]") for position, item in enumerate(items)]

    def strings(self, name: str, *, longest: int = LONGEST_PATH) -> dict[str, str]:
        """An object whose values are strings."""
        fields = self.object(name)
        for key in fields.data:
            self._check_text(name, key, LONGEST_PATH)
        return {key: fields.text(key, longest=longest) for key in fields.data}

    def id_maps(self, name: str) -> list[IdMap]:
        return [extent.id_map() for extent in self.objects(name)]

    def id_map(self) -> IdMap:
        """This object as one extent of an id map: user_namespaces(7)."""
        inside, outside = self.id("containerID"), self.id("hostID")
        size = self.required_number("size", low=1, high=_LAST_ID + 1)
        if max(inside, outside) + size > _LAST_ID + 1:
            raise self.wrong("size", "reaches beyond the last id")
        return IdMap(inside, outside, size)
