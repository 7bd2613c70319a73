"""The definitions that a piece of code passes through: what a result depends on, and nothing else.

From entry points (functions, classes), names are followed through all modules of a project: to other functions,
classes and constants, wherever the import of a name stands. What is found is hashed by content: files and modules may
be moved, and definitions that are not reached may change, without a new digest.

Where something cannot be known without running the code, more is taken in, never less:

- a class counts whole, with the classes that it is made of;
- a module that is used as a value (`getattr(module, name)`) counts whole, and so does one whose `globals()` are used;
- top-level statements that do something (register, change, call what is not known to be harmless) count whole as soon
  as anything imports their module;
- what imports modules by name (`importlib`) is listed in `Reached.imports_by_name`: who calls `reach` has to name these
  modules' entry points, or to refuse.

In a module with `__getattr__`, names come from its imports under `if TYPE_CHECKING:`.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep import syntax
from data_prep.syntax import ModuleSource, Reference, Statement

HARMLESS_DECORATORS = frozenset({
    "abstractmethod", "cache", "cached_property", "classmethod", "contextmanager", "dataclass", "field_validator",
    "lru_cache", "model_validator", "no_grad", "once_differentiable", "overload", "override", "property", "setter",
    "staticmethod", "total_ordering", "wraps",
})  # fmt: skip
HARMLESS_CALLS = frozenset({
    "AfterValidator", "BeforeValidator", "ConfigDict", "ContextVar", "Field", "NewType", "Path", "TypeVar", "compile",
    "cycle", "dataclass", "defaultdict", "field", "files", "frozenset", "get_args", "lru_cache", "namedtuple",
    "no_grad", "partial", "timedelta",
})  # fmt: skip
"""Functions of other packages that change nothing; each by the last part of its name."""
HARMFUL_BUILTINS = frozenset({"__import__", "delattr", "eval", "exec", "input", "open", "print", "setattr"})
CHANGERS = frozenset({
    "__setitem__", "add", "append", "clear", "extend", "insert", "pop", "popitem", "register", "remove", "setdefault",
    "update",
})  # fmt: skip
MODULE_FACTS = frozenset({"__doc__", "__file__", "__name__", "__package__", "__path__", "__spec__"})


@dataclass(frozen=True)
class Reached:
    """What code passes through."""

    digest: str
    """sha256 (hex) of all of it and how it hangs together, whatever modules it lies in."""
    definitions: Mapping[str, str]
    """`module.name` -> a digest of the definition alone, to say what differs."""
    imports_by_name: tuple[str, ...]
    """The definitions that import modules by name: what they import is not followed."""


class Project:
    """The source files of packages, read when they are asked for.

    packages: name -> the folder of a top-level package; files: name -> a module that lies alone, which may import
    modules of `homes`, as a user's file may import what lies beside it.
    """

    def __init__(
        self,
        packages: Mapping[str, Path],
        files: Mapping[str, Path] | None = None,
        homes: Sequence[Path] = (),
    ) -> None:
        self._packages, self._files, self._homes = dict(packages), dict(files or {}), tuple(homes)
        self._sources: dict[str, ModuleSource | None] = {}
        self._harmless: dict[int, bool] = {}

    def with_file(self, name: str, file: Path) -> Project:
        """The same project and one more module, which lies alone."""
        other = Project(self._packages, {**self._files, name: file}, (file.parent, Path.cwd()))
        other._sources = {name: source for name, source in self._sources.items() if source is not None}
        other._harmless = self._harmless
        return other

    def source(self, module: str) -> ModuleSource | None:
        """The module; None if it is none of the project's. Raises SyntaxError with the file's name."""
        if module not in self._sources:
            self._sources[module] = self._read(module)
        return self._sources[module]

    def _read(self, module: str) -> ModuleSource | None:
        file = self._file(module)
        if file is None:
            return None
        try:
            return syntax.read(module, file.name == "__init__.py", file.read_text(encoding="utf-8"))
        except SyntaxError as error:
            raise SyntaxError(f"{file}:{error.lineno}: {error.msg}") from error

    def _file(self, module: str) -> Path | None:
        if module in self._files:
            return self._files[module]
        top, *rest = module.split(".")
        folders = [self._packages[top]] if top in self._packages else [home / top for home in self._homes]
        for folder in folders:
            for file in (folder.joinpath(*rest, "__init__.py"), folder.joinpath(*rest).with_suffix(".py")):
                if file.is_file():
                    return file
        return None

    def statements(self, target: str) -> tuple[list[Statement], str]:
        """The statements that a dotted name stands for, and what is left of the name: attributes of an object.

        None at all if the name leads out of the project. A module stands for all of its statements."""
        return self._resolve(target, frozenset())

    def _resolve(self, target: str, seen: frozenset[str]) -> tuple[list[Statement], str]:
        parts = target.split(".")
        for count in range(len(parts), 0, -1):
            module = ".".join(parts[:count])
            if self.source(module) is not None:
                break
        else:
            return [], target
        found = self._lookup(module, parts[count:], seen | {target})
        if count > 1 and count == len(parts):
            # A package may bind the name of one of its modules to something else.
            package = self.source(".".join(parts[: count - 1]))
            if package is not None and (parts[-1] in package.bindings or parts[-1] in package.imports):
                bound = self._lookup(package.name, parts[count - 1 :], seen | {target, module})
                found = ([*dict.fromkeys([*found[0], *bound[0]])], found[1])
        return found

    def _lookup(self, module: str, names: Sequence[str], seen: frozenset[str]) -> tuple[list[Statement], str]:
        source = self.source(module)
        assert source is not None
        if not names:
            return list(self._whole(source)), ""
        first, *rest = names
        if first in MODULE_FACTS:
            return [], ".".join(names)
        statements = list(source.bindings.get(first, ()))
        targets = [source.imports[first]] if first in source.imports else []
        if not statements and not targets:
            if "__getattr__" in source.bindings and first in source.typing_imports:
                targets = [source.typing_imports[first]]
            else:
                targets = [f"{star}.{first}" for star in source.stars]
                if not targets:  # made in a way that cannot be seen: all of the module
                    return list(self._whole(source)), ""
        left = ".".join(rest)
        for target in targets:
            full = ".".join([target, *rest])
            if full not in seen:
                more, left = self._resolve(full, seen | {full})
                statements.extend(more)
        return list(dict.fromkeys(statements)), left

    def _whole(self, source: ModuleSource) -> Iterator[Statement]:
        """All statements of a module, and of a package's modules."""
        yield from source.statements
        file = self._file(source.name)
        if file is not None and file.name == "__init__.py":
            for other in sorted(file.parent.iterdir()):
                name = f"{source.name}.{other.stem}"
                if other.stem != "__init__" and (other.suffix == ".py" or (other / "__init__.py").is_file()):
                    below = self.source(name)
                    yield from self._whole(below) if below else ()

    def effects(self, module: str) -> list[Statement]:
        """The statements of a module that do more than define something."""
        source = self.source(module)
        return [] if source is None else [each for each in source.statements if not self._defines(each)]

    def modules_of(self, target: str) -> list[str]:
        """The modules of the project that importing this name runs: packages, then the module."""
        parts = target.split(".")
        names = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return [name for name in names if self.source(name) is not None]

    def _defines(self, statement: Statement) -> bool:
        """Does the statement only define something?"""
        key = id(statement)
        if key not in self._harmless:
            self._harmless[key] = True  # where it comes back to itself
            self._harmless[key] = self._is_definition(statement)
        return self._harmless[key]

    def _is_definition(self, statement: Statement) -> bool:
        match statement.node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return all(self._runs_harmlessly(statement, part) for part in _run_at_once(statement.node))
            case ast.Assign(targets=targets):
                whole = all(_binds_names_only(target) for target in targets)
                return whole and self._runs_harmlessly(statement, statement.node.value)
            case ast.AnnAssign(target=target, value=value):
                return isinstance(target, ast.Name) and (
                    value is None or self._runs_harmlessly(statement, value)
                )
            case ast.Pass():
                return True
        return type(statement.node).__name__ == "TypeAlias"

    def _runs_harmlessly(self, statement: Statement, node: ast.AST) -> bool:
        return all(self._is_harmless_call(statement, call) for call in _calls(node))

    def _is_harmless_call(self, statement: Statement, call: ast.Call | ast.expr) -> bool:
        called = call.func if isinstance(call, ast.Call) else call
        harmless = HARMLESS_CALLS if isinstance(call, ast.Call) else HARMLESS_DECORATORS
        if isinstance(call, ast.Call) and isinstance(called, ast.Lambda | ast.Call):
            return isinstance(called, ast.Call)
        parts = syntax.dotted(called)
        if parts is None:  # a method of a value
            return not (isinstance(called, ast.Attribute) and called.attr in CHANGERS)
        source = self.source(statement.module)
        assert source is not None
        name = parts[0]
        if name in source.imports or name in source.bindings:
            target = ".".join([source.imports.get(name, f"{statement.module}.{name}"), *parts[1:]])
            found, left = self.statements(target)
            if not found:
                return parts[-1] in harmless or parts[-1] in HARMLESS_DECORATORS
            if left:  # a method of something defined here
                return parts[-1] not in CHANGERS and parts[-1] in {"items", "keys", "values", *harmless}
            return all(self._calls_harmlessly(each) for each in found)
        return name not in HARMFUL_BUILTINS if len(parts) == 1 else parts[-1] not in CHANGERS

    def _calls_harmlessly(self, statement: Statement) -> bool:
        """Can what the statement defines be called without a trace?"""
        key = -id(statement)
        if key not in self._harmless:
            self._harmless[key] = True
            source = self.source(statement.module)
            assert source is not None
            owned = source.bindings.keys() | source.imports.keys()
            self._harmless[key] = (
                not any(_changes(node, owned) for node in ast.walk(statement.node))
                and isinstance(statement.node, ast.FunctionDef | ast.ClassDef)
                and all(self._is_harmless_call(statement, call) for call in _calls(statement.node, deep=True))
            )
        return self._harmless[key]

    def reach(self, entries: Sequence[str], enters: Callable[[str], bool] = lambda name: True) -> Reached:
        """What the entry points, dotted names, pass through.

        enters: whether a definition (`module.name`) is entered at all; others are left out with all that only they
        reach. Raises KeyError for an entry point that does not exist.
        """
        return _Reach(self, enters).from_entries(entries)


