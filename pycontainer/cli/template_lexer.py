"""Templates in pieces: text, and actions as tokens."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = " \t\r\n"
_MARKS = (":=", "=", "|", ",", "(", ")")
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_HEXADECIMAL = {"x": 2, "u": 4, "U": 8}


class Fault(Exception):
    """What is wrong with a template, and where: an offset into its text.

    context  the part of the template that could not be carried out; empty where the template cannot be read at all
    """

    def __init__(self, position: int, cause: str, context: str = "", hint: str = "") -> None:
        super().__init__(cause)
        self.position = position
        self.cause = cause
        self.context = context
        self.hint = hint


class Token:
    """One word of an action.

    kind    field, dot, variable, word, literal, or the mark itself
    value   name without the leading dot, or what a literal stands for
    spaced  whether space stands before it
    """

    __slots__ = ("end", "kind", "position", "spaced", "value")

    def __init__(self, kind: str, value: object, position: int, end: int, spaced: bool) -> None:
        self.kind = kind
        self.value = value
        self.position = position
        self.end = end
        self.spaced = spaced


def split(text: str) -> Iterator[str | list[Token]]:
    """Text and actions as they come; an action ends with a token of the kind "end". Raises Fault."""
    position, trim = 0, False
    while True:
        start = text.find("{{", position)
        literal = text[position:] if start < 0 else text[position:start]
        if trim:
            literal = literal.lstrip(_SPACE)
        if start < 0:
            yield literal
            return
        inner = start + 2
        if text[inner : inner + 1] == "-" and text[inner + 1 : inner + 2].strip(_SPACE) == "":
            literal = literal.rstrip(_SPACE)
            inner += 1
        yield literal
        if text[inner:].lstrip(_SPACE).startswith("/*"):
            position, trim = _skip_comment(text, inner)
            continue
        tokens, position, trim = _action(text, inner)
        yield tokens


def _skip_comment(text: str, position: int) -> tuple[int, bool]:
    end = text.find("*/", position)
    if end < 0:
        raise Fault(position, "unclosed comment")
    rest = text[end + 2 :]
    trim = rest[:1] in tuple(_SPACE) and rest.lstrip(_SPACE).startswith("-}}")
    closing = rest.lstrip(_SPACE) if trim else rest
    if not closing.startswith("-}}" if trim else "}}"):
        raise Fault(end, "comment ends before closing delimiter")
    return len(text) - len(closing) + (3 if trim else 2), trim


def _action(text: str, position: int) -> tuple[list[Token], int, bool]:
    """The tokens, the offset behind the action, and whether the text behind it is to be trimmed."""
    tokens: list[Token] = []
    while True:
        start = position
        while text[position : position + 1] in tuple(_SPACE):
            position += 1
        spaced = position > start
        trim = spaced and text.startswith("-}}", position)
        if trim or text.startswith("}}", position):
            tokens.append(Token("end", "}}", position, position, spaced))
            return tokens, position + (3 if trim else 2), trim
        if position == len(text):
            raise Fault(position, "unclosed action")
        kind, value, end = _token(text, position)
        tokens.append(Token(kind, value, position, end, spaced))
        position = end


def _token(text: str, start: int) -> tuple[str, object, int]:
    first, following = text[start], text[start + 1 : start + 2]
    if (first.isascii() and first.isdigit()) or (first in "+-." and following.isascii() and following.isdigit()):
        return _number(text, start)
    if first in "\"'`":
        return _quoted(text, start)
    if first in ".$":
        end = _name_end(text, start + 1)
        if first == "$":
            return "variable", text[start:end], end
        return ("field", text[start + 1 : end], end) if end > start + 1 else ("dot", ".", end)
    end = _name_end(text, start)
    if end > start:
        return "word", text[start:end], end
    for mark in _MARKS:
        if text.startswith(mark, start):
            return mark, mark, start + len(mark)
    raise Fault(start, f"unexpected {first!r} in an action")


def _name_end(text: str, end: int) -> int:
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return end


def _number(text: str, start: int) -> tuple[str, object, int]:
    end = start + 1
    while end < len(text) and (
        text[end].isalnum() or text[end] in "._" or text[end - 1 : end + 1].lower() in ("e+", "e-")
    ):
        end += 1
    word = text[start:end]
    for kind in (lambda: int(word, 0), lambda: float(word)):
        try:
            return "literal", kind(), end
        except ValueError:
            continue
    raise Fault(start, f"bad number syntax: {word!r}")


def _quoted(text: str, start: int) -> tuple[str, object, int]:
    quote, end, found = text[start], start + 1, []
    while text[end : end + 1] != quote:
        if end >= len(text) or (text[end] == "\n" and quote != "`"):
            raise Fault(start, "unterminated character constant" if quote == "'" else "unterminated quoted string")
        if text[end] == "\\" and quote != "`":
            character, end = _escape(text, end)
        else:
            character, end = text[end], end + 1
        found.append(character)
    if quote != "'":
        return "literal", "".join(found), end + 1
    if len(found) != 1:
        raise Fault(start, "malformed character constant")
    return "literal", ord(found[0]), end + 1


def _escape(text: str, position: int) -> tuple[str, int]:
    letter = text[position + 1 : position + 2]
    if letter in _ESCAPES:
        return chr(_ESCAPES[letter]), position + 2
    end = position + 2 + _HEXADECIMAL.get(letter, 0)
    try:
        character = chr(int(text[position + 2 : end], 16))
        # Half of a pair is no character.
        character.encode()
        return character, end
    except (ValueError, OverflowError):
        raise Fault(position, f"unknown escape sequence \\{letter}") from None
