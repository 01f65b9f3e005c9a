"""What a user types to leave a terminal without ending what runs in it: ctrl-p ctrl-q, as in docker."""

from __future__ import annotations

from pycontainer.errors import UsageError

DEFAULT = "ctrl-p,ctrl-q"


class Detached(Exception):
    """The user has typed the keys."""


class DetachKeys:
    """Watches for one sequence of keys in what is typed."""

    def __init__(self, text: str | None) -> None:
        """`text` as docker has it: keys separated by commas, each a character or ctrl- and one. Raises UsageError."""
        self._keys = b"".join(_key(text, word) for word in (text if text is not None else DEFAULT).split(","))
        self._typed = 0

    def take(self, typed: bytes) -> bytes:
        """What is to be passed on of `typed`: keys that may become the sequence wait for the next. Raises Detached."""
        passed = bytearray()
        for byte in typed:
            if self._keys and byte == self._keys[self._typed]:
                self._typed += 1
                if self._typed == len(self._keys):
                    raise Detached
                continue
            passed += self._keys[: self._typed]
            self._typed = 0
            if self._keys and byte == self._keys[0]:
                self._typed = 1
                if len(self._keys) == 1:
                    raise Detached
                continue
            passed.append(byte)
        return bytes(passed)


def _key(text: str | None, word: str) -> bytes:
    if text == "":
        # An empty sequence: nothing detaches.
        return b""
    if len(word) == 1 and word.isascii():
        return word.encode()
    name = word.lower().removeprefix("ctrl-")
    if word.lower().startswith("ctrl-") and len(name) == 1 and ("a" <= name <= "z" or name in "@[\\]^_"):
        return bytes([ord(name.upper()) & 0x1F])
    hint = "characters and ctrl-LETTER, separated by commas, such as ctrl-p,ctrl-q"
    raise UsageError("--detach-keys", repr(text), f"{word!r} is no key", hint)