class _Reach:
    """One way through a project."""

    def __init__(self, project: Project, enters: Callable[[str], bool]) -> None:
        self.project, self.enters = project, enters
        self.order: dict[Statement, int] = {}
        self.edges: dict[Statement, list[tuple[list[Statement], str]]] = {}
        self.modules: dict[str, None] = {}

    def from_entries(self, entries: Sequence[str]) -> Reached:
        roots = []
        for entry in entries:
            found, left = self.project.statements(entry)
            if not found or left:
                raise KeyError(entry)
            roots.append(found)
            self._visit(found)
        while effects := self._new_effects():
            roots.append(effects)
            self._visit(effects)
        digests = {statement: self._digest(statement) for statement in self.order}
        graph = [
            [digests[each], [self._numbers(found) for found, _ in self.edges[each]]] for each in self.order
        ]
        text = json.dumps([[self._numbers(found) for found in roots], graph])
        return Reached(
            hashlib.sha256(text.encode()).hexdigest(),
            _labelled((each.label, digests[each]) for each in self.order),
            tuple(sorted(each.label for each in self.order if each.imports_by_name)),
        )

    def _visit(self, statements: Iterable[Statement]) -> None:
        """Depth first, in the order of the code, which makes the numbering the same wherever the code lies."""
        todo = [each for each in reversed(list(statements)) if self.enters(each.label)]
        while todo:
            statement = todo.pop()
            if statement in self.order:
                continue
            self.order[statement] = len(self.order)
            self.edges[statement] = edges = [self._edge(statement, each) for each in statement.references]
            if statement.uses_namespace:
                edges.append((self.project.statements(statement.module)[0], ""))
            for name in (statement.module, *statement.imports):
                self._import(name)
            following = [each for found, _ in edges for each in found]
            todo.extend(each for each in reversed(following) if self.enters(each.label))

    def _edge(self, statement: Statement, reference: Reference) -> tuple[list[Statement], str]:
        found, left = self.project.statements(reference.target)
        return [each for each in found if each is not statement], left

    def _numbers(self, statements: Iterable[Statement]) -> list[int]:
        return [self.order[each] for each in statements if each in self.order]

    def _import(self, target: str) -> None:
        todo = self.project.modules_of(target)
        while todo:
            module = todo.pop()
            if module not in self.modules:
                self.modules[module] = None
                source = self.project.source(module)
                assert source is not None
                todo.extend(name for each in source.imported for name in self.project.modules_of(each))

    def _new_effects(self) -> list[Statement]:
        found = [each for module in self.modules for each in self.project.effects(module)]
        # In an order that does not depend on where they lie.
        new = [each for each in found if each not in self.order and self.enters(each.label)]
        return sorted(new, key=lambda each: (each.form, each.module))

    def _digest(self, statement: Statement) -> str:
        """Of the statement alone: its form, and by what name it refers to what lies elsewhere."""
        told = []
        for reference, (found, left) in zip(statement.references, self.edges[statement], strict=False):
            if reference.imported:
                name = reference.target if not found else found[0].names[:1] if len(found) == 1 else "module"
                told.append([name, left])
        return hashlib.sha256(json.dumps([statement.form, told]).encode()).hexdigest()[:16]


