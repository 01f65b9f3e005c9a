"""The rules of the source tree: which layer may import which, what only one place may use, and how long things may be.

cli   daemon
    labs
    engine
image network monitor
    runtime
    kernel
    errors
"""

from __future__ import annotations

import ast
import functools
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent.parent / "pycontainer"
MODULES = sorted(PACKAGE.rglob("*.py"))
# A module may import its own layer and those with a lower number; two layers of the same number are siblings.
LAYERS = {
    "errors": 0,
    "json_text": 0,
    "kernel": 1,
    "runtime": 2,
    "image": 3,
    "network": 3,
    "monitor": 3,
    "engine": 4,
    "labs": 5,
    "cli": 6,
    "daemon": 6,
}
# Where a package from outside the standard library, or ctypes, may be imported.
ONLY_IN = {
    "ctypes": {"kernel"},
    "prctl": {"kernel"},
    "click": {"cli"},
    "pyroute2": set(),
}
# These stay resident with every container: the standard library and the layers below them, nothing else.
LEAN = {"kernel", "runtime", "monitor"}
# What takes long to import and what neither `--version` nor the runtime needs.
HEAVY = {"asyncio", "importlib.metadata", "isal", "pyroute2", "rich", "sqlite3", "tarfile", "zstandard"}
LONGEST_MODULE = 500
LONGEST_FUNCTION = 70
# The container's own process, in the kernel's order.
FLAT = {"runtime/init.py:_set_up"}


@functools.cache
def source_tree(path: pathlib.Path) -> ast.Module:
    """Parsed once for all rules."""
    return ast.parse(path.read_text())


def name(path: pathlib.Path) -> str:
    return str(path.relative_to(PACKAGE))


def layer(path: pathlib.Path) -> str:
    """The layer of a module; empty for pycontainer/__init__.py."""
    return "" if path.parent == PACKAGE and path.stem == "__init__" else name(path).split("/")[0].removesuffix(".py")


def imports(path: pathlib.Path, tree: ast.AST) -> Iterator[str]:
    """Dotted names of what a module imports anywhere, functions included; of `from a import b` it is `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ""
            if node.level:
                parent = ".".join(path.relative_to(PACKAGE.parent).parts[: -node.level]) + "."
            yield from (f"{parent}{node.module or ''}".rstrip(".") + f".{alias.name}" for alias in node.names)


def wrong_imports(path: pathlib.Path, tree: ast.AST) -> Iterator[str]:
    """Each import of the module that breaks a rule, and the rule."""
    here = layer(path)
    for imported in imports(path, tree):
        top, *rest = imported.split(".")
        if top == "pycontainer":
            there = rest[0] if rest else ""
            if there not in LAYERS and there != "__version__":
                yield f"{imported}: no layer of that name"
            elif there != here and there in LAYERS and LAYERS[there] >= LAYERS.get(here, -1):
                yield f"{imported}: {here} may not import {there}"
        elif here not in ONLY_IN.get(top, {here}):
            yield f"{imported}: only in {', '.join(ONLY_IN[top])}"
        elif here in LEAN and top not in sys.stdlib_module_names and top not in ONLY_IN:
            yield f"{imported}: {here} uses the standard library only"


def test_imports_point_down() -> None:
    assert [(name(path), wrong) for path in MODULES for wrong in wrong_imports(path, source_tree(path))] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kernel/x.py", "from pycontainer.engine import run"),
        ("kernel/x.py", "def f():\n    import pycontainer.runtime.init"),
        ("image/x.py", "from pycontainer.network.lease import Lease"),
        ("image/x.py", "from ..network import lease"),
        ("image/x.py", "from pycontainer import network"),
        ("cli/x.py", "import pycontainer.daemon"),
        ("image/x.py", "import ctypes"),
        ("engine/x.py", "import click"),
        ("engine/x.py", "from pyroute2 import IPRoute"),
        ("runtime/x.py", "import prctl"),
        ("monitor/x.py", "import rich.console"),
        ("errors.py", "import pycontainer.kernel"),
        ("engine/x.py", "import pycontainer.utils"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str) -> None:
    assert len(list(wrong_imports(PACKAGE / path, ast.parse(source)))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cli/x.py", "import click\nfrom pycontainer import __version__\nfrom pycontainer.engine import run"),
        ("kernel/x.py", "import ctypes\nimport prctl\nimport pycontainer.errors\nfrom . import mount"),
        ("monitor/x.py", "import json\nfrom pycontainer.runtime import state"),
        ("image/x.py", "import zstandard"),
    ],
)
def test_a_right_import_is_let_through(path: str, source: str) -> None:
    assert list(wrong_imports(PACKAGE / path, ast.parse(source))) == []


def dotted(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A way through it that comes back to where it began; empty if there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            for other in sorted(graph[node]):
                if found := visit(other, [*way, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in graph if (found := visit(node, []))), [])


def without_types(tree: ast.Module) -> ast.Module:
    """The module as it runs: nothing imported for annotations alone."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(body, [])


def test_imports_go_in_no_circle() -> None:
    """Not by those in functions either."""
    names = {dotted(path) for path in MODULES}
    graph = {}
    for path in MODULES:
        found = set(imports(path, without_types(source_tree(path))))
        graph[dotted(path)] = {each if each in names else each.rpartition(".")[0] for each in found} & names
    assert cycle(graph) == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b"}, "b": set(), "c": {"c"}}, ["c", "c"]),
    ],
)
def test_a_circle_is_found(graph: dict[str, set[str]], found: list[str]) -> None:
    assert cycle(graph) == found


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name)
def test_init_holds_the_version_and_nothing_else(path: pathlib.Path) -> None:
    statements = source_tree(path).body
    if path.parent == PACKAGE:
        assert [ast.unparse(statement).split(" = ")[0] for statement in statements] == ["__version__"]
    else:
        assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in statements)


def test_modules_and_functions_are_short() -> None:
    assert [name(path) for path in MODULES if len(path.read_text().splitlines()) > LONGEST_MODULE] == []
    functions = [
        (f"{name(path)}:{node.name}", (node.end_lineno or 0) - node.lineno)
        for path in MODULES
        for node in ast.walk(source_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [each for each, length in functions if length >= LONGEST_FUNCTION and each not in FLAT] == []


def test_no_module_is_named_after_nothing() -> None:
    assert {path.stem for path in MODULES}.isdisjoint({"utils", "util", "manager", "common", "helpers"})


def loaded_modules(module: str, *arguments: str) -> set[str]:
    """The modules that `main()` of `module` imports, its own name among them."""
    script = f"import sys; sys.argv[1:] = {arguments!r}; from {module} import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", script],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        timeout=60,
    )
    assert "Traceback" not in result.stderr, result.stderr[-1000:]
    # import time:       123 |        456 |   name
    return {line.split("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("pycontainer.cli.main", ["--version"]),
        ("pycontainer.runtime.main", ["state", "no-such-container"]),
    ],
)
def test_start_up_imports_nothing_heavy(module: str, arguments: list[str]) -> None:
    assert loaded_modules(module, *arguments).isdisjoint(HEAVY)


def test_the_runtime_starts_without_click() -> None:
    assert "click" not in loaded_modules("pycontainer.runtime.main", "state", "no-such-container")
