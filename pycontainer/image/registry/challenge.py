"""The challenges of a WWW-Authenticate header: RFC 9110, 11.6.1."""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|$)")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")
_BETWEEN = re.compile(r"[ \t,]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Challenge(NamedTuple):
    """One way to say who asks. The scheme and the parameters' names are in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse(header: str) -> list[Challenge]:
    """The challenges in their order; from the first thing that is none on, nothing is taken."""
    found: list[Challenge] = []
    position = _end(_BETWEEN, header, 0)
    while position < len(header):
        if found and (match := _PARAMETER.match(header, position)):
            quoted, plain = match[2], match[3]
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else plain
            found[-1].parameters.setdefault(match[1].lower(), value)
        elif match := _SCHEME.match(header, position):
            found.append(Challenge(match[1].lower(), {}))
            if _PARAMETER.match(header, match.end()) is None and (token := _TOKEN68.match(header, match.end())):
                match = token
        else:
            break
        position = _end(_BETWEEN, header, match.end())
    return found


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
