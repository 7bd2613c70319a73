"""Recipes: what is checked before anything is prepared, and what a fingerprint depends on."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import data_prep
from data_prep import DataError, checksums, fingerprint, registry

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def comments(tmp_path: Path, data_root: Path) -> Path:
    """A data root with GoEmotions as plain files."""
    folder = tmp_path / "raw" / "goemotions" / "data"
    folder.mkdir(parents=True)
    for name in ("train", "dev", "test"):
        (folder / f"{name}.tsv").write_bytes(
            gzip.decompress((data_root / f"goemotions/data/{name}.tsv.gz").read_bytes())
        )
    shutil.copyfile(data_root / "goemotions/data/emotions.txt", folder / "emotions.txt")
    return tmp_path / "raw"


def test_listing_and_planning_import_nothing_heavy() -> None:
    code = (
        "import sys, data_prep, pathlib; assert 'digit_scenes' in data_prep.names();"
        "data_prep.plan('digit_scenes', {}, pathlib.Path('nowhere'), False);"
        "print([m for m in ('numpy', 'torch', 'sklearn', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_source_says_what_a_user_must_know() -> None:
    from data_prep import registry
    from data_prep.source import About

    assert data_prep.names() == sorted(data_prep.names())
    for stem in registry.stems():
        source = registry.load(stem)
        if isinstance(source.about, About):
            assert source.about.title
            assert source.about.citation
            assert source.about.licence
            assert source.about.homepage


def test_settings_are_filled_in_and_checked(tmp_path: Path) -> None:
    recipe = data_prep.plan("digit_scenes", {"train": 10}, tmp_path, False)
    assert recipe.settings["train"] == 10
    assert recipe.settings["test"] == 1500
    assert recipe.modality == "image"
    with pytest.raises(DataError, match=r"digit_scenes: unknown setting 'trian': did you mean train"):
        data_prep.plan("digit_scenes", {"trian": 10}, tmp_path, False)
    with pytest.raises(DataError, match=r"setting 'train': .*integer.*got '10'"):
        data_prep.plan("digit_scenes", {"train": "10"}, tmp_path, False)
    with pytest.raises(DataError, match=r"setting 'train': .*greater than or equal to 1.*got 0"):
        data_prep.plan("digit_scenes", {"train": 0}, tmp_path, False)


def test_an_unknown_dataset_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown dataset 'goemotion': did you mean goemotions"):
        data_prep.plan("goemotion", {}, tmp_path, False)


def test_the_fingerprint_follows_settings_but_not_their_order(tmp_path: Path) -> None:
    def plan(**settings: int) -> str:
        return data_prep.plan("digit_scenes", settings, tmp_path, False).fingerprint

    assert plan() == plan(train=4000) == plan(seed=0, train=4000) == plan(train=4000, seed=0)
    assert len({plan(), plan(train=10), plan(seed=1)}) == 3


def test_the_fingerprint_follows_package_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = data_prep.plan("scipy_docs", {}, tmp_path, False).fingerprint
    monkeypatch.setattr("data_prep.planning.version", lambda package: "9.9.9")
    assert data_prep.plan("scipy_docs", {}, tmp_path, False).fingerprint != before


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("readers/text.py", "def clean(", "# a comment\ndef clean(", True),
        ("readers/text.py", '"""Cleaning of texts."""', '"""Other words."""', True),
        ("readers/docstrings.py", "def ", "def other_", True),
        ("sources/aapd.py", "SOURCE = ", "SOURCE = OTHER = ", True),
        ("planning.py", "def plan(", "def plan_of(", True),
        ("readers/text.py", ".lower()", ".upper()", False),
        ("writer.py", "class DatasetWriter:", "class DatasetWriter(object):", False),
        ("sources/goemotions.py", "SOURCE = Source(", "SOURCE = Source(*(), ", False),
    ],
)
def test_the_fingerprint_follows_the_code_that_a_dataset_is_made_by(
    tmp_path: Path, file: str, old: str, new: str, same: bool
) -> None:
    package = tmp_path / "data_prep"
    shutil.copytree(fingerprint.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = fingerprint.code("goemotions", fingerprint.PACKAGE)
    path = package / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert (fingerprint.code("goemotions", package).digest == before.digest) == same


@pytest.mark.parametrize("stem", registry.stems())
def test_all_code_of_a_source_is_known_before_it_runs(stem: str) -> None:
    found = fingerprint.code(stem, fingerprint.PACKAGE)
    assert found.imports_by_name == ()
    assert len(found.definitions) > 10


def test_the_fingerprint_of_code_does_not_depend_on_the_version_of_python() -> None:
    """What later versions add to a syntax tree (an empty list of type parameters, say) is not seen."""
    import ast

    from data_prep import syntax

    code = "def f(a, *, b=None):\n    return f'{a!r:>{b}}' if a else [None, 1.5]"
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.type_params = []  # as from 3.12 on
            node.type_comment = None
    assert syntax.digest(tree) == syntax.digest(ast.parse(code))
    assert syntax.digest(ast.parse("x = None")) != syntax.digest(ast.parse("x = 'None'"))
    assert syntax.digest(ast.parse("f(a)")) != syntax.digest(ast.parse("f(*a)"))


def test_the_fingerprint_follows_content_not_place_time_or_gzip(comments: Path, data_root: Path) -> None:
    plain = data_prep.plan("goemotions", {}, comments, False)
    assert data_prep.plan("goemotions", {}, data_root, False).fingerprint == plain.fingerprint
    os.utime(comments / "goemotions/data/dev.tsv")
    assert data_prep.plan("goemotions", {}, comments, False).fingerprint == plain.fingerprint


def test_files_that_are_not_the_published_ones_need_a_word(comments: Path) -> None:
    published = data_prep.plan("goemotions", {}, comments, False)
    file = comments / "goemotions/data/dev.tsv"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DataError, match=r"not the published file by checksum: .*dev\.tsv.*accept_local"):
        data_prep.plan("goemotions", {}, comments, False)
    local = data_prep.plan("goemotions", {}, comments, True)
    assert local.fingerprint != published.fingerprint


def test_hashes_are_remembered_and_follow_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"first")
    first = checksums.content_digest(file)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "new", lambda *_, **__: pytest.fail("hashed again"))
        assert checksums.content_digest(file) == first
    file.write_bytes(b"second")
    assert checksums.content_digest(file) != first
    (tmp_path / "cache" / "checksums.json").write_text('{"broken": 3}', encoding="utf-8")
    assert checksums.content_digest(file)[1] == len(b"second")


def test_a_command_with_bad_input_ends_with_one_line_and_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_prep", "goemotion", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown dataset 'goemotion'")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_every_dataset_is_on_its_page() -> None:
    pages = "".join(
        (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("datasets", "your_data")
    )
    for name in data_prep.names():
        assert f"`{'mulan_<set>' if name.startswith('mulan_') else name}`" in pages, name


def test_the_list_shows_states_and_terms(tmp_path: Path, data_root: Path) -> None:
    command = [sys.executable, "-m", "data_prep", "--list", "--data-root", str(data_root)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    states = {
        line.split()[0]: line[18:30].strip() for line in done.stdout.splitlines() if not line.startswith(" ")
    }
    assert sorted(states) == data_prep.names()
    assert states["digit_scenes"] == "ready"
    assert states["mimic3"] == "by hand"
    assert states["coco2014"] == "download"
    assert states["table"] == "own data"
    assert "PhysioNet Credentialed" in done.stdout
