"""What a loss's file says about itself, read from its syntax tree without running it.

The file has a docstring (its first line is the summary) and exactly one public class, in whose body

- plain assignments of literals are facts: `paper` and `equation` are required; `title`, `inputs`, `anchors`,
  `references`, `modalities`, `allowed`, `parts`, `elementwise` have defaults (`_FACTS`);
- annotated assignments with a value are the hyperparameters and their defaults (`temperature: float = 0.1`).

Methods that the class writes itself are compared with how losses are built and called (`CALLED_WITH`), so that a
study learns of a mismatch when it is planned.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlcl.losses._errors import LossError

INPUTS = ("embeddings", "logits", "features", "both")
MODALITIES = ("image", "text", "vector")
BUILT_WITH = ("num_labels", "embedding_dim", "generator")
CALLED_WITH = {
    "embeddings": ("embeddings", "labels"),
    "logits": ("logits", "labels"),
    "features": ("features", "labels"),
    "both": ("embeddings", "logits", "labels"),
}
"""What a loss's `forward` gets, in this order; on embeddings also `references=`, under protocols with a queue."""

TYPES: dict[str, tuple[type, ...]] = {"float": (float, int), "int": (int,), "bool": (bool,), "str": (str,)}
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
    "elementwise": False,  # on logits: each term is of one row and label, so that those of unknown labels are left out
}
# Holds wherever the name occurs, so that no file has to repeat it.
_ALWAYS_ALLOWED = ("temperature > 0",)


