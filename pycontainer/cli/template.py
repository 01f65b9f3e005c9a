"""--format: the part of Go's text/template that docker's users use, without eval.

{{.Name}} {{.State.Status}} {{.}} {{$}}          fields, of what is given, of the dot
{{json .Mounts}} {{.Image | printf "%q"}}        functions and pipelines
{{if eq .State.Status "running"}}…{{else}}…{{end}}  if, with, range, each with else
{{range $key, $value := .Config.Labels}}…{{end}}    variables
{{- … -}} {{/* … */}}                            space trimmed, comments
"""

from __future__ import annotations

from pycontainer.cli import template_nodes as nodes
from pycontainer.cli.template_functions import FUNCTIONS
from pycontainer.cli.template_lexer import Fault, Token, split
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CONSTANTS = {"true": True, "false": False, "nil": None}
_BLOCKS = ("if", "with", "range")
_KEYWORDS = (*_BLOCKS, "else", "end")
_UNKNOWN = ("define", "template", "block", "break", "continue")
_HINT = f"there are {', '.join(sorted((*FUNCTIONS, 'and', 'or')))}"


class Template:
    """A parsed template.

    escapes  `\\t` and `\\n` stand for tab and newline also outside of actions, as docker has it for lists

    Raises UsageError, which says what is wrong and where (line:column).
    """

    def __init__(self, text: str, *, escapes: bool = False) -> None:
        self._text = text
        try:
            parser = _Parser(text, escapes)
            self._block = parser.parse()
        except Fault as fault:
            raise self._error(fault) from None
        except RecursionError:
            raise self._error(Fault(0, "nested too deeply")) from None
        self._names = parser.names

    def names(self, field: str) -> bool:
        """Whether a field of that name is written anywhere in it."""
        return field in self._names

    def uses(self, field: str) -> bool:
        """Whether it may show that field of what it is given: by name, or as all of it."""
        return field in self._names or "" in self._names

    def render(self, value: Any) -> str:
        """The text for one value: dict, list, str, int, float, bool or None. Raises UsageError.

        A field that is missing is an error, a key that is missing in a map `<no value>`; a map is what is not `value`
        itself, where the key does not begin with a capital.
        """
        try:
            return self._block.execute(nodes.Scope(value))
        except Fault as fault:
            raise self._error(fault) from None
        except RecursionError:
            raise self._error(Fault(0, "nested too deeply")) from None

    def _error(self, fault: Fault) -> UsageError:
        before = self._text[: fault.position]
        place = f"template: :{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10)) - 1}"
        cause = f'executing "" at <{fault.context}>: {fault.cause}' if fault.context else fault.cause
        return UsageError("template parsing error", place, cause, fault.hint)


