"""The first ten minutes: files to start from run, the machine is examined, editors know the keys of a study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

import mlcl
from mlcl import doctor, losses
from mlcl.cli import app
from mlcl.errors import MlclError
from mlcl.records.render import show
from mlcl.scaffold import write_new
from mlcl.study.config import load_study, read_yaml
from mlcl.study.plan import make_plan
from mlcl.study.schema import study_schema
from tests.synthetic import Grid

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "config/study.schema.json"
STUDIES = sorted((ROOT / "config").rglob("*.yaml"))


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))


def call(*arguments: str) -> Result:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


# Files to start from


def test_a_new_study_is_whole() -> None:
    call("new", "study", "first_one")
    plan = make_plan(Path("first_one.yaml"))
    plan.require_data()
    assert plan.study.title == "First one"
    assert [cell.cell.id.loss for cell in plan.cells[:3:2]] == ["label_prior", "label_prior"]
    assert len(plan.cells) == 3 * (2 + 2)


def test_a_new_loss_trains() -> None:
    call("new", "loss", "my_loss")
    loss = losses.create("my_loss", num_labels=4, file="my_loss.py", power=2.0)
    embeddings = torch.randn(6, 3, requires_grad=True)
    value = loss(embeddings, torch.eye(4)[[0, 1, 2, 0, 1, 2]])
    value.backward()
    assert torch.isfinite(value)
    assert embeddings.grad is not None
    info = losses.describe("my_loss", file="my_loss.py")
    assert info.class_name == "MyLoss"
    # The summary claims no formula: that is the example's, and says so.
    assert info.summary == "My loss: what it does, in one line, which tables and help show."
    assert "an example to replace" in Path("my_loss.py").read_text().split('"""')[1]


def test_a_new_dataset_is_prepared() -> None:
    call("new", "dataset", "reviews", "--to", "mine")
    done = call("prepare", "mine/reviews.yaml")  # it names its data root itself
    plan = make_plan(Path("mine/reviews.yaml"))
    folder = plan.datasets["reviews"].folder
    assert folder is not None
    assert sorted(mlcl.open_dataset(folder).label_names) == ["price", "quality", "service"]
    assert f"it lies in {folder}" in done.output


@pytest.mark.parametrize(
    ("name", "message"), [("My Study", "a name starts with"), ("there", "is there already")]
)
def test_nothing_is_overwritten_and_names_are_checked(name: str, message: str) -> None:
    Path("there.yaml").write_text("mine")
    with pytest.raises(MlclError, match=message):
        write_new("dataset", name, Path())
    assert [path.name for path in Path().iterdir()] == ["there.yaml"]


# The machine


def test_the_doctor_has_a_line_for_everything() -> None:
    lines = call("doctor").output.splitlines()
    names = ["Python", "cores", "torch", "GPU", "Snakemake", "disk", "cache", "data root", "network", "LaTeX"]
    assert [line[6:16].strip() for line in lines] == [*names, "browser"]
    assert all(line.split()[0] in ("ok", "note") for line in lines)


def test_the_doctor_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MLCL_OFFLINE", "1")
    found = {check.name: check for check in doctor.examine(Path("nowhere"))}
    assert (found["Python"].verdict, found["LaTeX"].verdict) == ("bad", "note")
    assert "install Python 3.11" in found["Python"].todo
    assert "MLCL_DATA_ROOT" in found["data root"].todo
    assert "MLCL_OFFLINE" in found["network"].todo