@dataclass(frozen=True)
class LossInfo:
    """What a loss's file declares.

    `inputs` is what the loss is called with: "embeddings" (B, D), "logits" (B, L), "features" (the encoder's,
    B, M) or "both" (embeddings and logits). `modalities` None means all. `allowed` holds the conditions on
    hyperparameters, `parts` the hyperparameters that name other losses and what those are called with. Anchors
    and references are groups, "batch" and "prototypes"; they matter for losses on embeddings. `accepts_references`:
    whether `forward` takes `references=(embeddings, labels)` in the batch's stead. `elementwise`: whether labels may be
    -1, unknown.
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
    accepts_references: bool = False
    elementwise: bool = False
    class_name: str = ""


@lru_cache(maxsize=256)
def read_declarations(name: str, path: Path, modified: int) -> LossInfo:
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
    _check_methods(path, node, facts["inputs"])
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
        allowed=conditions(f"{path}:{node.lineno}", facts["allowed"], hyperparameters),
        parts=facts["parts"],
        anchors=facts["anchors"],
        references=facts["references"],
        accepts_references=_accepts_references(node, facts["inputs"]),
        elementwise=facts["elementwise"],
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
    if kind not in TYPES:
        allowed = ", ".join(TYPES)
        raise LossError(f"{path}:{statement.lineno}: hyperparameter {key!r} is a {kind}; allowed: {allowed}")
    if not is_a(value, TYPES[kind]):
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
    if facts["elementwise"] not in (False, True) or (facts["elementwise"] and facts["inputs"] != "logits"):
        raise LossError(
            f"{where}: elementwise = {facts['elementwise']!r}; allowed: True for losses on logits, False"
        )
    for key in facts["parts"]:
        if key not in hyperparameters:
            raise LossError(f"{where}: {key!r} in parts is no hyperparameter of this class")


def _check_methods(path: Path, node: ast.ClassDef, inputs: str) -> None:
    """Raises LossError for an `__init__` or `forward` that cannot be called as losses are, or a missing method."""
    methods = {method.name: method for method in node.body if isinstance(method, ast.FunctionDef)}
    if built := methods.get("__init__"):
        missing = [name for name in BUILT_WITH if name not in _parameters(built)]
        if missing and built.args.kwarg is None:
            raise LossError(
                f"{path}:{built.lineno}: __init__ must take {', '.join(BUILT_WITH)} and the hyperparameters; "
                f"missing: {', '.join(missing)}"
            )
    if forward := methods.get("forward"):
        given, positional = CALLED_WITH[inputs], [*forward.args.posonlyargs, *forward.args.args][1:]
        required = len(positional) - len(forward.args.defaults)
        if not (required <= len(given) <= len(positional) or forward.args.vararg):
            raise LossError(
                f"{path}:{forward.lineno}: forward is called with ({', '.join(given)}), and takes "
                f"({', '.join(argument.arg for argument in positional)})"
            )
    elif _is_plain_module(node):
        raise LossError(f"{path}:{node.lineno}: class {node.name} has no forward")
    if inputs == "features" and _is_plain_module(node) and not _sets(node, "pi"):
        raise LossError(
            f"{path}:{node.lineno}: a loss on features makes the predictions itself: __init__ of class {node.name} "
            "must set self.pi, the nn.Linear from features (B, M) to logits (B, L)"
        )


def _accepts_references(node: ast.ClassDef, inputs: str) -> bool:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "forward":
            return "references" in _parameters(method) or method.args.kwarg is not None
    return inputs == "embeddings"  # the forward of a base class of this package


def _sets(node: ast.ClassDef, attribute: str) -> bool:
    """Whether a method assigns to `self.attribute`."""
    targets = (t for n in ast.walk(node) if isinstance(n, ast.Assign) for t in n.targets)
    return any(isinstance(t, ast.Attribute) and t.attr == attribute for t in targets)


def _parameters(method: ast.FunctionDef) -> set[str]:
    arguments = method.args
    return {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def _is_plain_module(node: ast.ClassDef) -> bool:
    """Whether all bases are `nn.Module` or the like, which have no forward of a loss."""
    return all(ast.unparse(base).rsplit(".", 1)[-1] in ("Module", "Loss", "object") for base in node.bases)


def conditions(where: str, allowed: Any, hyperparameters: Mapping[str, Any]) -> dict[str, str]:
    """Hyperparameter -> the comparison that it must satisfy. `where` begins the message of a LossError."""
    if not isinstance(allowed, tuple) or not all(isinstance(text, str) for text in allowed):
        raise LossError(f"{where}: allowed = {allowed!r}; it must be a tuple of comparisons, as strings")
    found = {}
    for text in (*_ALWAYS_ALLOWED, *allowed):
        try:
            tree = ast.parse(text, mode="eval")
        except SyntaxError as error:
            raise LossError(f"{where}: {text!r} in allowed is not a comparison") from error
        used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        plain = (ast.Expression, ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant, ast.Tuple)
        if len(used) != 1 or not all(isinstance(node, plain) for node in ast.walk(tree)):
            raise LossError(f"{where}: {text!r} in allowed must compare one hyperparameter with constants")
        if used[0] in hyperparameters:
            found[used[0]] = text
        elif text in allowed:
            raise LossError(f"{where}: {used[0]!r} in allowed is no hyperparameter of this class")
    return found


def is_a(value: Any, types: tuple[type, ...]) -> bool:
    """isinstance, but a bool is no number."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def checked_value(where: str, key: str, value: Any, default: Any, condition: str | None) -> Any:
    """The value of a hyperparameter in its default's type.

    Raises LossError, whose message begins with `where`, for another type, a number that is not finite, or a value that
    does not satisfy the condition.
    """
    kind = type(default).__name__
    if not is_a(value, TYPES[kind]):
        raise LossError(f"{where} must be a {kind}, got {value!r} ({type(value).__name__})")
    if isinstance(default, float):
        value = float(value)
        if not math.isfinite(value):
            raise LossError(f"{where} must be a finite number, got {value}")
    # `conditions` let nothing through but a comparison of this hyperparameter with constants.
    if condition is not None and not eval(condition, {"__builtins__": {}}, {key: value}):
        raise LossError(f"{where} = {value!r} is not allowed: {condition}")
    return value


def check_sizes(where: str, num_labels: Any, embedding_dim: Any) -> None:
    """Raises LossError unless these are whole numbers of at least 1; embedding_dim may be None."""
    for key, value in {"num_labels": num_labels, "embedding_dim": embedding_dim}.items():
        if key == "embedding_dim" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise LossError(f"{key} of {where} must be an integer >= 1, got {value!r}")
