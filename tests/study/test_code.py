"""Which code a cell depends on: what makes it stale, and what does not, by counting cells of planned studies."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import data_prep
import mlcl
from data_prep.definitions import Project
from mlcl import encoders, losses
from mlcl.errors import ConfigError
from mlcl.study import code
from mlcl.study.cells import Cell
from mlcl.study.code import code_of
from mlcl.study.plan import make_plan
from mlcl.training import protocols
from mlcl.training.settings import CellSettings, LossPart

MINE = """'''Shared labels.'''
import helper
from mlcl.losses import PairWeighting

class Mine(PairWeighting):
    paper = "none"
    equation = "none"

    def weights(self, pairs):
        return helper.FACTOR * pairs.shared
"""
ROOT = Path(__file__).parents[2]
PACKAGES = {"mlcl": Path(mlcl.__file__).parent, "data_prep": Path(data_prep.__file__).parent}


@cache
def cells() -> list[Cell]:
    """Cells of all kinds: of the default study and of some papers'."""
    names = ("default", "studies/mulan", "studies/mulsupcon", "studies/kmcl", "studies/simdissim_small")
    plans = [make_plan(ROOT / "config" / f"{name}.yaml", ROOT / "no-data-needed") for name in names]
    return [planned.cell for made in plans for planned in made.cells]


@cache
def as_they_are() -> dict[int, str]:
    return {number: code_of(cell.settings).digest for number, cell in enumerate(cells())}


class Changed:
    """A copy of the packages in which a test changes something."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, package in PACKAGES.items():
            shutil.copytree(package, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} does not contain {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def write(self, file: str, text: str) -> None:
        (self.folder / file).write_text(text, encoding="utf-8")

    def stale(self) -> list[Cell]:
        """The cells that are to be made again."""
        project = Project({name: self.folder / name for name in PACKAGES})
        return [
            cell
            for number, cell in enumerate(cells())
            if code_of(cell.settings, project).digest != as_they_are()[number]
        ]


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    return Changed(tmp_path)


def test_the_studies_have_cells_of_all_kinds() -> None:
    assert {cell.settings.protocol for cell in cells()} == set(protocols.names())
    assert {cell.settings.encoder.name for cell in cells() if cell.settings.encoder} >= {
        "cnn",
        "mlp",
        "transformer",
    }


def test_nothing_changed_is_nothing_to_make(changed: Changed) -> None:
    assert changed.stale() == []


def test_a_new_encoder_protocol_or_loss_concerns_nobody(changed: Changed) -> None:
    changed.write("mlcl/encoders/mine.py", "X = 1\n")
    changed.write("mlcl/losses/mine.py", (PACKAGES["mlcl"] / "losses" / "jaccard.py").read_text())
    changed.write(
        "mlcl/training/protocols/mine.py", (PACKAGES["mlcl"] / "training/protocols/joint.py").read_text()
    )
    changed.edit("mlcl/training/settings.py", '"contrastive_linear",', '"contrastive_linear",\n    "mine",')
    assert changed.stale() == []


def test_a_new_name_in_the_catalog_concerns_nobody(changed: Changed) -> None:
    changed.edit(
        "mlcl/encoders/catalog.py",
        '("tresnet_m", "tresnet_l")',
        '("tresnet_m", "tresnet_l", "tresnet_xl")',
    )
    changed.edit(
        "mlcl/encoders/catalog.py",
        'EncoderInfo("mlp", "vector", MlpSettings, "mlcl.encoders.mlp", 1e-3),',
        'EncoderInfo("mlp", "vector", MlpSettings, "mlcl.encoders.mlp", 1e-3),\n'
        '        EncoderInfo("mine", "vector", MlpSettings, "mlcl.encoders.mine", 1e-3),',
    )
    assert changed.stale() == []


def test_a_moved_module_concerns_nobody(changed: Changed) -> None:
    (changed.folder / "mlcl/losses/_kernel.py").rename(
        changed.folder / "mlcl/losses/_weighted_cross_entropy.py"
    )
    (changed.folder / "mlcl/encoders/base.py").rename(changed.folder / "mlcl/data/encoder_base.py")
    for file in changed.folder.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        text = text.replace("mlcl.losses._kernel", "mlcl.losses._weighted_cross_entropy")
        file.write_text(text.replace("mlcl.encoders.base", "mlcl.data.encoder_base"), encoding="utf-8")
    assert changed.stale() == []


def test_the_words_of_a_message_concern_nobody(changed: Changed) -> None:
    changed.edit(
        "mlcl/losses/_base.py", "must be a floating-point tensor, got", "is no floating-point tensor:"
    )
    changed.edit("mlcl/training/context.py", "needs an encoder", "cannot do without an encoder")
    assert changed.stale() == []


def test_what_a_cell_does_not_run_does_not_concern_it(changed: Changed) -> None:
    """A private function that only some losses use, in a module that all of them import."""
    changed.edit("mlcl/losses/_weighting.py", "def carried(", "def carried_by(")
    changed.edit("mlcl/losses/_weighting.py", " carried(", " carried_by(")
    weightings = {cell.settings.loss.name for cell in changed.stale() if cell.settings.loss}
    assert "mulsupcon" in weightings
    assert not weightings & {"jaccard", "supcon_all", "supcon_any", "bce", "asl"}


def test_a_loss_depends_on_the_losses_that_it_is_made_of() -> None:
    """By inheritance, or because its settings name them."""
    settings = first_of("joint")
    assert settings.loss is not None
    given = losses.validate("joint", {"classification": {"name": "asl"}, "contrastive": "reg"})
    part = settings.loss.model_copy(update={"hyperparameters": given})
    reached = code_of(settings.model_copy(update={"loss": part})).definitions
    modules = {name.rpartition(".")[0].removeprefix("mlcl.losses.") for name in reached}
    assert modules & set(losses.names()) == {"asl", "joint", "reg", "reg_ablated"}


def first_of(protocol: str) -> CellSettings:
    return next(cell.settings for cell in cells() if cell.settings.protocol == protocol)


def with_file(text: str, folder: Path) -> CellSettings:
    """A contrastive cell with a loss from a file of one's own."""
    file = folder / "mine.py"
    file.write_text(text)
    part = LossPart(name="mine", file=file, hyperparameters={})
    return first_of("contrastive_linear").model_copy(update={"loss": part})


