"""Environment variables as the command line gives them."""

from __future__ import annotations

import os

from pycontainer.errors import UsageError


def variables(files: list[str], assignments: list[str]) -> list[str]:
    """What --env-file and -e give, in order, without the caller's environment: KEY=VALUE, or KEY to take it away.

    KEY alone gets the value that the caller has; it stays alone where the caller has none. Raises UsageError.
    """
    lines = []
    for path in files:
        try:
            with open(path, encoding="utf-8-sig") as file:
                # Not splitlines(), because that also splits values at form feeds and other separators of Unicode's.
                content = file.read().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            cause = (error.strerror or "").lower() if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError("read --env-file", path, cause, "one KEY=VALUE a line; # begins a comment") from None
        for number, line in enumerate(content, 1):
            line = line.lstrip()
            if not line or line.startswith("#"):
                continue
            key = line.partition("=")[0]
            if not key or key != key.strip() or any(character.isspace() for character in key):
                raise UsageError("read --env-file", f"{path}:{number}", f"not a variable name: {key!r}")
            if "=" not in line and key not in os.environ:
                # Only -e KEY takes a variable of the image's away.
                continue
            if "\0" in line:
                raise UsageError("read --env-file", f"{path}:{number}", "a NUL byte, which no variable can hold")
            lines.append(line)
    found = []
    for text in [*lines, *assignments]:
        key, equals, _ = text.partition("=")
        if not key:
            raise UsageError("--env", repr(text), "names no variable", "-e KEY=VALUE")
        found.append(f"{key}={os.environ[key]}" if not equals and key in os.environ else text)
    return found
