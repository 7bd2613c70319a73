"""Which losses there are, and what each file says about itself. Never imports torch.

One file defines one loss and its stem is the loss's name; files with a leading underscore are shared code.
What a file declares is read from its syntax tree, without running it:

- the docstring (its first line is the summary);
- exactly one public class, in whose body
  - plain assignments of literals are facts: `paper` and `equation` are required; `title`, `inputs`,
    `anchors`, `references`, `modalities`, `allowed`, `parts` have defaults (`_FACTS`);
  - annotated assignments with a value are the hyperparameters and their defaults
    (`temperature: float = 0.1`).
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcl.losses._errors import LossError

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).parent
INPUTS = ("embeddings", "logits", "features", "both")
MODALITIES = ("image", "text", "vector")

_TYPES: dict[str, tuple[type, ...]] = {"float": (float, int), "int": (int,), "bool": (bool,), "str": (str,)}
_REQUIRED = ("paper", "equation")
_FACTS: dict[str, Any] = {
    "title": None,  # the paper's name for the loss; default: the file's stem
    "paper": None,
    "equation": None,
    "inputs": "embeddings",
    "anchors": ("batch",),  # who looks for positives: "batch", "prototypes"
    "references": ("batch",),  # among whom: "batch" (or the references given in its stead), "prototypes"
    "modalities": None,
    "allowed": (),  # conditions on hyperparameters: "0 <= clip < 1", "reduction in ('mean', 'sum')"
    "parts": {},  # hyperparameter that names another loss -> that loss's inputs
}
# Holds wherever the name occurs, so that no file has to repeat it.
_ALWAYS_ALLOWED = ("temperature > 0",)


@dataclass(frozen=True)
class LossInfo:
    """What a loss's file declares.

    `inputs` is what the loss is called with: "embeddings" (B, D), "logits" (B, L), "features" (the encoder's,
    B, M) or "both" (embeddings and logits). `modalities` None means all. `allowed` holds the conditions on
    hyperparameters, `parts` the hyperparameters that name other losses and what those are called with. Anchors
    and references are groups, "batch" and "prototypes"; they matter for losses on embeddings.
    """

    name: str
    title: str
    paper: str
    equation: str
    inputs: str
    prototypes: bool
    hyperparameters: Mapping[str, Any]
    modalities: tuple[str, ...] | None
    summary: str
    allowed: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    anchors: tuple[str, ...] = ("batch",)
    references: tuple[str, ...] = ("batch",)
    class_name: str = ""


def names() -> list[str]:
    """Sorted names of the built-in losses."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def describe(name: str, file: str | Path | None = None) -> LossInfo:
    """What the loss declares about itself; `file` for a loss kept outside this package.

    Raises LossError for an unknown name, a clash of names, or a file that does not follow the rules.
    """
    path = _locate(name, file)
    return _read(name, path, path.stat().st_mtime_ns)