def _labelled(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    labelled: dict[str, str] = {}
    for label, digest in pairs:
        labelled[label] = digest if label not in labelled else f"{labelled[label]} {digest}"
    return dict(sorted(labelled.items()))


def _binds_names_only(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(_binds_names_only(each) for each in target.elts)
    return isinstance(target, ast.Name)


def _run_at_once(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[ast.AST]:
    """What runs when something is defined: decorators, defaults, a class's body."""
    for decorator in node.decorator_list:
        yield ast.Expr(decorator) if isinstance(decorator, ast.Call) else _Decorator(decorator)
    if isinstance(node, ast.ClassDef):
        for keyword in node.keywords:  # a metaclass, or what a base's __init_subclass__ takes
            yield ast.Call(ast.Name("exec"), [keyword.value], [])
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _run_at_once(child)
            else:
                yield child
    else:
        yield from (each for each in (*node.args.defaults, *node.args.kw_defaults) if each is not None)


class _Decorator(ast.Expr):
    """A decorator without arguments: called with what it decorates."""

    def __init__(self, value: ast.expr) -> None:
        super().__init__(value)


def _calls(node: ast.AST, deep: bool = False) -> Iterator[ast.Call | ast.expr]:
    """The calls that happen when the node runs; `deep`: also those of functions defined in it."""
    if isinstance(node, _Decorator):
        yield node.value
        return
    if isinstance(node, ast.Call):
        yield node
    if isinstance(node, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef) and not deep:
        return
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, deep)


def _changes(node: ast.AST, owned: Iterable[str]) -> bool:
    """Does this part of a function change something that its module holds?"""
    match node:
        case ast.Global():
            return True
        case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
            inner: ast.expr = node
            while isinstance(inner, ast.Attribute | ast.Subscript):
                inner = inner.value
            return isinstance(inner, ast.Name) and inner.id in owned
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
            return name in owned and method in CHANGERS
    return False