def test_plan_estimates_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcl.study.estimate import this_machine
    from mlcl.training.settings import ComputeSettings

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = this_machine(ComputeSettings(threads=1))
    assert here.name == "one core"
    assert 0.001 < here.tflops < 2, "10^12 operations a second of one core"
    assert this_machine(ComputeSettings(device="cuda")).name == "one GPU"
    study = {
        "title": "A large network on a CPU",
        "datasets": {"digit_scenes": {"train": 1000, "val": 100, "test": 100}},
        "encoders": {"image": {"resnet18": None}},
        "losses": ["bce"],
        "training": {"epochs": 40},
        "readouts": ["head"],
        "seeds": [0, 1],
    }
    Path("large.yaml").write_text(yaml.safe_dump(study))
    output = call("plan", "large.yaml").output
    assert "computed for one core" in output
    assert "of one core" in output
    left = next(line for line in output.splitlines() if line.startswith("left to do"))
    assert " min" in left or " h of" in left, "a GPU takes seconds"


# Keys of a study


def test_the_schema_is_up_to_date() -> None:
    call("schema", "--to", "made.json")
    assert SCHEMA.read_text() == Path("made.json").read_text(), (
        "run: mlcl schema --to config/study.schema.json"
    )


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_shipped_studies_name_the_schema_and_follow_it(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (file.parent / first.removeprefix(prefix)).resolve() == SCHEMA
    jsonschema.Draft202012Validator(study_schema()).validate(read_yaml(file))


@pytest.mark.parametrize(
    "change",
    [
        {"sedes": [0]},
        {"seeds": [-1]},
        {"training": {"epoch": 3}},
        {"training": {"optimizer": "adamm"}},
        {"losses": {"reg": {"temprature": 0.1}}},
        {"losses": ["rge"]},
        {"encoders": {"image": {"cnn": {"widht": 3}}}},
        {"encoders": {"picture": {"cnn": None}}},
        {"datasets": {"digit_scenes": {"trian": 3}}},
        {"compute": {"threads": 0}},
        {"title": None},
    ],
)
def test_the_schema_refuses_what_planning_refuses(change: dict[str, object]) -> None:
    content = read_yaml(ROOT / "config/studies/small.yaml")
    validator = jsonschema.Draft202012Validator(study_schema())
    assert validator.is_valid(content)
    assert not validator.is_valid(content | change)


# Records, sources, completion


def test_a_record_in_words(grid: Grid) -> None:
    cell = grid.plan().cells()[5]
    grid.make(cell)
    record = f"results/tiny/{cell}"
    output = call("show", record).output
    assert output == show(Path(record) / "metrics.json") + "\n"
    for part in (
        f"{cell} of the study tiny: ok",
        "linear, test",
        "map 0.",
        " MB memory",
        "scores.npz",
    ):
        assert part in output, part
    with pytest.raises(MlclError, match="there is no record"):
        show(Path("results"))


def test_what_a_study_cites() -> None:
    file = ROOT / "config/studies/comprehensive_text.yaml"
    output = call("cite", str(file)).output
    for part in (
        "@misc{mlcl,",
        "title = {{SGM}: Sequence Generation Model for Multi-label Classification}",
        "author = {Yang, Pengcheng and ",
        "eprint = {2009.14119}",
        "Hugging Face hub",
    ):
        assert part in output, part
    for name in load_study(file).datasets:
        assert f"% dataset {name}\n" in output
    call("cite", str(file), "--to", "references.bib")
    assert Path("references.bib").read_text() == output


def test_completion_and_the_log_switch() -> None:
    output = call("--help").output
    assert "--install-completion" in output
    assert "--verbose" in output


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("urllib3.exceptions.NewConnectionError: refused", "the package index cannot be reached"),
        ("ERROR: hashes do not match", "making the environment failed"),
    ],
)
def test_a_failed_installation_is_one_clear_line(output: str, said: str) -> None:
    code = f"import bootstrap; bootstrap.fail(['pip'], {output!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_pip_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    import bootstrap

    script = "print('Collecting torch==2 (from x)'); print('Installing collected packages: torch')"
    bootstrap.run_counted(1, sys.executable, "-c", script)
    assert "installing all of them" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="making the environment failed"):
        bootstrap.run_counted(1, sys.executable, "-c", "print('ERROR: no such package'); raise SystemExit(1)")