def source_files(
    name: str, file: str | Path | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[Path, list[Path]]:
    """The loss's own file, and the other files its values depend on (for fingerprints).

    Those are the shared code, the losses that its file imports, and, for a loss made of other losses
    (`joint`), the ones that `settings` choose.
    """
    own = _locate(name, file)
    chosen = validate(name, settings or {}, file)
    others = _imported_losses(own)
    for key in describe(name, file).parts:
        part = _part(chosen[key])[0]
        others |= {_locate(part, None)} | _imported_losses(_locate(part, None))
    return own, sorted(FOLDER.glob("_*.py")) + sorted(others - {own})


def validate(name: str, settings: Mapping[str, Any], file: str | Path | None = None) -> dict[str, Any]:
    """The loss's full hyperparameters: `settings` checked, defaults filled in.

    Raises LossError for an unknown key (with the closest names), a wrong type, or a value out of range.
    """
    info = describe(name, file)
    for key in settings:
        if key not in info.hyperparameters:
            known = ", ".join(info.hyperparameters) or "none"
            close = _closest(key, info.hyperparameters)
            raise LossError(f"loss {name!r} has no hyperparameter {key!r}{close}; it has: {known}")
    full = dict(info.hyperparameters)
    for key, value in settings.items():
        if key in info.parts:
            full[key] = _checked_part(name, key, value, info.parts[key])
        else:
            full[key] = _checked(
                f"{name}.{key}", key, value, info.hyperparameters[key], info.allowed.get(key)
            )
    return full


def create(
    name: str,
    num_labels: int,
    embedding_dim: int | None = None,
    *,
    file: str | Path | None = None,
    generator: torch.Generator | None = None,
    **hyperparameters: Any,
) -> torch.nn.Module:
    """Build the loss `name` as an `nn.Module`.

    `embedding_dim` is needed by losses with prototypes, which are drawn from `generator` where it is given.
    Raises LossError for whatever is wrong with the name, the file or the hyperparameters.
    """
    info = describe(name, file)
    settings = validate(name, hyperparameters, file)
    for key, value in {"num_labels": num_labels, "embedding_dim": embedding_dim}.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise LossError(f"{key} of loss {name!r} must be an integer >= 1, got {value!r}")
    if embedding_dim is None and _needs_width(info, settings):
        raise LossError(
            f"loss {name!r} has parameters of its own: give embedding_dim, the width of its input"
        )
    loss_class = getattr(_module(name, file), info.class_name)
    return loss_class(num_labels=num_labels, embedding_dim=embedding_dim, generator=generator, **settings)


def _needs_width(info: LossInfo, settings: Mapping[str, Any]) -> bool:
    """Whether the loss's parameters (prototypes, heads) depend on the width of what it is called with."""
    parts = [describe(_part(settings[key])[0]) for key in info.parts]
    return info.inputs == "features" or any(i.prototypes for i in [info, *parts])


def _locate(name: str, file: str | Path | None) -> Path:
    if file is None:
        if name not in names():
            raise LossError(f"unknown loss {name!r}{_closest(name, names())}; known: {', '.join(names())}")
        return FOLDER / f"{name}.py"
    path = Path(file)
    if name in names() and path.resolve() != (FOLDER / f"{name}.py").resolve():
        raise LossError(f"{path}: the name {name!r} belongs to a built-in loss; rename your file")
    if not path.is_file():
        raise LossError(f"{path}: no such file, given for the loss {name!r}")
    if path.stem != name:
        raise LossError(f"{path}: a loss is named after its file: call it {path.stem!r}, not {name!r}")
    return path


def _module(name: str, file: str | Path | None) -> Any:
    if file is None:
        return importlib.import_module(f"mlcl.losses.{name}")
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(f"mlcl_external_loss_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that the classes can be pickled
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LossError(f"{path}: the file of loss {name!r} fails when run: {error!r}") from error
    return module


@lru_cache(maxsize=256)
def _read(name: str, path: Path, modified: int) -> LossInfo:
    """Read the declarations of one file; `modified` only keeps the cache honest."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise LossError(f"{path}:{error.lineno}: syntax error: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise LossError(f"{path}: not UTF-8 text: {error}") from error
    docstring = ast.get_docstring(tree)
    if not docstring:
        raise LossError(f"{path}:1: a loss's file starts with a docstring that says what the loss is")
    node = _the_class(path, tree)
    facts, hyperparameters = dict(_FACTS), {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            key = statement.targets[0].id
            if key in _FACTS:
                facts[key] = _literal(path, key, statement.value)
            elif meant := difflib.get_close_matches(key, _FACTS, n=1, cutoff=0.8):
                raise LossError(
                    f"{path}:{statement.lineno}: unknown declaration {key!r} (did you mean {meant[0]!r}?)"
                )
        elif (
            isinstance(statement, ast.AnnAssign)
            and statement.value
            and isinstance(statement.target, ast.Name)
        ):
            hyperparameters[statement.target.id] = _default(path, statement.target.id, statement)
    for key in _REQUIRED:
        if not facts[key]:
            raise LossError(f"{path}:{node.lineno}: class {node.name} lacks the declaration `{key} = ...`")
    _check_facts(path, node.lineno, facts, hyperparameters)
    return LossInfo(
        name=name,
        title=facts["title"] or name,
        paper=facts["paper"],
        equation=facts["equation"],
        inputs=facts["inputs"],
        prototypes="prototypes" in facts["anchors"] + facts["references"],
        hyperparameters=hyperparameters,
        modalities=facts["modalities"],
        summary=docstring.splitlines()[0].strip(),
        allowed=_conditions(path, node.lineno, facts["allowed"], hyperparameters),
        parts=facts["parts"],
        anchors=facts["anchors"],
        references=facts["references"],
        class_name=node.name,
    )


def _the_class(path: Path, tree: ast.Module) -> ast.ClassDef:
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    if len(classes) != 1:
        line = classes[1].lineno if classes else 1
        raise LossError(
            f"{path}:{line}: a loss's file defines exactly one public class, found {len(classes)}"
        )
    return classes[0]


def _literal(path: Path, key: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise LossError(
            f"{path}:{node.lineno}: {key!r} must be a plain literal, since it is read unrun"
        ) from error


def _default(path: Path, key: str, statement: ast.AnnAssign) -> Any:
    assert statement.value is not None
    value = _literal(path, key, statement.value)
    kind = ast.unparse(statement.annotation)
    if kind not in _TYPES:
        allowed = ", ".join(_TYPES)
        raise LossError(f"{path}:{statement.lineno}: hyperparameter {key!r} is a {kind}; allowed: {allowed}")
    if not _is_a(value, _TYPES[kind]):
        raise LossError(f"{path}:{statement.lineno}: the default of {key!r} is {value!r}, not a {kind}")
    return float(value) if kind == "float" else value


def _check_facts(path: Path, line: int, facts: dict[str, Any], hyperparameters: dict[str, Any]) -> None:
    where = f"{path}:{line}"
    if facts["inputs"] not in INPUTS:
        raise LossError(f"{where}: inputs = {facts['inputs']!r}; allowed: {', '.join(INPUTS)}")
    for key in ("anchors", "references"):
        if not isinstance(facts[key], tuple) or not set(facts[key]) <= {"batch", "prototypes"}:
            raise LossError(f"{where}: {key} = {facts[key]!r}; allowed: a tuple of 'batch', 'prototypes'")
    modalities = facts["modalities"]
    if modalities is not None and (
        not isinstance(modalities, tuple) or not set(modalities) <= set(MODALITIES)
    ):
        raise LossError(f"{where}: modalities = {modalities!r}; allowed: None or a tuple of {MODALITIES}")
    for key in facts["parts"]:
        if key not in hyperparameters:
            raise LossError(f"{where}: {key!r} in parts is no hyperparameter of this class")


def _conditions(path: Path, line: int, allowed: Any, hyperparameters: dict[str, Any]) -> dict[str, str]:
    """Hyperparameter -> the comparison that it must satisfy."""
    if not isinstance(allowed, tuple) or not all(isinstance(text, str) for text in allowed):
        raise LossError(
            f"{path}:{line}: allowed = {allowed!r}; it must be a tuple of comparisons, as strings"
        )
    found = {}
    for text in (*_ALWAYS_ALLOWED, *allowed):
        try:
            tree = ast.parse(text, mode="eval")
        except SyntaxError as error:
            raise LossError(f"{path}:{line}: {text!r} in allowed is not a comparison") from error
        used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        plain = (ast.Expression, ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant, ast.Tuple)
        if len(used) != 1 or not all(isinstance(node, plain) for node in ast.walk(tree)):
            raise LossError(
                f"{path}:{line}: {text!r} in allowed must compare one hyperparameter with constants"
            )
        if used[0] in hyperparameters:
            found[used[0]] = text
        elif text in allowed:
            raise LossError(f"{path}:{line}: {used[0]!r} in allowed is no hyperparameter of this class")
    return found


def _checked(where: str, key: str, value: Any, default: Any, condition: str | None) -> Any:
    kind = type(default).__name__
    if not _is_a(value, _TYPES[kind]):
        raise LossError(f"{where} must be a {kind}, got {value!r} ({type(value).__name__})")
    if isinstance(default, float):
        value = float(value)
        if not math.isfinite(value):
            raise LossError(f"{where} must be a finite number, got {value}")
    if condition is not None and not eval(
        condition, {"__builtins__": {}}, {key: value}
    ):  # checked: a comparison
        raise LossError(f"{where} = {value!r} is not allowed: {condition}")
    return value


def _checked_part(name: str, key: str, value: Any, inputs: str) -> Any:
    """A part is the name of another loss, or a mapping {name: ..., its hyperparameters}."""
    if not isinstance(value, str) and not (isinstance(value, Mapping) and isinstance(value.get("name"), str)):
        raise LossError(f"{name}.{key} must be a loss's name or a mapping with the key 'name', got {value!r}")
    part, settings = _part(value)
    if part in names() and describe(part).inputs != inputs:
        fitting = ", ".join(n for n in names() if describe(n).inputs == inputs)
        raise LossError(f"{name}.{key} must be a loss on {inputs}: {fitting}; got {part!r}")
    return {"name": part, **validate(part, settings)}


def _part(value: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(value, str):
        return value, {}
    return value["name"], {k: v for k, v in value.items() if k != "name"}


def _imported_losses(path: Path) -> set[Path]:
    """Files of the losses that the file imports (`from mlcl.losses.x import X`), and that these import."""
    prefix, found = "mlcl.losses.", set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        if module and module.startswith(prefix) and (stem := module.removeprefix(prefix)) in names():
            found |= {FOLDER / f"{stem}.py"} | _imported_losses(FOLDER / f"{stem}.py")
    return found


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _closest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
