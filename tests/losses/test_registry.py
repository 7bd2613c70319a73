"""The plug-in registry: listing without torch, declarations read unrun, settings checked."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlcl import losses

MINE = '''"""Mine: positives weighted by the number of shared labels."""
from mlcl.losses import PairWeighting

class Mine(PairWeighting):
    paper = "unpublished"
    equation = "w_ik = |y_i & y_k| / sum_k |y_i & y_k|"
    temperature: float = 0.1
    def weights(self, pairs):
        return pairs.shared
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_listing_describing_and_validating_do_not_import_torch() -> None:
    code = (
        "import sys; from mlcl import losses\n"
        "for n in losses.names(): losses.describe(n); losses.validate(n, {})\n"
        "assert len(losses.names()) > 10 and 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_names_are_sorted_stems_without_underscores() -> None:
    assert losses.names() == sorted(losses.names())
    assert {"bce", "reg", "jaccard", "supcon_any"} <= set(losses.names())
    assert not any(name.startswith("_") for name in losses.names())


@pytest.mark.parametrize("name", losses.names())
def test_every_built_in_loss_declares_itself_completely(name: str) -> None:
    info = losses.describe(name)
    assert info.name == name
    assert info.title != name, "a built-in loss gives the paper's name for it"
    assert info.paper
    assert info.equation
    assert info.summary.endswith(".")


def test_describe_reads_facts_defaults_and_needs() -> None:
    info = losses.describe("abalone")
    assert (info.inputs, info.prototypes, info.modalities) == ("embeddings", True, None)
    assert info.hyperparameters == {"temperature": 0.1, "alpha": 1.0, "beta": 0.1}
    assert losses.describe("bce").inputs == "logits"
    assert not losses.describe("jaccard").prototypes


def test_an_unknown_name_is_answered_with_the_closest_ones() -> None:
    with pytest.raises(losses.LossError, match=r"unknown loss 'jacard': did you mean jaccard"):
        losses.describe("jacard")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("reg", {"temprature": 0.1}, "no hyperparameter 'temprature': did you mean temperature"),
        ("reg", {"temperature": "hot"}, "reg.temperature must be a float, got 'hot'"),
        ("reg", {"temperature": True}, "must be a float, got True"),
        ("reg", {"temperature": 0}, "reg.temperature = 0.0 is not allowed: temperature > 0"),
        ("reg", {"temperature": float("nan")}, "finite"),
        ("asl", {"clip": 1.0}, "asl.clip = 1.0 is not allowed: 0 <= clip < 1"),
        ("asl", {"reduction": "median"}, r"= 'median' is not allowed: reduction in \('mean', 'sum'\)"),
        ("mulsupcon", {"per_anchor": 1}, "must be a bool, got 1"),
    ],
)
def test_wrong_hyperparameters_are_refused_with_what_is_allowed(
    name: str, settings: dict, message: str
) -> None:
    with pytest.raises(losses.LossError, match=message):
        losses.validate(name, settings)


def test_validate_fills_in_defaults_and_makes_floats_of_integers() -> None:
    settings = losses.validate("abalone", {"alpha": 2})
    assert settings == {"temperature": 0.1, "alpha": 2.0, "beta": 0.1}
    assert isinstance(settings["alpha"], float)


def test_joint_checks_its_parts() -> None:
    given = {"classification": {"name": "asl", "gamma_neg": 2}, "contrastive": "reg", "weight": 0.3}
    settings = losses.validate("joint", given)
    assert settings["classification"]["gamma_neg"] == 2.0
    assert settings["classification"]["clip"] == 0.05
    assert settings["contrastive"] == {"name": "reg", "temperature": 0.1, "alpha": 0.0}
    assert losses.validate("joint", settings) == settings
    for wrong, message in [
        ({"classification": "reg"}, "joint.classification must be a loss on logits: asl, bce, .*; got 'reg'"),
        ({"contrastive": {"name": "reg", "alfa": 1}}, "loss 'reg' has no hyperparameter 'alfa'"),
        ({"contrastive": {"alpha": 1}}, "mapping with the key 'name'"),
        ({"contrastive": "regg"}, "unknown loss 'regg'"),
    ]:
        with pytest.raises(losses.LossError, match=message):
            losses.validate("joint", wrong)
    with pytest.raises(losses.LossError, match="give embedding_dim"):
        losses.create("joint", 3, contrastive="reg")


def test_prototypes_need_an_embedding_dim_and_follow_the_generator() -> None:
    import torch

    with pytest.raises(losses.LossError, match="give embedding_dim"):
        losses.create("prototype", num_labels=3)
    first, second = (
        losses.create("prototype", 3, 8, generator=torch.Generator().manual_seed(7)).prototypes
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_an_external_file_is_described_validated_and_built(mine: Path) -> None:
    assert (
        losses.describe("mine", file=mine).summary
        == "Mine: positives weighted by the number of shared labels."
    )
    assert losses.validate("mine", {}, file=mine) == {"temperature": 0.1}
    assert losses.create("mine", num_labels=3, file=mine, temperature=0.2).temperature == 0.2


def test_an_external_file_may_not_take_a_built_in_name(mine: Path) -> None:
    clash = mine.rename(mine.with_name("reg.py"))
    with pytest.raises(losses.LossError, match=r"reg\.py.*belongs to a built-in loss"):
        losses.describe("reg", file=clash)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    equation",
            "    refrences = ('batch',)\n    equation",
            r"mine\.py:6: .*did you mean 'references'",
        ),
        ("class Mine(", "class Mine((", r"mine\.py:\d+: syntax error"),
        (
            "    equation",
            "    allowed = ('alpha > 0',)\n    equation",
            "'alpha' in allowed is no hyperparameter",
        ),
        (
            "    equation",
            "    allowed = ('exit()',)\n    equation",
            "must compare one hyperparameter with constants",
        ),
        ('    paper = "unpublished"\n', "", r"mine\.py:4: class Mine lacks the declaration `paper"),
        (
            "temperature: float = 0.1",
            "temperature: float = half()",
            r"mine\.py:7: 'temperature' must be a plain",
        ),
        (
            "temperature: float",
            "temperature: complex",
            r"mine\.py:7: hyperparameter 'temperature' is a complex",
        ),
        (
            "class Mine(",
            "class _Mine(",
            r"mine\.py:1: a loss's file defines exactly one public class, found 0",
        ),
        ('    paper = "unp', '    inputs = "pixels"\n    paper = "unp', r"inputs = 'pixels'; allowed"),
        ('"""Mine', '"not triple" if 0 else """Mine', r"mine\.py:1: a loss's file starts with a docstring"),
    ],
)
def test_a_file_that_breaks_the_rules_is_named_with_its_line(
    mine: Path, old: str, new: str, message: str
) -> None:
    mine.write_text(MINE.replace(old, new))
    with pytest.raises(losses.LossError, match=message):
        losses.describe("mine", file=mine)


def test_an_unknown_reduction_is_refused(mine: Path) -> None:
    mine.write_text(MINE.replace("    equation", "    reduction = 'rows'\n    equation"))
    with pytest.raises(
        losses.LossError, match="reduction = 'rows'; allowed: anchors, positive_anchors, pairs"
    ):
        losses.create("mine", 3, file=mine)


def test_a_missing_external_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(losses.LossError, match="no such file"):
        losses.describe("mine", file=tmp_path / "mine.py")


PLAIN = """\"\"\"Mine: a module of its own.\"\"\"
from torch import nn

