"""The file of pair weights: whose they are, what they are, and when they are computed again."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from mlcl import losses
from mlcl.records.outline import LossOutline, open_study, write_outline
from mlcl.records.paths import StudyPaths
from mlcl.study import pair_weights
from mlcl.study.pair_weights import LABELS, example, write_pair_weights
from tests.records.outlines import outline


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return StudyPaths("tiny")


def plan(paths, **losses_of_study):
    """name in the study -> (loss, its settings)"""
    entries = {
        name: LossOutline(
            name=name,
            title=name,
            paper="",
            equation="",
            summary="",
            inputs=losses.describe(loss).inputs,
            protocol=None,
            hyperparameters=losses.validate(loss, settings),
            training={},
            loss=loss,
            file=None,
        )
        for name, (loss, settings) in losses_of_study.items()
    }
    write_outline(outline(losses=entries), paths.outline)


def written(paths):
    return json.loads(paths.pair_weights.read_text())["losses"]


def test_only_losses_that_weigh_pairs_are_in_it_each_with_its_own_settings(paths):
    plan(paths, bce=("bce", {}), mild=("abalone", {"alpha": 0.2}), reg=("reg", {}))
    write_pair_weights(open_study("tiny"))
    found = written(paths)
    assert list(found) == ["mild", "reg"]
    assert (found["reg"]["anchors"], found["reg"]["references"]) == (["batch", "prototypes"],) * 2
    expected = losses.create("abalone", len(LABELS[0]), 1, alpha=0.2).pair_weights(torch.tensor(LABELS))
    assert found["mild"]["weights"] == expected.tolist()
    assert found["mild"]["weights"] != example("abalone")["weights"]


def test_only_what_changed_is_computed_again(paths, monkeypatch):
    made = []

    def count(name, *rest):
        made.append(name)
        return example(name, *rest)

    monkeypatch.setattr(pair_weights, "example", count)
    plan(paths, jaccard=("jaccard", {}), abalone=("abalone", {}))
    write_pair_weights(open_study("tiny"))
    write_pair_weights(open_study("tiny"))
    assert made == ["jaccard", "abalone"]
    plan(paths, jaccard=("jaccard", {}), abalone=("abalone", {"alpha": 2.0}))
    write_pair_weights(open_study("tiny"))
    assert made == ["jaccard", "abalone", "abalone"]
    plan(paths, abalone=("abalone", {"alpha": 2.0}))
    write_pair_weights(open_study("tiny"))
    assert (len(made), list(written(paths))) == (3, ["abalone"])


def test_without_torch_what_is_missing_stays_missing(paths, monkeypatch, caplog):
    plan(paths, jaccard=("jaccard", {}))
    monkeypatch.setitem(sys.modules, "torch", None)  # the import fails
    write_pair_weights(open_study("tiny"))
    assert written(paths) == {}
    assert "no weights of jaccard: ModuleNotFoundError: import of torch" in caplog.text


def test_the_rows_of_the_example_relate_in_all_ways_to_the_first():
    from mlcl.evaluation.representation import relations

    labels = torch.tensor(LABELS).numpy()
    masks = relations(labels @ labels.T, labels.sum(1))
    of_first = [next(name for name, mask in masks.items() if mask[0, k]) for k in range(len(labels))]
    assert of_first == ["equal", "equal", "subset", "superset", "overlap", "disjoint", "disjoint"]
