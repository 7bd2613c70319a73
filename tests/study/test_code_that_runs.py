"""Cells of all kinds are trained, and every function that runs belongs to the code that the cell depends on."""

from __future__ import annotations

import ast
import importlib
import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import data_prep
import mlcl
from data_prep.definitions import Project
from mlcl.data import PreparedDataset, open_dataset
from mlcl.study import code
from mlcl.study.code import code_of
from mlcl.training.settings import CellSettings
from tests.training.tiny import GRID, cell, prepare, run

PACKAGES = {package.__name__: Path(str(package.__file__)).parent for package in (mlcl, data_prep)}
IMAGES = [{"random_resized_crop": {}}, {"flip": {}}, {"rand_augment": {}}, {"cutout": {}}]
KNN = {"readouts": ["knn"], "linear_evaluation": None, "knn_evaluation": {"neighbours": [3]}}
BOTH = {"readouts": ["head", "linear"], "linear_evaluation": GRID}
SUBSET = {"source": "tiny", "settings": {}, "subset": {"fraction": 0.5, "sampling": "stratified"}}
TUNED = {
    "finetuning": {"epochs": 1, "batch_size": 16, "steps_per_epoch": 2},
    "queue_size": 8,
    "steps_per_epoch": 3,
}
COMPETING = {"ema_decay": 0.9, "ema_warmup": True, "ema_evaluation": "best_val_map"}
CELLS: dict[str, tuple[str, Callable[[PreparedDataset], CellSettings]]] = {
    "contrastive": ("image", lambda data: cell(data, "jaccard", training={"augmentation": IMAGES})),
    "own file's base": ("vector", lambda data: cell(data, "mulsupcon")),
    "prototypes": ("vector", lambda data: cell(data, "abalone")),
    "positives kept": ("vector", lambda data: cell(data, "reg")),
    "classification": ("image", lambda data: cell(data, "bce", training={"micro_batch_size": 5})),
    "text": ("text", lambda data: cell(data, "asl", training={"length_bucketing": True})),
    "kmcl": ("image", lambda data: cell(data, "kmcl", training={"augmentation": "cutout_randaugment"})),
    "kmcl anisotropic": ("vector", lambda data: cell(data, "kmcl", hyperparameters={"case": "anisotropic"})),
    "kmcl's recipe": ("vector", lambda data: cell(data, "zlpr", "kmcl")),
    "joint": ("vector", lambda data: cell(data, "joint", training={"selection": "best_val_micro_f1"})),
    "queue": ("vector", lambda data: cell(data, "supcon_all", "momentum_queue", training={"feature_masking": 0.5})),
    "queue and finetuning": ("text", lambda data: cell(data, "mulsupcon", "momentum_queue", training=TUNED)),
    "selection": ("vector", lambda data: cell(data, "simdissim", training={"selection": "best_val_micro_f1"})),
    "neighbours": ("vector", lambda data: cell(data, "overlap", **KNN)),
    "head and linear": ("vector", lambda data: cell(data, "bce", **BOTH)),
    "frozen": ("image", lambda data: cell(data, "jaccard", encoder={"freeze": True})),
    "moving average": ("vector", lambda data: cell(data, "focal", training={"ema_decay": 0.9})),
    "averaged or plain": ("vector", lambda data: cell(data, "jaccard", training=COMPETING)),
    "one cycle": ("vector", lambda data: cell(data, "hill", training={"schedule": "one_cycle", "optimizer": "sgd"})),
    "subset": ("vector", lambda data: cell(data, "two_way", dataset=SUBSET)),
    "label prior": ("vector", lambda data: cell(data, None, "label_prior", encoder=None)),
    "random": ("vector", lambda data: cell(data, None, "random")),
    "random encoder": ("image", lambda data: cell(data, None, "random_encoder")),
    "mixed precision": ("vector", lambda data: cell(data, "jaccard", compute={"precision": "mixed"})),
}  # fmt: skip


@contextmanager
def functions_that_run() -> Iterator[set[CodeType]]:
    """The code objects of our packages that run in this thread within the block."""
    found: set[CodeType] = set()
    seen: set[CodeType] = set()
    folders = tuple(f"{folder}/" for folder in PACKAGES.values())

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code not in seen:
            seen.add(frame.f_code)
            is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # and no body of a module or class
            if is_function and frame.f_code.co_filename.startswith(folders):
                found.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


def module_of(file: Path) -> str:
    package = next(folder for folder in PACKAGES.values() if file.is_relative_to(folder))
    return ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def statements_of(file: Path) -> list[tuple[int, int, str]]:
    """First and last line of each top-level statement, and its label."""
    source = code.installed().source(module_of(file))
    assert source is not None
    return [(_first_line(each.node), each.node.end_lineno or 0, each.label) for each in source.statements]


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def label_of(ran: CodeType) -> str:
    line = ran.co_firstlineno
    within = [label for first, last, label in statements_of(Path(ran.co_filename)) if first <= line <= last]
    assert len(within) == 1, ran
    return within[0]


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("prepared")

    @cache
    def prepared(modality: str) -> Path:
        return prepare(modality, folder / modality).folder

    return prepared