class _Parser:
    """Recursive descent over the pieces of a template."""

    def __init__(self, text: str, escapes: bool) -> None:
        self._text = text
        self._escapes = escapes
        self._pieces = split(text)
        self._tokens: list[Token] = []
        self._variables = ["$"]
        # Of all fields; "" where the dot or $ is used as a whole.
        self.names: set[str] = set()

    def parse(self) -> nodes.Block:
        """All of it. Raises Fault."""
        block, word = self._block()
        if word is not None:
            raise Fault(word.position, f"unexpected {{{{{word.value}}}}}")
        return block

    def _block(self) -> tuple[nodes.Block, Token | None]:
        """Up to `else` or `end`, which is returned too and whose rest stays to be read; None at the template's end."""
        found: list[nodes.Node] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                if self._escapes:
                    piece = piece.replace("\\t", "\t").replace("\\n", "\n")
                found.append(nodes.Text(piece))
                continue
            self._tokens = piece
            first = piece[0]
            if first.kind != "word" or first.value not in (*_KEYWORDS, *_UNKNOWN):
                found.append(nodes.Action(self._whole_pipeline()))
                continue
            if first.value in _UNKNOWN:
                raise Fault(first.position, f"{first.value} is not supported")
            self._tokens.pop(0)
            if first.value not in _BLOCKS:
                return nodes.Block(found), first
            found.append(self._control(str(first.value)))
        return nodes.Block(found), None

    def _control(self, keyword: str) -> nodes.Node:
        """What follows `if`, `with` or `range`, to its `end`."""
        start, known = self._tokens[0].position, len(self._variables)
        pipeline = self._whole_pipeline(pair=keyword == "range")
        body, word = self._block()
        other = nodes.Block([])
        if word is not None and word.value == "else":
            if self._tokens[0].kind == "word" and self._tokens[0].value in ("if", "with"):
                # The `end` of what follows is the one of this too.
                inner = str(self._tokens.pop(0).value)
                if inner != keyword:
                    raise Fault(word.position, f"unexpected {inner} behind the else of {keyword}")
                other = nodes.Block([self._control(inner)])
                del self._variables[known:]
                return self._node(keyword, pipeline, body, other)
            self._finish("else")
            other, word = self._block()
        if word is None:
            raise Fault(start, f"{keyword} without {{{{end}}}}")
        if word.value != "end":
            raise Fault(word.position, "unexpected {{else}}")
        self._finish("end")
        del self._variables[known:]
        return self._node(keyword, pipeline, body, other)

    def _node(self, keyword: str, pipeline: nodes.Pipeline, body: nodes.Block, other: nodes.Block) -> nodes.Node:
        if keyword == "range":
            return nodes.Range(pipeline, body, other)
        return nodes.If(pipeline, body, other, moves=keyword == "with")

    def _finish(self, where: str) -> None:
        if self._tokens[0].kind != "end":
            raise Fault(self._tokens[0].position, f"unexpected {self._tokens[0].value!r} in {where}")

    def _whole_pipeline(self, *, pair: bool = False) -> nodes.Pipeline:
        pipeline = self._pipeline(pair=pair)
        self._finish("an action")
        return pipeline

    def _pipeline(self, *, pair: bool = False, parenthesis: bool = False) -> nodes.Pipeline:
        """pair: two variables may be declared."""
        start = self._tokens[0].position
        names, assigns = ([], False) if parenthesis else self._declaration(pair)
        commands = [self._command()]
        while self._tokens[0].kind == "|":
            self._tokens.pop(0)
            commands.append(self._command())
            first = commands[-1].operands[0]
            if isinstance(first, nodes.Literal):
                raise Fault(first.place.position, f"non executable command in pipeline: {first.place.text}")
        if not assigns:
            # Now, because a variable is not known in what it is set to.
            self._variables += names
        return nodes.Pipeline(self._place(start), names, assigns, commands)

    def _declaration(self, pair: bool) -> tuple[list[str], bool]:
        """`$x :=`, `$x =`, `$i, $e :=`; nothing where none stands here."""
        kinds = [token.kind for token in self._tokens[:4]]
        if kinds[:1] != ["variable"]:
            return [], False
        if kinds[1:2] == [","]:
            length = 3
            if not pair or kinds[2:] not in (["variable", ":="], ["variable", "="]):
                raise Fault(self._tokens[1].position, "too many declarations")
        else:
            length = 1
        if kinds[length : length + 1] not in ([":="], ["="]):
            return [], False
        names = [str(token.value) for token in self._tokens[:length:2]]
        assigns = kinds[length] == "="
        if assigns:
            for token in self._tokens[:length:2]:
                self._known(token)
        del self._tokens[: length + 1]
        return names, assigns

    def _known(self, token: Token) -> None:
        if token.value not in self._variables:
            raise Fault(token.position, f'undefined variable "{token.value}"')

    def _place(self, start: int) -> nodes.Place:
        """From an offset to where the next token begins."""
        return nodes.Place(start, self._text[start : self._tokens[0].position].strip())

    def _command(self) -> nodes.Command:
        operands: list[nodes.Operand] = []
        while self._tokens[0].kind not in ("end", "|", ")"):
            if operands and not self._tokens[0].spaced and self._tokens[0].kind != "(":
                raise Fault(self._tokens[0].position, f"unexpected {self._tokens[0].value!r} in an operand")
            operands.append(self._operand())
        if not operands:
            raise Fault(self._tokens[0].position, "missing value")
        return nodes.Command(operands)

    def _operand(self) -> nodes.Operand:
        token = self._tokens.pop(0)
        if token.kind == "literal":
            return nodes.Literal(self._place(token.position), token.value)
        if token.kind == "word":
            return self._word(token)
        origin: nodes.Operand | str
        if token.kind == "(":
            origin = self._pipeline(parenthesis=True)
            if self._tokens[0].kind != ")":
                raise Fault(token.position, "unclosed left paren")
            self._tokens.pop(0)
        elif token.kind == "variable":
            self._known(token)
            origin = str(token.value)
        elif token.kind in ("dot", "field"):
            origin = "."
        else:
            raise Fault(token.position, f"unexpected {token.value!r} in a command")
        fields = [str(token.value)] if token.kind == "field" else []
        while self._tokens[0].kind == "field" and not self._tokens[0].spaced:
            fields.append(str(self._tokens.pop(0).value))
        self.names.update(fields or ([""] if origin in (".", "$") else []))
        return nodes.Chain(self._place(token.position), origin, fields)

    def _word(self, token: Token) -> nodes.Operand:
        name = str(token.value)
        place = nodes.Place(token.position, name)
        if name in _CONSTANTS:
            return nodes.Literal(place, _CONSTANTS[name])
        if name not in FUNCTIONS and name not in ("and", "or"):
            raise Fault(token.position, f'function "{name}" not defined', hint=_HINT)
        return nodes.Function(place, name)
