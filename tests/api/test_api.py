"""One cell in one call gives the numbers of a study's record; what is handed over wrongly is one clear line."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import mlcl
from data_prep import DataError
from mlcl.errors import ConfigError, MlclError
from mlcl.losses import BCE
from mlcl.model import ModelError
from mlcl.study.make import make_cell, prepare_dataset
from mlcl.study.plan import make_plan

PAGE = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
FEW = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01}
GRID = {"learning_rates": [0.1], "weight_decays": [0.01], "heads": 1, "epochs": 3}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Vectors (120, 8) that show their labels (120, 3), with noise."""
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 3)) < 0.4).astype(int)
    return 3 * labels @ rng.normal(size=(3, 8)) + rng.normal(size=(120, 8)), labels


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    assert names["reviews"].label_names == ["price", "quality", "service"]
    assert Path("models/digits/model.safetensors").is_file()
    printed = capsys.readouterr().out
    assert printed.startswith("<mlcl result: reg with cnn on digit_scenes, seed 0; test, in %: micro_f1 ")
    assert re.search(r"^bce +\d+\.\d ± \d+\.\d", printed, re.MULTILINE)


def test_the_numbers_are_those_of_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = {
        "title": "One cell",
        "seeds": [3],
        "datasets": {"digit_scenes": {"train": 96, "val": 48, "test": 48, "fraction": 0.5}},
        "encoders": {"image": {"cnn": {"width": 4}}},
        "losses": {"reg": {"temperature": 0.3}},
        "training": FEW,
        "linear_evaluation": GRID,
    }
    Path("one.yaml").write_text(yaml.safe_dump(study))
    plan = make_plan(Path("one.yaml"))
    plan.write()
    prepare_dataset(plan.paths.dataset_request("digit_scenes"))
    (planned,) = plan.cells
    record = make_cell(plan.paths.request(planned.cell.id), io.StringIO())
    assert record.status == "ok", record.reason
    dataset = mlcl.prepare("digit_scenes", train=96, val=48, test=48)
    assert dataset.folder == plan.datasets["digit_scenes"].folder
    result = mlcl.fit(
        dataset,
        encoder={"name": "cnn", "width": 4},
        loss="reg",
        seed=3,
        linear_evaluation=GRID,
        fraction=0.5,
        temperature=0.3,
        progress=False,
        **FEW,
    )
    assert result.settings == planned.cell.settings
    assert result.by_readout == record.metrics
    assert result.metric("map") == record.metrics["linear"]["test"]["map"]
    assert list(result.curve["epoch"]) == [1, 2]


def test_the_model_scores_new_inputs_as_training_did() -> None:
    vectors, labels = arrays()
    split = ["train"] * 80 + ["val"] * 20 + ["test"] * 20
    dataset = mlcl.prepare(vectors, labels, split=split)
    result = mlcl.fit(dataset, loss=BCE, linear_evaluation=GRID, progress=False, **FEW)
    assert result.scores["head"]["test"].shape == (20, 3)
    again = result.predict_proba(vectors[100:].astype(np.float32))
    np.testing.assert_allclose(again, result.scores[result.readout]["test"], rtol=1e-5, atol=1e-6)
    loaded = mlcl.load_model(result.save("exported"))
    assert loaded.labels == ["label 0", "label 1", "label 2"]
    assert loaded.thresholds("tuned").shape == (3,)


def test_the_caller_keeps_random_state_and_threads() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    mlcl.fit(*arrays(), loss="random_encoder", linear_evaluation=GRID, progress=False)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_one_dataset_in_several_forms() -> None:
    vectors, labels = arrays()
    one = mlcl.prepare(vectors, labels, label_names=["a", "b", "c"], seed=1)
    frame = pd.DataFrame(vectors).assign(a=labels[:, 0], b=labels[:, 1], c=labels[:, 2])
    assert mlcl.prepare(frame, labels=["a", "b", "c"], seed=1).content == one.content
    names = [[name for name, there in zip("abc", row, strict=True) if there] for row in labels]
    assert mlcl.prepare(vectors, names, seed=1).content == one.content
    assert mlcl.prepare(vectors, pd.DataFrame(labels, columns=list("abc")), seed=1).content == one.content
    mixed = frame.assign(flag=vectors[:, 0] > 0)
    assert mlcl.prepare(mixed, labels=["a", "b", "c"])["train"].vectors.shape[1] == 9
    assert mlcl.prepare(one) is one
    assert mlcl.prepare(one.folder).content == one.content


