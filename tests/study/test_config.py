"""The study file: what is wrong in it is said with file, key and the closest valid names."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from mlcl.errors import ConfigError
from mlcl.study.config import load_study
from mlcl.study.plan import make_plan

GOOD = {
    "title": "A study",
    "seeds": [0, 1],
    "datasets": {"digit_scenes": {"train": 100}},
    "encoders": {"image": {"cnn": None}},
    "losses": {"bce": None, "reg": {"alpha": 1.0}},
}
ROOT = Path(__file__).parents[2]


def written(folder: Path, content: object) -> Path:
    file = folder / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return file


def test_a_study_is_read_as_written(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, GOOD))
    assert study.name == "mine"
    assert study.seeds == [0, 1]
    assert study.losses["reg"].hyperparameters == {"alpha": 1.0}
    assert study.datasets["digit_scenes"].source == "digit_scenes"
    assert study.datasets["digit_scenes"].settings == {"train": 100}


LOSS = """\"\"\"Mine.\"\"\"
from mlcl.losses import PairWeighting

class Mine(PairWeighting):
    paper = "none"
    equation = "w_ik = 1"

    def weights(self, pairs):
        return pairs.shared
"""


def test_where_a_relative_path_of_a_loss_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study's folder first, then the working directory; a message names both."""
    studies, here = tmp_path / "studies", tmp_path / "here"
    for folder in (studies, here / "own"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    file = written(studies, GOOD | {"losses": {"mine": {"file": "own/mine.py"}}})
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    assert str(caught.value) == (
        f"{file}: losses.mine: file: own/mine.py is neither in the study's folder ({studies}) nor in the working "
        f"directory ({here})"
    )
    (here / "own/mine.py").write_text(LOSS)
    assert load_study(file).losses["mine"].file == Path("own/mine.py")
    (studies / "own").mkdir()
    (studies / "own/mine.py").write_text(LOSS)
    assert load_study(file).losses["mine"].file == studies / "own/mine.py"


@pytest.mark.parametrize("file", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda file: file.stem)
def test_the_studies_that_come_along_are_in_order(file: Path) -> None:
    assert make_plan(file, ROOT / "no-data-needed").cells


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"losess": ["bce"]}, ["losess: unknown key", "did you mean losses"]),
        ({"datasets": None}, ["datasets"]),
        ({"losses": None}, ["neither a loss nor a baseline"]),
        ({"seeds": [0, 0]}, ["seeds", "listed twice"]),
        ({"seeds": []}, ["seeds"]),
        ({"losses": ["bce", "reg", "bce"]}, ["losses: bce is listed twice"]),
        ({"linear_evaluation": {"heads": 0}}, ["linear_evaluation.heads"]),
        ({"baselines": ["prior"]}, ["baselines", "'prior'"]),
        ({"datasets": {"a/b": None}}, ["'a/b'"]),
        ({"datasets": {"figures": {"source": "digit_scenes"}}}, ["'figures'"]),
        ({"losses": {"random": {"name": "bce"}}}, ["'random'", "baseline"]),
        ({"variants": {"base": None}}, ["'base'"]),
        ({"encoders": {"images": {"cnn": None}}}, ["encoders.images", "did you mean image?"]),
        ({"encoders": {"image": {"cnn": None}, "text": {"cnn": None}}}, ["listed under two modalities"]),
        ({"name": "x"}, ["name"]),
        ({"losses": {"bce": 3}}, ["losses.bce", "3"]),
        ({"keep_embeddings": "perhaps"}, ["keep_embeddings"]),
    ],
)
def test_a_defect_names_file_and_key(tmp_path: Path, change: dict, told: list[str]) -> None:
    file = written(tmp_path, GOOD | change)
    with pytest.raises(ConfigError) as error:
        load_study(file)
    assert str(file) in str(error.value)
    for part in told:
        assert part in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"losses": ["jacard"]}, ["losses.jacard", "did you mean jaccard"]),
        ({"losses": {"reg": {"alfa": 1}}}, ["losses.reg", "alfa", "alpha"]),
        ({"losses": {"reg": {"temperature": 0}}}, ["losses.reg", "temperature"]),
        ({"losses": {"mine": {"file": "absent.py"}}}, ["losses.mine", "absent.py"]),
        ({"datasets": {"digit_scene": None}}, ["datasets.digit_scene", "digit_scenes"]),
        ({"datasets": {"digit_scenes": {"trian": 5}}}, ["datasets.digit_scenes", "trian", "train"]),
        ({"datasets": {"digit_scenes": {"train": 0}}}, ["datasets.digit_scenes", "train"]),
        ({"encoders": {"image": {"resnet": None}}}, ["encoders.image.resnet", "did you mean", "resnet18"]),
        (
            {"encoders": {"image": {"cnn": None, "transformer": None}}},
            ["encoders.image.transformer", "'text'"],
        ),
        ({"encoders": {"image": {"cnn": {"widht": 3}}}}, ["encoders.image.cnn.widht", "did you mean width?"]),
        (
            {"encoders": {"image": {"cnn": {"training": {"epoch": 3}}}}},
            ["cnn.training.epoch", "did you mean epochs"],
        ),
        ({"encoders": {"text": {"transformer": None}}}, ["datasets.digit_scenes", "encoders.image"]),
        ({"training": {"learning_rate": -1}}, ["training.learning_rate", "-1"]),
        ({"training": {"epoch": 1}}, ["training.epoch: unknown key", "did you mean epochs"]),
        ({"training": {"epochs": "many"}}, ["training.epochs", "'many'"]),
        ({"protocols": {"embeddings": "end_to_end"}}, ["protocols.embeddings", "momentum_queue"]),
        ({"losses": {"jaccard": {"protocol": "kmcl"}}}, ["losses.jaccard.protocol", "contrastive_linear"]),
        ({"variants": {"v": {"training": {"epochs": 0}}}}, ["variants.v.training.epochs"]),
        ({"variants": {"v": {"dataset": {"fractoin": 0.1}}}}, ["fractoin", "did you mean fraction"]),
    ],
)
def test_a_name_or_setting_that_does_not_exist(tmp_path: Path, change: dict, told: list[str]) -> None:
    file = written(tmp_path, GOOD | change)
    with pytest.raises(ConfigError) as error:
        make_plan(file)
    for part in (str(file), *told):
        assert part in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("title: [", "not valid YAML"),
        ("- a", "must be a mapping"),
        ("seeds: [0]\nseeds: [1]", "twice"),
        ("title: &t [*t]", "an alias stands for what it is a part of"),
        ("title: " + "[" * 20_000, "nested too deeply"),
        (f"seeds: [{'9' * 5000}]", "not valid YAML: Exceeds the limit"),
        ("title: 2024-13-45", "not valid YAML: month must be"),
        ("? [a]\n: 1", "a list or a mapping is no key"),
        ("title: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, content: str, told: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(ConfigError, match=told) as error:
        load_study(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_aliases_are_read_as_long_as_they_stand_for_few_values(tmp_path: Path) -> None:
    text = yaml.safe_dump({key: value for key, value in GOOD.items() if key != "seeds"})
    shared = (
        "variants: {a: {training: &t {epochs: 3}}, b: {training: *t}, "
        "c: {training: {<<: *t, epochs: 5, batch_size: 8}}}\n"
    )
    variants = load_study(written(tmp_path, text + shared)).variants
    assert variants["b"].training == variants["a"].training == {"epochs": 3}
    assert variants["c"].training == {"epochs": 5, "batch_size": 8}
    billions = "".join(f"b{n}: &b{n} [{','.join([f'*b{n - 1}'] * 10)}]\n" for n in range(1, 10))
    begun = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"with its aliases written out it holds \d+ values \(at most 100000\)"
    ):
        load_study(written(tmp_path, f"b0: &b0 [0, 1]\n{billions}seeds: *b9\n"))
    assert time.monotonic() - begun < 10


def test_numbers_are_decimal_and_read_in_one_way(tmp_path: Path) -> None:
    text = yaml.safe_dump({key: value for key, value in GOOD.items() if key not in ("seeds", "losses")})
    study = load_study(
        written(
            tmp_path,
            f"{text}seeds: [010, 7]\nlosses: {{reg: {{alpha: 1e-1}}, jaccard: {{temperature: .5}}}}\n"
            "training: {learning_rate: 1e-2, weight_decay: 1E-4, epochs: 3}\n",
        )
    )
    assert study.seeds == [10, 7]
    assert study.losses["reg"].hyperparameters == {"alpha": 0.1}
    assert study.losses["jaccard"].hyperparameters == {"temperature": 0.5}
    assert study.training["learning_rate"] == 0.01
    for number in ("1:30", "0x10", "0b11"):
        with pytest.raises(ConfigError, match=rf"seeds\.0: .*integer.*given: '{number}'"):
            load_study(written(tmp_path, f"{text}seeds: [{number}]\nlosses: [bce]\n"))


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"did you mean config/default\.yaml"):
        load_study(Path("config/defualt.yaml"))
