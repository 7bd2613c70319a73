"""Losses as classes: `from mlcl.losses import Reg`, with a signature, checks, and words for a wrong call."""

import copy
import inspect
import pickle
import pydoc
import re
import warnings
from typing import Any

import pytest
import torch
from cases import LABELS, NUM_LABELS, WIDTH, inputs_for

from mlcl import losses


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_is_a_class_with_its_hyperparameters_in_the_signature(name: str) -> None:
    info = losses.describe(name)
    loss_class = getattr(losses, info.class_name)
    assert info.class_name in dir(losses)
    parameters = inspect.signature(loss_class).parameters
    shown = {key: p.default for key, p in parameters.items() if key in info.hyperparameters}
    assert shown == info.hyperparameters
    assert list(parameters)[:2] == ["num_labels", "embedding_dim"]
    loss = loss_class(NUM_LABELS, WIDTH, generator=torch.Generator().manual_seed(11))
    created = losses.create(name, NUM_LABELS, WIDTH, generator=torch.Generator().manual_seed(11))
    inputs, labels = inputs_for(name, 6), LABELS["ordinary"]
    assert torch.equal(loss(*inputs.values(), labels), created(*inputs.values(), labels))
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(copied(*inputs.values(), labels), created(*inputs.values(), labels))


def test_a_name_that_is_no_loss() -> None:
    misspelt = "SimDisim"
    with pytest.raises(AttributeError, match=misspelt):
        getattr(losses, misspelt)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Asl", "cannot import name 'Asl' from 'mlcl.losses': did you mean ASL?"),
        ("SupConall", "did you mean SupConAll?"),
        ("Gma_Scl", "did you mean GmaScl?"),
        ("SimDisim", "did you mean SimDissim? valid are ASL, Abalone, BCE"),
    ],
)
def test_an_import_of_a_misspelt_class_names_the_right_one(name: str, said: str) -> None:
    with pytest.raises(ImportError, match=re.escape(said)):
        exec(f"from mlcl.losses import {name}")
    assert not hasattr(losses, name)


def test_what_is_no_class_is_imported_as_ever() -> None:
    with pytest.raises(ImportError, match="cannot import name 'bogus'"):
        exec("from mlcl.losses import bogus")
    module = __import__("mlcl.losses", fromlist=["asl"])
    assert module.asl.ASL is losses.ASL


@pytest.mark.parametrize("name", losses.names())
def test_help_of_a_class_says_how_it_is_built_and_called(name: str) -> None:
    info = losses.describe(name)
    loss_class = getattr(losses, info.class_name)
    text = loss_class.__doc__
    assert text.startswith(info.summary)
    assert f"Paper: {info.paper}" in text
    for key, default in info.hyperparameters.items():
        assert f"    {key}: {type(default).__name__} = {default!r}" in text
    shapes = {"embeddings": "(B, D)", "logits": "(B, L)", "features": "(B, M)"}
    wanted = ("embeddings", "logits") if info.inputs == "both" else (info.inputs,)
    assert "Called with " + ", ".join(f"{key} {shapes[key]}" for key in wanted) + ", labels (B, L)" in text
    assert "num_labels: L; embedding_dim: width of the input" in pydoc.plain(
        pydoc.render_doc(loss_class.__init__)
    )
    assert text in pydoc.plain(pydoc.render_doc(loss_class)).replace("\n |  ", "\n").replace("\n |", "\n")


def test_documentation_of_what_only_some_losses_have() -> None:
    assert "temperature: float = 0.07  (temperature > 0)" in losses.SimDissim.__doc__
    assert "w_ik = K^s_ik K^d_ik / |P_i|" in losses.SimDissim.__doc__
    assert "references=(embeddings (Q, D), labels (Q, L))" in losses.SimDissim.__doc__
    assert "embedding_dim: not needed\n" in losses.SimDissim.__doc__
    assert "generator" not in losses.SimDissim.__doc__
    assert "generator: draws prototypes" in losses.Reg.__doc__
    assert "embedding_dim: D, the width of the embeddings\n" in losses.Reg.__doc__
    assert "a label of -1 is unknown" in losses.ASL.__doc__
    assert "a label of -1 is unknown" not in losses.ZLPR.__doc__
    assert "contrastive: str = 'supcon_all'  (a loss on embeddings: its name" in losses.Joint.__doc__


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: losses.SimDissim(5, temperature=-1.0), "SimDissim.temperature = -1.0 is not allowed"),
        (lambda: losses.SimDissim(5, temperature="hot"), "must be a float, got 'hot'"),
        (lambda: losses.SimDissim(5, temprature=0.1), "did you mean temperature"),
        (lambda: losses.SimDissim(0), "num_labels of SimDissim must be an integer >= 1, got 0"),
        (lambda: losses.Reg(5), "Reg has prototypes: give embedding_dim"),
        (lambda: losses.KMCL(5, 8, case="round"), "KMCL.case = 'round' is not allowed"),
        (lambda: losses.create("joint"), "num_labels of loss 'joint' must be an integer >= 1"),
    ],
)
def test_what_is_wrong_is_said_at_construction(build: Any, message: str) -> None:
    with pytest.raises(losses.LossError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("joint", "embeddings, logits, labels"),
        ("reg", "embeddings, labels"),
        ("bce", "logits, labels"),
        ("kmcl", "features, labels"),
    ],
)
def test_a_call_with_too_little_says_what_is_needed(name: str, needs: str) -> None:
    loss = losses.create(name, NUM_LABELS, WIDTH)
    given = list(inputs_for(name, 3).values())
    with pytest.raises(losses.LossInputError, match=rf"is called with \({needs}\), got {len(given)}"):
        loss(*given)


def test_a_class_of_a_notebook_is_checked_too() -> None:
    class Mine(losses.Jaccard):
        allowed = ("power > 0",)
        power: float = 1

        def weights(self, pairs: Any) -> torch.Tensor:
            return super().weights(pairs) ** self.power

    assert "power=2.0" in repr(Mine(NUM_LABELS, power=2))
    with pytest.raises(losses.LossError, match=r"Mine\.power = -1\.0 is not allowed"):
        Mine(NUM_LABELS, power=-1)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_prototypes_that_no_optimizer_has_are_warned_of(trained: bool, fused: bool) -> None:
    loss = losses.Prototype(NUM_LABELS, WIDTH)
    loss.still_after = 5
    optimizer = torch.optim.AdamW(
        loss.parameters() if trained else [torch.nn.Parameter(torch.ones(1))], fused=fused
    )
    (embeddings,) = inputs_for("prototype", 6, dtype=torch.float32).values()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            loss(embeddings, LABELS["ordinary"]).backward()
            optimizer.step()
    told = [str(w.message) for w in caught if "loss.parameters()" in str(w.message)]
    assert len(told) == (0 if trained else 1)