def test_texts_of_a_frame() -> None:
    frame = pd.DataFrame(
        {"words": ["good", "bad", "good and bad", "none"] * 10, "tags": [["x"], ["y"], ["x", "y"], []] * 10}
    )
    dataset = mlcl.prepare(frame, labels="tags", text="words", split=["train", "train", "val", "test"] * 10)
    assert dataset.modality == "text"
    assert dataset.label_names == ["x", "y"]
    assert list(dataset["val"].texts[:2]) == ["good and bad"] * 2
    assert dataset["val"].dense_labels(slice(1)).tolist() == [[1, 1]]


def test_what_is_shown() -> None:
    vectors, labels = arrays()
    dataset = mlcl.prepare(vectors, labels, split=["train"] * 80 + ["val"] * 20 + ["test"] * 20)
    assert repr(dataset) == "<prepared dataset vectors: vector, 3 labels; rows: train 80, val 20, test 20>"
    assert "<th>val</th><td>20</td>" in dataset._repr_html_()
    table = mlcl.compare(dataset, losses=["label_prior", "random"], metrics=["map"])
    assert repr(table).splitlines()[0] == "loss         map"
    assert table.table.loc["random", "map"] == table.results[1].metric("map")
    assert "<th>label_prior</th>" in table._repr_html_()
    assert "<th>map</th>" in table.results[0]._repr_html_()
    with pytest.raises(ModelError, match="trains no encoder"):
        table.results[0].predict_proba(vectors)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"loss": "rge"}, "unknown loss 'rge': did you mean"),
        ({"encoder": "mpl"}, "unknown encoder 'mpl'; did you mean"),
        ({"encoder": "cnn"}, "encodes the modality 'image'"),
        ({"epoch": 3}, "epoch: is no setting of contrastive_linear or reg; did you mean"),
        ({"epochs": 0}, "training.epochs"),
        ({"temperature": -1.0}, "temperature"),
        ({"protocol": "joint"}, "joint trains losses of both"),
        ({"protocol": "jiont"}, "unknown protocol 'jiont'; did you mean"),
        ({"loss": "random", "epochs": 3}, "the baseline random is not trained"),
        ({"loss": dict}, "dict is no class of mlcl.losses"),
        ({"encoder": {"hidden": [8]}}, "a mapping with the key 'name'"),
        ({"loss": "bce", "readouts": ["knn", "heads"]}, "readouts"),
    ],
)
def test_what_cannot_be_fitted_is_said(keywords: dict[str, object], message: str) -> None:
    vectors, labels = arrays()
    with pytest.raises((ConfigError, MlclError, Exception), match=re.escape(message)) as raised:
        mlcl.fit(vectors, labels, progress=False, **keywords)
    assert type(raised.value).__module__.startswith("mlcl.")


@pytest.mark.parametrize(
    ("data", "labels", "more", "message"),
    [
        (np.zeros((4, 2)), None, {}, "need labels"),
        (np.zeros((4, 2)), np.full((4, 2), 3), {}, "other values than 0 and 1"),
        (np.zeros((4, 2)), np.zeros((3, 2)), {}, "4 rows of data, but 3 of labels"),
        (np.zeros((4, 2, 2)), np.zeros((4, 2)), {}, "expected vectors"),
        (np.zeros((4, 2)), np.zeros((4, 2)), {"label_names": ["a"]}, "1 label_names for 2"),
        (["a", "b"], [["x"], ["y"]], {"label_names": ["x"]}, "row 1: the label 'y'"),
        (pd.DataFrame({"a": [1], "b": [0]}), ["c"], {}, "no column 'c'; it has a, b"),
        (pd.DataFrame({"a": ["?"], "b": [0]}), ["b"], {}, "columns that are no numbers: a"),
        ("digit_scene", None, {}, "digit_scenes"),
    ],
)
def test_what_is_no_dataset_is_said(
    data: object, labels: object, more: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        mlcl.prepare(data, labels, **more)


def test_names_are_listed_and_loaded_on_use() -> None:
    assert {"fit", "compare", "prepare", "load_results"} <= set(dir(mlcl))
    assert mlcl.load_results is __import__("mlcl.reporting.results", fromlist=["x"]).load_results
    with pytest.raises(AttributeError, match="no attribute 'fti'"):
        _ = mlcl.fti
    stub = (Path(mlcl.__file__).with_name("__init__.pyi")).read_text()
    for name in mlcl.__all__[1:]:
        assert f"as {name}\n" in stub, name