def labels_that_run(kind: str, datasets: Callable[[str], Path]) -> tuple[CellSettings, set[str]]:
    modality, make = CELLS[kind]
    folder = datasets(modality)
    settings = make(open_dataset(folder))
    if settings.protocol in ("label_prior", "random"):
        settings = settings.model_copy(update={"encoder": None})  # as the grid has them
    with functions_that_run() as found:
        run(settings, open_dataset(folder))
    labels = {label_of(ran) for ran in found}
    # Stands between a name and its import under TYPE_CHECKING, which is what is followed.
    return settings, {label for label in labels if not label.endswith(".__getattr__")}


@pytest.mark.parametrize("kind", CELLS)
def test_all_that_runs_is_code_that_the_cell_depends_on(kind: str, datasets: Callable[[str], Path]) -> None:
    settings, ran = labels_that_run(kind, datasets)
    reached = code_of(settings)
    known = (*code.NO_PART_IN_RESULTS, *code.LISTS_OF_NAMES)
    missed = {label for label in ran - reached.definitions.keys() if not label.startswith(known)}
    assert not missed
    assert len(ran) > 5


def test_a_module_that_makes_names_on_demand_makes_what_it_declares() -> None:
    """Names of such a module are followed by its imports under `if TYPE_CHECKING:`."""
    checked = 0
    for package in PACKAGES.values():
        for file in package.rglob("*.py"):
            source = code.installed().source(module_of(file))
            assert source is not None
            if "__getattr__" not in source.bindings:
                continue
            module = importlib.import_module(source.name)
            for name, target in source.typing_imports.items():
                place, _, attribute = target.rpartition(".")
                if place.startswith("mlcl."):
                    assert getattr(module, name) is getattr(importlib.import_module(place), attribute)
                    checked += 1
    assert checked > 5


class _Mutation(ast.NodeTransformer):
    """Changes the first number, operator or, failing these, attribute of a definition."""

    def __init__(self, kind: type[ast.AST]) -> None:
        self._kind, self.done = kind, False

    def visit(self, node: ast.AST) -> ast.AST:
        if self.done or isinstance(node, ast.Raise | ast.Assert):
            return node
        if isinstance(node, self._kind):
            match node:
                case ast.Constant(value=int() | float()):
                    self.done = True
                    return ast.copy_location(ast.Constant(node.value + 1), node)
                case ast.BinOp():
                    self.done = True
                    node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
                case ast.Compare():
                    self.done = True
                    node.ops[0] = ast.Lt() if isinstance(node.ops[0], ast.GtE) else ast.GtE()
                case ast.Attribute():
                    self.done = True
                    node.attr += "_"
                case ast.Name(ctx=ast.Load()):
                    self.done = True
                    node.id = "None"
        self.generic_visit(node)
        return node


def mutated(text: str, line: int) -> str:
    """The module with a change within the top-level statement that begins at this line."""
    tree = ast.parse(text)
    place = next(i for i, node in enumerate(tree.body) if _first_line(node) <= line <= (node.end_lineno or 0))
    for kind in (ast.Constant, ast.BinOp, ast.Compare, ast.Attribute, ast.Name):
        change = _Mutation(kind)
        tree.body[place] = change.visit(tree.body[place])
        if change.done:
            return ast.unparse(ast.fix_missing_locations(tree))
    raise AssertionError(f"nothing to change at line {line}")


@pytest.mark.slow
def test_a_change_in_any_definition_that_runs_is_seen(
    datasets: Callable[[str], Path], tmp_path: Path
) -> None:
    for name, package in PACKAGES.items():
        shutil.copytree(package, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    copies = {name: tmp_path / name for name in PACKAGES}
    cell_of: dict[str, CellSettings] = {}
    for kind in CELLS:
        settings, ran = labels_that_run(kind, datasets)
        cell_of |= dict.fromkeys(ran, settings)
    unseen = []
    for label, settings in cell_of.items():
        if label.startswith((*code.NO_PART_IN_RESULTS, *code.LISTS_OF_NAMES)):
            continue
        statement = code.installed().statements(label)[0][0]
        source = Path(*statement.module.split("."))
        copy = tmp_path / source.with_suffix(".py")
        if not copy.exists():
            copy = tmp_path / source / "__init__.py"
        text = copy.read_text(encoding="utf-8")
        copy.write_text(mutated(text, statement.node.lineno), encoding="utf-8")
        if code_of(settings, Project(copies)).digest == code_of(settings).digest:
            unseen.append(label)
        copy.write_text(text, encoding="utf-8")
    assert len(cell_of) > 200
    assert not unseen