class Mine(nn.Module):
    paper = "unpublished"
    equation = "w"
    inputs = "{inputs}"

    def __init__(self, num_labels, embedding_dim=None, generator=None):
        super().__init__()

    def forward(self, {parameters}):
        return 0
"""


@pytest.mark.parametrize(
    ("inputs", "parameters", "accepts"),
    [
        ("embeddings", "embeddings, labels", False),
        ("embeddings", "embeddings, labels, references=None", True),
        ("embeddings", "embeddings, labels, **others", True),
        ("logits", "logits, labels", False),
    ],
)
def test_a_plain_module_says_by_its_forward_whether_it_takes_references(
    mine: Path, inputs: str, parameters: str, accepts: bool
) -> None:
    mine.write_text(PLAIN.format(inputs=inputs, parameters=parameters))
    assert losses.describe("mine", file=mine).accepts_references is accepts
    assert losses.create("mine", num_labels=3, file=mine).num_labels == 3


def test_built_in_losses_on_embeddings_accept_references() -> None:
    accepting = {name for name in losses.names() if losses.describe(name).accepts_references}
    assert accepting == {n for n in losses.names() if losses.describe(n).inputs in ("embeddings", "both")}


@pytest.mark.parametrize(
    ("inputs", "old", "new", "message"),
    [
        (
            "logits",
            "logits, labels",
            "logits",
            r"mine\.py:12: forward is called with \(logits, labels\), and takes",
        ),
        ("both", "logits, labels", "embeddings, labels", r"called with \(embeddings, logits, labels\)"),
        ("logits", "embedding_dim=None, ", "", r"mine\.py:9: __init__ must take .*; missing: embedding_dim"),
        ("logits", "def forward", "def backward", r"mine\.py:4: class Mine has no forward"),
        ("features", "logits, labels", "features, labels", r"must set self\.pi, the nn\.Linear"),
    ],
)
def test_a_plain_module_that_training_cannot_call_is_refused_when_described(
    mine: Path, inputs: str, old: str, new: str, message: str
) -> None:
    mine.write_text(PLAIN.format(inputs=inputs, parameters="logits, labels").replace(old, new))
    with pytest.raises(losses.LossError, match=message):
        losses.describe("mine", file=mine)