def test_a_file_of_ones_own_counts_with_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("FACTOR = 2\n")
    settings = with_file(MINE, tmp_path)
    before = code_of(settings, Project(PACKAGES)).digest
    assert code_of(settings, Project(PACKAGES)).digest == before
    (tmp_path / "helper.py").write_text("FACTOR = 3\n")
    assert code_of(settings, Project(PACKAGES)).digest != before


def test_code_that_imports_what_cannot_be_known_is_refused(tmp_path: Path) -> None:
    text = MINE.replace("import helper", "import importlib")
    text = text.replace("helper.FACTOR", "importlib.import_module(self.name).FACTOR")
    with pytest.raises(
        ConfigError, match=r"mine\.Mine: imports a module by a name that is known only when it"
    ):
        code_of(with_file(text, tmp_path))


Kind = Callable[[Cell], bool]


def of_family(name: str) -> Kind:
    def concerned(cell: Cell) -> bool:
        encoder = cell.settings.encoder
        return encoder is not None and encoders.describe(encoder.name).name == name

    return concerned


def of_protocol(name: str) -> Kind:
    return lambda cell: cell.settings.protocol == name


def is_contrastive(cell: Cell) -> bool:
    return cell.settings.protocol in ("contrastive_linear", "joint", "momentum_queue")


def may_use_bce(cell: Cell) -> bool:
    """As the loss, as a part of it, or as the loss of `momentum_queue`'s second stage, which its code names."""
    return "bce" in str(cell.settings.loss) or cell.settings.protocol == "momentum_queue"


def is_read_by_linear_heads(cell: Cell) -> bool:
    return cell.settings.linear_evaluation is not None


@pytest.mark.parametrize(
    ("file", "old", "new", "concerned"),
    [
        ("mlcl/encoders/cnn.py", "2 * width, 4 * width", "3 * width, 4 * width", of_family("cnn")),
        ("mlcl/encoders/transformer.py", "* 0.02", "* 0.03", of_family("transformer")),
        ("mlcl/losses/_kernel.py", "alpha=1 / problem", "alpha=2 / problem", is_contrastive),
        ("mlcl/losses/bce.py", "none", "mean", may_use_bce),
        ("mlcl/evaluation/linear.py", "beta2=0.999", "beta2=0.99", is_read_by_linear_heads),
        ("mlcl/training/protocols/label_prior.py", "axis=0", "axis=-2", of_protocol("label_prior")),
        ("mlcl/training/protocols/kmcl.py", "OwnHeads(encoder, loss)", "OwnHeads(encoder, 0)", of_protocol("kmcl")),
    ],
)  # fmt: skip
def test_a_change_concerns_the_cells_that_run_it_and_no_others(
    changed: Changed, file: str, old: str, new: str, concerned: Kind
) -> None:
    changed.edit(file, old, new)
    expected = [cell for cell in cells() if concerned(cell)]
    assert expected
    assert changed.stale() == expected


def test_every_condition_is_on_code_that_is_there() -> None:
    for place in (*code.CONDITIONS, *code.NO_PART_IN_RESULTS, *code.LISTS_OF_NAMES, *code.ENTRIES):
        found, left = code.installed().statements(place)
        assert found, place
        assert not left, place


def test_what_imports_by_name_is_known_and_still_does() -> None:
    found = {name for cell in cells() for name in code_of(cell.settings).imports_by_name}
    assert found == code.IMPORT_BY_NAME


UNFOLLOWED = {"__init_subclass__", "__subclasses__", "__import__", "__set_name__"}
"""Ways to reach code that no name leads to."""


def test_no_code_is_reached_in_ways_that_cannot_be_followed() -> None:
    """By registries of subclasses, metaclasses, or changes that one module makes to the names of another."""
    found = []
    for package in PACKAGES.values():
        for file in sorted(package.rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            imported = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
                for alias in node.names
            }
            for node in ast.walk(tree):
                match node:
                    case ast.FunctionDef(name=name) | ast.Attribute(attr=name) | ast.Name(id=name):
                        if name in UNFOLLOWED:
                            found.append(f"{file}:{node.lineno}: {name}")
                    case ast.ClassDef(keywords=[_, *_]):
                        found.append(f"{file}:{node.lineno}: a class with keywords")
                    case ast.ImportFrom(names=[ast.alias(name="*")]):
                        found.append(f"{file}:{node.lineno}: a star import")
                match node:
                    case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store()) if name in imported:
                        found.append(f"{file}:{node.lineno}: changes {name}")
    assert not found
