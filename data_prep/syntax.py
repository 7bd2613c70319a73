"""What a piece of source code does: comments, docstrings, layout and the texts of messages play no part.

`read` takes a module apart into its top-level statements. Each has a canonical form, in which names that the module
imports are replaced by references, so that neither an alias nor the place of a module shows in it.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

MESSAGE_CALLS = frozenset({"print", "warn"})
LOG_CALLS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
LOGGERS = frozenset({"logging", "log", "logger", "_log", "_logger", "LOG", "LOGGER"})
IMPORTERS = frozenset({"import_module", "__import__", "spec_from_file_location", "run_module", "run_path"})
"""Functions that import what a value names."""
NAMESPACES = frozenset({"globals", "locals", "vars"})
"""Functions that reach any name of their module."""

Scope = Mapping[str, str | None]
"""Local name -> the dotted target of its import within a function; None for one that is no import."""


@dataclass(frozen=True)
class Reference:
    """A name that a statement uses: `target` is absolute and dotted, such as `mlcl.losses.create`."""

    target: str
    imported: bool
    """Through an import; otherwise a name that the module binds itself."""


@dataclass(frozen=True, eq=False)
class Statement:
    """A top-level statement of a module."""

    module: str
    names: tuple[str, ...]
    """What it binds."""
    form: str
    """Its canonical form as JSON: `["Ref", i]` stands for `references[i]`."""
    references: tuple[Reference, ...]
    imports: tuple[str, ...]
    """Modules (or names in modules) that it imports when it runs; for a function, when that is called."""
    node: ast.stmt = field(repr=False)
    imports_by_name: bool = False
    """Imports what a value names, which cannot be followed."""
    uses_namespace: bool = False
    """May reach any name of its module (`globals()`, `eval`)."""

    @property
    def label(self) -> str:
        """`module.name`, as people refer to it."""
        return f"{self.module}.{self.names[0] if self.names else f'(line {self.node.lineno})'}"


@dataclass(frozen=True)
class ModuleSource:
    """A module, taken apart."""

    name: str
    statements: tuple[Statement, ...]
    bindings: Mapping[str, tuple[Statement, ...]]
    """Name -> the statements that bind it, imports aside."""
    imports: Mapping[str, str]
    """Name -> the dotted target of its import."""
    typing_imports: Mapping[str, str]
    """The same for imports that only type checkers see."""
    stars: tuple[str, ...]
    """Modules of which all names are imported."""
    imported: tuple[str, ...]
    """What importing this module imports."""


def digest(tree: ast.Module) -> str:
    """The sha256 (hex) of a syntax tree, the same for all versions of Python."""
    return hashlib.sha256(json.dumps(_Reader("", False, {}, frozenset()).form(tree, {})).encode()).hexdigest()


@cache
def read(name: str, is_package: bool, text: str) -> ModuleSource:
    """Takes the module `name` apart. Raises SyntaxError."""
    tree = ast.parse(text)
    imports: dict[str, str] = {}
    typing_imports: dict[str, str] = {}
    stars: list[str] = []
    imported: list[str] = []
    kept: list[ast.stmt] = []
    for node in _runtime_statements(tree.body, name, is_package, typing_imports):
        kept.append(node)
        for found in _imports_in([node]):
            imports |= _import_targets(found, name, is_package)
            imported.extend(_imported_modules(found, name, is_package))
            stars.extend(_stars(found, name, is_package))
    lazily_annotated = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in kept
    )
    names = {id(node): () if isinstance(node, ast.Import | ast.ImportFrom) else _bound(node) for node in kept}
    own = frozenset(n for bound in names.values() for n in bound)
    statements = []
    bindings: dict[str, tuple[Statement, ...]] = {}
    for node in kept:
        if isinstance(node, ast.Import | ast.ImportFrom) or is_text(node):
            continue
        reader = _Reader(name, is_package, imports, own, lazily_annotated, bool(stars))
        form = json.dumps(reader.form(node, {}), separators=(",", ":"))
        statement = Statement(
            module=name,
            names=names[id(node)],
            form=form,
            references=tuple(reader.references),
            imports=tuple(reader.imported),
            node=node,
            imports_by_name=reader.imports_by_name,
            uses_namespace=reader.uses_namespace,
        )
        statements.append(statement)
        for bound in statement.names:
            bindings[bound] = (*bindings.get(bound, ()), statement)
    return ModuleSource(
        name, tuple(statements), bindings, imports, typing_imports, tuple(stars), tuple(imported)
    )


def is_text(node: ast.stmt) -> bool:
    """A docstring, or a string below an attribute that documents it."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def dotted(node: ast.expr) -> list[str] | None:
    """`a.b.c` as its parts; None for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


class _Reader:
    """Makes the canonical form of one top-level statement, and takes note of what it refers to."""

    def __init__(
        self,
        module: str,
        is_package: bool,
        imports: Mapping[str, str],
        own: frozenset[str],
        lazily_annotated: bool = False,
        has_stars: bool = False,
    ) -> None:
        self.module, self.is_package, self.module_imports, self.own = module, is_package, imports, own
        self.lazily_annotated, self.has_stars = lazily_annotated, has_stars
        self.references: list[Reference] = []
        self.imported: list[str] = []
        self.imports_by_name = self.uses_namespace = False
        self._numbers: dict[Reference, int] = {}
        self._in_message = False

    def form(self, node: Any, scope: Scope) -> Any:
        """A syntax tree as nested lists.

        `ast.dump` is not the same for all versions: later ones know fields that earlier ones do not, and leave out
        empty ones.
        """
        match node:
            case list():
                return [self.form(item, scope) for item in node if not self._leaves_out(item, scope)]
            case ast.Name() | ast.Attribute():
                return self._chain(node, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                return self._function(node, scope)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, scope)
            case ast.ClassDef():
                outside = {name: target for name, target in scope.items() if name != "def"}
                return ["ClassDef", *self._fields(node, {**outside, "class": None})]
            case ast.AnnAssign() if self.lazily_annotated and "def" in scope:
                return ["AnnAssign", *self._fields(node, scope, unevaluated=("annotation",))]
            case ast.Raise():
                return ["Raise", *self._message(node, scope)]
            case ast.Assert():
                return ["Assert", self.form(node.test, scope)]
            case ast.JoinedStr() if self._in_message:
                return ["Text"]
            case ast.Constant(value=str()) if self._in_message:
                return ["Text"]
            case ast.Call():
                return self._call(node, scope)
            case ast.Global():
                return ["Global", sorted(node.names)]
            case ast.AST():
                return [type(node).__name__, *self._fields(node, scope)]
        return repr(node)

    def _fields(self, node: ast.AST, scope: Scope, unevaluated: Iterable[str] = ()) -> list[Any]:
        return [
            [name, self._plain(value) if name in unevaluated else self.form(value, scope)]
            for name, value in ast.iter_fields(node)
            if value is not None and value != [] and not isinstance(value, ast.expr_context)
        ]

    def _message(self, node: ast.AST, scope: Scope) -> list[Any]:
        """The fields of what tells something, without the texts; a formatted one goes with the values in it."""
        before, self._in_message = self._in_message, True
        fields = self._fields(node, scope)
        self._in_message = before
        return fields

    def _plain(self, node: Any) -> Any:
        """The form of what never runs: it refers to nothing."""
        return _Reader("", False, {}, frozenset()).form(node, {})

    def _leaves_out(self, item: Any, scope: Scope) -> bool:
        """Docstrings, and imports within functions: what these bind shows where it is used."""
        if isinstance(item, ast.Import | ast.ImportFrom):
            self.imported.extend(_imported_modules(item, self.module, self.is_package))
            targets = _import_targets(item, self.module, self.is_package).values() if "class" in scope else ()
            for target in (*targets, *_stars(item, self.module, self.is_package)):
                self._refer(target, imported=True)
            return bool(self.module)
        return isinstance(item, ast.stmt) and is_text(item)

    def _chain(self, node: ast.Name | ast.Attribute, scope: Scope) -> Any:
        parts = dotted(node)
        if parts is None:
            return [type(node).__name__, *self._fields(node, scope)]
        root = parts[0]
        target = scope[root] if root in scope else self.module_imports.get(root)
        if root in scope and target is None:
            return self._named(parts)
        if root not in scope and root in self.own:
            self._refer(f"{self.module}.{root}", imported=False)
            if target is None:
                return self._named(parts)
        if target is not None:
            return ["Ref", self._refer(".".join([target, *parts[1:]]), imported=True)]
        if self.has_stars:
            self._refer(f"{self.module}.{root}", imported=False)
        return self._named(parts)

    def _named(self, parts: Sequence[str]) -> Any:
        form: Any = ["Name", parts[0]]
        for part in parts[1:]:
            form = ["Attribute", form, part]
        return form

    def _refer(self, target: str, imported: bool) -> int:
        reference = Reference(target, imported)
        if reference not in self._numbers:
            self._numbers[reference] = len(self.references)
            self.references.append(reference)
        return self._numbers[reference]

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        called = dotted(node.func) or [node.func.attr if isinstance(node.func, ast.Attribute) else ""]
        self._note_dynamic(called, node)
        is_message = called[-1] in MESSAGE_CALLS or (
            called[-1] in LOG_CALLS and len(called) > 1 and called[-2] in LOGGERS
        )
        return ["Call", *(self._message if is_message else self._fields)(node, scope)]

    def _note_dynamic(self, called: Sequence[str], node: ast.Call) -> None:
        if called[-1] in IMPORTERS:
            first = node.args[0] if node.args else None
            if (
                called[-1] == "import_module"
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                self.imported.append(first.value)
                self._refer(first.value, imported=True)
            else:
                self.imports_by_name = True
        if len(called) > 1 and called[0] != "builtins":
            return
        if called[-1] in NAMESPACES or (called[-1] in ("eval", "exec") and len(node.args) < 2):
            self.uses_namespace = True

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope) -> Any:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        annotate = self._plain if self.lazily_annotated else (lambda a: self.form(a, scope))
        signature = [
            [[a.arg for a in kind] for kind in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)],
            [each.arg if each else None for each in (arguments.vararg, arguments.kwarg)],
            [annotate(each.annotation) for each in every if each.annotation],
            [self.form(each, scope) for each in arguments.defaults],
            [None if each is None else self.form(each, scope) for each in arguments.kw_defaults],
        ]
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        inner = self._inner(scope, body, [each.arg for each in every])
        if isinstance(node, ast.Lambda):
            return ["Lambda", signature, self.form(node.body, inner)]
        return [
            type(node).__name__,
            node.name,
            signature,
            annotate(node.returns) if node.returns else None,
            [self.form(each, scope) for each in node.decorator_list],
            self.form(node.body, inner),
        ]

    def _inner(self, scope: Scope, body: Sequence[ast.AST], arguments: Iterable[str]) -> Scope:
        """The scope within a function. The keys "def" and "class", no names, say what the innermost one is of."""
        inner: dict[str, str | None] = {**scope, "def": None, **dict.fromkeys(arguments)}
        inner.pop("class", None)
        found = _Bindings(body)
        inner |= dict.fromkeys(found.names)
        for node in found.imports:
            inner |= _import_targets(node, self.module, self.is_package)
        for name in found.globals:
            inner.pop(name, None)
        return inner

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, scope: Scope
    ) -> Any:
        inner: dict[str, str | None] = dict(scope)
        generators = []
        for each in node.generators:
            iterated = self.form(each.iter, inner)  # the first one is evaluated outside
            inner |= dict.fromkeys(_Bindings([each.target]).names)
            generators.append(
                [self.form(each.target, inner), iterated, self.form(each.ifs, inner), each.is_async]
            )
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return [type(node).__name__, [self.form(value, inner) for value in values], generators]


class _Bindings:
    """The names that a function's body, or a statement, binds in its own scope."""

    def __init__(self, body: Iterable[ast.AST]) -> None:
        self.names: dict[str, None] = {}
        self.globals: set[str] = set()
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self._visit(body)

    def _visit(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    self.names[node.name] = None
                    self._visit(node.decorator_list)
                    continue
                case ast.Lambda():
                    continue
                case ast.comprehension():  # its targets are its own; a walrus within it binds outside
                    self._visit([node.iter, *node.ifs])
                    continue
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    self.names[name] = None
                case (
                    ast.ExceptHandler(name=str(name))
                    | ast.MatchAs(name=str(name))
                    | ast.MatchStar(name=str(name))
                ):
                    self.names[name] = None
                case ast.MatchMapping(rest=str(name)):
                    self.names[name] = None
                case ast.Import() | ast.ImportFrom():
                    self.imports.append(node)
                case ast.Global():
                    self.globals.update(node.names)
            self._visit(ast.iter_child_nodes(node))


def _bound(node: ast.stmt) -> tuple[str, ...]:
    return tuple(_Bindings([node]).names)


def _runtime_statements(
    body: Iterable[ast.stmt], module: str, is_package: bool, typing_imports: dict[str, str]
) -> Iterable[ast.stmt]:
    """The statements that run on import: not what only type checkers see, not what only a script does."""
    for node in body:
        if isinstance(node, ast.If):
            condition = ast.unparse(node.test)
            if condition in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                for found in _imports_in(node.body):
                    typing_imports |= _import_targets(found, module, is_package)
                yield from _runtime_statements(node.orelse, module, is_package, typing_imports)
                continue
            if condition == "__name__ == '__main__'":
                continue
        yield node


def _imports_in(body: Iterable[ast.stmt]) -> list[ast.Import | ast.ImportFrom]:
    """The imports that run with these statements, not those within functions; classes have scopes of their own."""
    return _Bindings([node for node in body if not isinstance(node, ast.ClassDef)]).imports


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if is_package else module.split(".")[:-1]
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _import_targets(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> dict[str, str]:
    """Name -> dotted target."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
            for alias in node.names
        }
    base = _base(node, module, is_package)
    return {
        alias.asname or alias.name: f"{base}.{alias.name}"
        for alias in node.names
        if alias.name != "*" and base != "__future__"
    }


def _imported_modules(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = _base(node, module, is_package)
    return [base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")]


def _stars(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        return [_base(node, module, is_package)]
    return []
