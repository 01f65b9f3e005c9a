"""The challenges of a WWW-Authenticate header, RFC 9110, 11.6.1, and the scopes of Docker's token specification."""

from __future__ import annotations

import re
from collections.abc import Iterable
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


def merge_scopes(wanted: Iterable[str], challenged: str) -> list[str]:
    """What a token is asked for: our own scopes and a challenge's, each resource once with all of its actions.

    Where there are none of our own, it is what the challenge says, as it says it.
    """
    found: dict[str, list[str]] = {}
    for scope in wanted:
        resource, _, actions = scope.rpartition(":")
        found[resource] = actions.split(",")
    if not found:
        return [challenged] if challenged else []
    for scope in challenged.split():
        resource, _, actions = scope.rpartition(":")
        known = found.setdefault(resource, [])
        known += [action for action in actions.split(",") if action not in known]
    return [f"{resource}:{','.join(actions)}" if resource else ",".join(actions) for resource, actions in found.items()]


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
