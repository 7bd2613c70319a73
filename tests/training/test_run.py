"""Cells: deterministic, on equal terms for all losses, with clear failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import only_scores

import data_prep
from mlcl.data import PreparedDataset, open_dataset
from mlcl.training import heads
from mlcl.training.context import Context
from mlcl.training.events import Diverged, EpochEnd
from mlcl.training.fit import random_streams
from mlcl.training.launch import train
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

TINY_GRID = {
    "learning_rates": [0.1, 0.01],
    "weight_decays": [0.01],
    "heads": 2,
    "epochs": 3,
    "batch_size": 64,
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("digits") / "prepared"
    recipe = data_prep.plan("digit_scenes", {"train": 200, "val": 80, "test": 80}, Path("raw"), False)
    data_prep.prepare(recipe, Path("raw"), folder)
    return open_dataset(folder)


def settings(name: str | None = "jaccard", seed: int = 0, **changes: Any) -> CellSettings:
    contrastive = name not in ("bce", None)
    values = {
        "seed": seed,
        "protocol": "contrastive_linear" if contrastive else "end_to_end",
        "dataset": {"source": "digit_scenes", "settings": {}, "subset": {}},
        "encoder": {"name": "cnn", "settings": {"width": 4}},
        "loss": {"name": name, "file": None, "hyperparameters": {}} if name else None,
        "training": ({"projection_dim": 8} if contrastive else {})
        | {"epochs": 2, "batch_size": 32, "learning_rate": 0.01},
        "readouts": ["linear"] if contrastive or name is None else ["head"],
        "linear_evaluation": TINY_GRID,
        "compute": {"threads": 1, "device": "cpu"},
    }
    return CellSettings.model_validate(values | changes)


def run(cell: CellSettings, dataset: PreparedDataset) -> Outcome:
    return train(cell, dataset, lambda line: None)


def without_time(curve: list[EpochEnd]) -> list[tuple[float, ...]]:
    return [(line.epoch, line.step, line.loss, line.learning_rate) for line in curve]


@pytest.mark.parametrize("loss", ["bce", "jaccard", "reg"])
def test_the_same_cell_gives_the_same_bits(digits: PreparedDataset, loss: str) -> None:
    first = run(settings(loss), digits)
    torch.rand(7)  # whatever else draws random numbers in between
    second = run(settings(loss), digits)
    for split in ("val", "test"):
        assert np.array_equal(only_scores(first)[split], only_scores(second)[split])
        assert np.array_equal(first.features[split], second.features[split])
    assert without_time(first.fitted.curve) == without_time(second.fitted.curve)


def test_another_seed_gives_another_result(digits: PreparedDataset) -> None:
    first, second = run(settings(seed=0), digits), run(settings(seed=1), digits)
    assert not np.array_equal(only_scores(first)["test"], only_scores(second)["test"])


def test_initial_encoder_order_and_subset_do_not_depend_on_the_loss(digits: PreparedDataset) -> None:
    seen = []
    for loss in ("bce", "jaccard", "reg"):
        subset = {"source": "digit_scenes", "settings": {}, "subset": {"fraction": 0.5}}
        context = Context(settings(loss, dataset=subset), digits, torch.device("cpu"), lambda line: None)
        weights = torch.cat([p.flatten() for p in context.new_encoder().parameters()])
        order = torch.randperm(50, generator=random_streams(context, "training").order)
        seen.append((weights, order, torch.from_numpy(context.train_rows)))
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


def test_scores_are_probabilities_in_the_order_of_the_split(digits: PreparedDataset) -> None:
    for cell in (
        settings("bce"),
        settings("prototype"),
        settings(None, protocol="random_encoder", training=None),
    ):
        outcome = run(cell, digits)
        for split in ("val", "test"):
            scores = only_scores(outcome)[split]
            assert scores.shape == (len(digits[split]), digits.num_labels)
            assert ((scores >= 0) & (scores <= 1)).all()
        assert outcome.examples == {"train": 200, "val": 80, "test": 80}


def test_training_learns_something(digits: PreparedDataset) -> None:
    from mlcl.evaluation.metrics import evaluate

    longer = {"epochs": 15, "batch_size": 32, "learning_rate": 0.02}
    prior = np.tile(digits["train"].dense_labels().mean(0), (len(digits["test"]), 1))
    truth = digits["test"].dense_labels()
    learned = evaluate(truth, only_scores(run(settings("bce", training=longer), digits))["test"])["map"]
    assert learned > evaluate(truth, prior.astype(np.float32))["map"] + 0.05


def test_a_tenth_of_the_data_is_trained_for_as_many_steps_and_validated_on_a_tenth(
    digits: PreparedDataset,
) -> None:
    def tenth(training: dict[str, Any]) -> Outcome:
        data = {"source": "digit_scenes", "settings": {}, "subset": {"fraction": 0.1, "val_fraction": 0.1}}
        given = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "selection": "best_val_loss"}
        return run(
            settings("bce", dataset=data, training=given | training, readouts=["head", "linear"]), digits
        )

    whole, few, enough = run(settings("bce"), digits), tenth({}), tenth({"steps_per_epoch": "all_rows"})
    assert [line.step for line in whole.fitted.curve] == [6, 12]
    assert [line.step for line in few.fitted.curve] == [1, 2]
    assert [line.step for line in enough.fitted.curve] == [6, 12]
    assert enough.examples == {"train": 20, "val": 8, "test": 80}
    assert set(enough.rows["val"]) <= set(range(80))
    for scores in enough.scores.values():
        assert [len(scores[split]) for split in ("val", "test")] == [8, 80]
    head, features = enough.heads["head"], torch.from_numpy(enough.features["val"])
    loss = torch.nn.functional.binary_cross_entropy(
        head.probabilities(features),
        torch.from_numpy(digits["val"].dense_labels(enough.rows["val"])).float(),
    )
    assert min(line.val_loss for line in enough.fitted.curve) == pytest.approx(float(loss), rel=1e-4)
    for name in ("label_prior", "random"):
        cell = settings(None, protocol=name, encoder=None, training=None, readouts=[])
        part = cell.dataset.model_dump() | {"subset": {"val_fraction": 0.1}}
        cut = run(CellSettings.model_validate(cell.model_dump() | {"dataset": part}), digits)
        assert len(only_scores(cut)["val"]) == 8


def test_label_prior_is_the_frequency_in_the_subset(digits: PreparedDataset) -> None:
    subset = {"source": "digit_scenes", "settings": {}, "subset": {"fraction": 0.25}}
    cell = settings(None, protocol="label_prior", encoder=None, training=None, readouts=[], dataset=subset)
    context = Context(cell, digits, torch.device("cpu"), lambda line: None)
    expected = digits["train"].dense_labels()[context.train_rows].mean(axis=0)
    assert len(context.train_rows) == 50
    assert np.allclose(only_scores(run(cell, digits))["test"], expected)


def test_a_loss_that_compares_labels_learns_from_the_rows_of_the_subset(digits: PreparedDataset) -> None:
    subset = {"source": "digit_scenes", "settings": {}, "subset": {"fraction": 0.25}}
    cell = settings("gma_scl", dataset=subset)
    context = Context(cell, digits, torch.device("cpu"), lambda line: None)
    loss = heads.loss(context, embedding_dim=8)
    counts = digits["train"].dense_labels()[context.train_rows].sum(axis=0)
    expected = 1 + np.log((1 + len(context.train_rows)) / (1 + counts))
    assert np.allclose(loss.label_idf.numpy(), expected)
    assert (loss.label_similarity.fill_diagonal_(0) > 0).any()


def test_a_non_finite_loss_stops_the_cell_and_is_located(digits: PreparedDataset, tmp_path: Path) -> None:
    file = tmp_path / "late.py"
    file.write_text(
        '"""Turns NaN in the second epoch."""\n'
        "from mlcl.losses import PairWeighting\n\n"
        "class Late(PairWeighting):\n"
        '    paper = "none"\n'
        '    equation = "none"\n'
        "    calls = 0\n"
        "    def forward(self, embeddings, labels, references=None):\n"
        "        self.calls += 1\n"
        '        return embeddings.sum() * (float("nan") if self.calls == 8 else 0)\n'
    )
    loss = {"name": "late", "file": file, "hyperparameters": {}}
    with pytest.raises(Diverged, match=r"epoch 2, step 8: the loss was nan"):
        run(settings("late", loss=loss), digits)


def test_fewer_rows_than_a_batch_are_one_batch(digits: PreparedDataset) -> None:
    large = {"epochs": 2, "batch_size": 512, "projection_dim": 8, "learning_rate": 0.01}
    outcome = run(settings("jaccard", training=large), digits)
    assert [line.step for line in outcome.fitted.curve] == [1, 2]


WHAT_IS_IMPORTED = """
import sys, tempfile
import os
import subprocess
import sys
from pathlib import Path
import tiny
for modality, loss in (("image", "bce"), ("text", "jaccard"), ("vector", "reg")):
    with tempfile.TemporaryDirectory() as folder:
        dataset = tiny.prepare(modality, Path(folder) / "prepared")
        assert tiny.run(tiny.cell(dataset, loss), dataset).throughput["flops_per_second"] > 0
print(*(name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules))
"""


def test_a_cell_does_not_import_the_compiler() -> None:
    """Which takes longer than many a training. Something in torch or in a library imports it at the slightest touch."""
    folder = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{folder.parents[1]}{os.pathsep}{folder}"}
    ran = subprocess.run(
        [sys.executable, "-c", WHAT_IS_IMPORTED], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == []
