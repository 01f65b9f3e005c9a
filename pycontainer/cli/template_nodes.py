"""What a template consists of, and what each part does when it is carried out.

A part that has a value is evaluated: `evaluate(scope, arguments)`, where arguments are None unless it stands where a
function may. The others are executed and give text.
"""

from __future__ import annotations

from pycontainer.cli import template_functions
from pycontainer.cli.template_lexer import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    Arguments = list[Any] | None

    class Node(Protocol):
        def execute(self, scope: Scope) -> str: ...

    class Operand(Protocol):
        place: Place

        def evaluate(self, scope: Scope, arguments: Arguments) -> Any: ...


_VARIADIC = 0x04  # CO_VARARGS of a function's code
# Fields of docker's objects that their JSON leaves out where they are empty; in a template they are there and nothing.
_OMITTED = ("ExposedPorts", "Health", "Healthcheck", "Shell", "StopSignal", "StopTimeout", "Variant", "Volumes")


class Place:
    """Where a part stands in the template: offset and text."""

    __slots__ = ("position", "text")

    def __init__(self, position: int, text: str) -> None:
        self.position = position
        self.text = text

    def fault(self, cause: str, hint: str = "") -> Fault:
        """What to raise for a part that cannot be carried out."""
        shown = self.text if len(self.text) <= 20 else f"{self.text[:20]}..."
        return Fault(self.position, cause, shown, hint)


class Scope:
    """What a part sees. root: what the template was given; dot: what it has come to; variables: the last one counts."""

    __slots__ = ("dot", "root", "variables")

    def __init__(self, root: Any) -> None:
        self.root = root
        self.dot = root
        self.variables: list[tuple[str, Any]] = [("$", root)]

    def inside(self, dot: Any) -> Scope:
        """The same with another dot; variables that are declared in it end with it."""
        scope = Scope(self.root)
        scope.dot, scope.variables = dot, list(self.variables)
        return scope

    def assign(self, name: str, value: Any) -> None:
        """Give a declared variable another value."""
        last = max(i for i, (known, _) in enumerate(self.variables) if known == name)
        self.variables[last] = (name, value)


class Literal:
    """A number, a text, true, false or nil."""

    def __init__(self, place: Place, value: Any) -> None:
        self.place = place
        self.value = value

    def evaluate(self, scope: Scope, arguments: Arguments) -> Any:
        """Its value. Raises Fault."""
        if arguments:
            raise self.place.fault(f"can't give argument to non-function {self.place.text}")
        return self.value


class Chain:
    """`.A.B`, `$x.A`, `(pipeline).A`: fields of something. A field that is a function gets the arguments."""

    def __init__(self, place: Place, origin: Operand | str, fields: list[str]) -> None:
        """origin: what has the fields; "." or a variable's name."""
        self.place = place
        self.origin = origin
        self.fields = fields

    def evaluate(self, scope: Scope, arguments: Arguments) -> Any:
        """The last field's value. Raises Fault."""
        if not isinstance(self.origin, str):
            value = self.origin.evaluate(scope, None)
        elif self.origin == ".":
            value = scope.dot
        else:
            value = next(value for name, value in reversed(scope.variables) if name == self.origin)
        for name in self.fields:
            value = self._field(scope, value, name)
        if callable(value):
            return call(self.place, self.fields[-1], value, arguments or [])
        if arguments:
            raise self.place.fault(f"can't give argument to non-function {self.place.text}")
        return value

    def _field(self, scope: Scope, value: Any, name: str) -> Any:
        if value is None:
            raise self.place.fault(f"nil pointer evaluating interface {{}}.{name}")
        if not isinstance(value, dict):
            raise self.place.fault(f"can't evaluate field {name} in type {template_functions.type_name(value)}")
        # Which of docker's objects are maps, JSON does not tell: but their keys are seldom capitalized, as fields are.
        if name in value or (value is not scope.root and not name[0].isupper()) or name in _OMITTED:
            return value.get(name)
        from pycontainer.cli.options import suggest

        raise self.place.fault(f'map has no entry for key "{name}"', suggest(name, value).strip())


class Function:
    """A function by its name."""

    def __init__(self, place: Place, name: str) -> None:
        self.place = place
        self.name = name

    def evaluate(self, scope: Scope, arguments: Arguments) -> Any:
        """What it gives for these arguments. Raises Fault."""
        return call(self.place, self.name, template_functions.FUNCTIONS[self.name], arguments or [])


def call(place: Place, name: str, function: Any, arguments: list[Any]) -> Any:
    """Call a function as Go does. Raises Fault."""
    code = function.__code__
    variadic = bool(code.co_flags & _VARIADIC)
    if len(arguments) < code.co_argcount or (len(arguments) > code.co_argcount and not variadic):
        want = f"at least {code.co_argcount}" if variadic else str(code.co_argcount)
        raise place.fault(f"wrong number of args for {name}: want {want} got {len(arguments)}")
    try:
        return function(*arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise place.fault(f"error calling {name}: {error}") from None


class Command:
    """One part of a pipeline: an operand, or a function with its arguments."""

    def __init__(self, operands: list[Operand]) -> None:
        self.operands = operands

    def evaluate(self, scope: Scope, piped: list[Any]) -> Any:
        """Its value; `piped` holds the value of the command before it, if there is one. Raises Fault."""
        first, *rest = self.operands
        if isinstance(first, Function) and first.name in ("and", "or"):
            return self._decide(scope, first, rest, piped)
        return first.evaluate(scope, [operand.evaluate(scope, None) for operand in rest] + piped)

    def _decide(self, scope: Scope, function: Function, rest: list[Operand], piped: list[Any]) -> Any:
        """The first that decides; what stands behind it is not looked at."""
        if not rest and not piped:
            raise function.place.fault(f"wrong number of args for {function.name}: want at least 1 got 0")
        value = None
        for operand in rest:
            value = operand.evaluate(scope, None)
            if template_functions.truth(value) == (function.name == "or"):
                return value
        return piped[0] if piped else value


class Pipeline:
    """`$x := a | b c`.

    names    variables that it declares, or assigns to
    assigns  whether these are declared already
    """

    def __init__(self, place: Place, names: list[str], assigns: bool, commands: list[Command]) -> None:
        self.place = place
        self.names = names
        self.assigns = assigns
        self.commands = commands

    def evaluate(self, scope: Scope, arguments: Arguments = None) -> Any:
        """The last command's value. Raises Fault."""
        if arguments:
            raise self.place.fault(f"can't give argument to non-function {self.place.text}")
        piped: list[Any] = []
        for command in self.commands:
            piped = [command.evaluate(scope, piped)]
        return piped[0]

    def set(self, scope: Scope, *values: Any) -> None:
        """Give the variables these values, the last of them where there are fewer variables."""
        for name, value in zip(self.names, values[-len(self.names) :] if self.names else (), strict=False):
            if self.assigns:
                scope.assign(name, value)
            else:
                scope.variables.append((name, value))


class Block:
    """Parts one after the other."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def execute(self, scope: Scope) -> str:
        """Their text. Raises Fault."""
        return "".join([node.execute(scope) for node in self.nodes])


class Text:
    """What stands outside of actions."""

    def __init__(self, text: str) -> None:
        self.text = text

    def execute(self, scope: Scope) -> str:
        """Itself."""
        return self.text


class Action:
    """A pipeline whose value is printed."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def execute(self, scope: Scope) -> str:
        """Its value as text, nothing where it goes to a variable. Raises Fault."""
        value = self.pipeline.evaluate(scope)
        if self.pipeline.names:
            self.pipeline.set(scope, value)
            return ""
        return template_functions.text(value)


class If:
    """`if` and `with`."""

    def __init__(self, pipeline: Pipeline, body: Block, other: Block, *, moves: bool) -> None:
        """moves: whether the dot becomes the value, as `with` has it."""
        self.pipeline = pipeline
        self.body = body
        self.other = other
        self.moves = moves

    def execute(self, scope: Scope) -> str:
        """The text of one of its two blocks. Raises Fault."""
        value = self.pipeline.evaluate(scope)
        holds = template_functions.truth(value)
        inner = scope.inside(value if self.moves and holds else scope.dot)
        self.pipeline.set(inner, value)
        return _leave(scope, inner, (self.body if holds else self.other).execute(inner))


class Range:
    """`range` over a list, or over a map in the order of its keys."""

    def __init__(self, pipeline: Pipeline, body: Block, other: Block) -> None:
        self.pipeline = pipeline
        self.body = body
        self.other = other

    def execute(self, scope: Scope) -> str:
        """The body's text for each, or the other block's where there is none. Raises Fault."""
        value = self.pipeline.evaluate(scope)
        pairs: list[tuple[Any, Any]]
        if isinstance(value, dict):
            pairs = sorted(value.items())
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif value is None:
            pairs = []
        else:
            raise self.pipeline.place.fault(f"range can't iterate over {template_functions.text(value)}")
        written = []
        for key, item in pairs:
            inner = scope.inside(item)
            self.pipeline.set(inner, key, item)
            written.append(_leave(scope, inner, self.body.execute(inner)))
        return "".join(written) if pairs else self.other.execute(scope.inside(scope.dot))


def _leave(scope: Scope, inner: Scope, text: str) -> str:
    """Keep what the inner parts have assigned to variables of the outer ones."""
    scope.variables[:] = inner.variables[: len(scope.variables)]
    return text
