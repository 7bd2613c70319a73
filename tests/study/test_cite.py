"""`mlcl cite`: everything a study can use has an entry that BibTeX prints, or a comment that says why not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from data_prep import registry
from data_prep.source import About, validate
from mlcl import encoders, losses
from mlcl.encoders.citations import citations as of_encoder
from mlcl.study.citation import Citation, tex
from mlcl.study.cite import SUITE, bibliography
from mlcl.study.config import load_study

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "torchvision": {"model": "resnet18"},
    "timm": {"model": "tresnet_m"},
    "huggingface": {"model": "./folder/bert"},
    "decoder": {"model": "./folder/llama"},
    "Clinical-Longformer": {"revision": "0" * 40},
}
OWN_DATA = {"arff", "huggingface", "images", "svmlight", "table", "vectors"}


def entries(text: str) -> dict[str, dict[str, str]]:
    """Key -> fields; every entry is closed, and nothing but comments stands between them."""
    found = {}
    rest = re.sub(r"(?m)^%.*$", "", text)
    for kind, key, body in re.findall(r"(?ms)^@(\w+)\{([^,\n]+),\n(.*?)^\}$", rest):
        assert key not in found
        found[key] = {"kind": kind, **dict(re.findall(r"(?m)^  (\w+) = \{(.*)\},$", body))}
    assert not re.sub(r"(?ms)^@\w+\{.*?^\}$", "", rest).strip()
    return found


def check(citation: Citation) -> None:
    ((key, fields),) = entries(citation.entry() + "\n").items()
    assert re.fullmatch(r"[a-z0-9]+", key), key
    assert fields.get("author") or fields.get("key")
    assert fields["title"]
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    assert {"article": "journal", "inproceedings": "booktitle"}.get(fields["kind"], "title") in fields
    assert citation.entry().isascii()
    if citation.eprint:
        assert fields["note"].endswith(f"arXiv:{fields['eprint']}")


def plain(title: str) -> str:
    return re.sub(r"[{}]", "", title).lower()


@pytest.mark.parametrize("name", losses.names())
def test_losses(name: str) -> None:
    """What the entry says is what `paper`, shown in tables, says."""
    paper, publication = losses.describe(name).paper, losses.citation(name)
    if publication is None:
        assert name in {"bce", "gma_scl", "multisupcon"}
        return
    check(Citation(**publication))
    assert paper.lower().startswith(plain(publication["title"]))
    if number := re.search(r"arXiv:([\d.]+)", paper):
        assert publication["eprint"] == number[1]


@pytest.mark.parametrize("name", registry.names())
def test_sources(name: str) -> None:
    """What the entries say is what the card's `citation` says."""
    entry = registry.find(name)
    if name in OWN_DATA:
        assert not hasattr(entry.source, "CITATIONS")
        return
    settings = validate(entry.source.settings, {}, entry.preset, name)
    about = entry.source.about if isinstance(entry.source.about, About) else entry.source.about(settings)
    publications = registry.citations(entry, settings)
    assert publications or name == "scipy_docs"
    for number, publication in enumerate(publications):
        check(Citation(**publication))
        if number == 0 or entry.module != "mulan":
            family = publication["author"].split(",")[0]
            assert f"{family} " in about.citation or f"{family}:" in about.citation
            assert " ".join(plain(publication["title"]).split()[:5]) in about.citation.lower()
            assert str(publication["year"]) in about.citation


@pytest.mark.parametrize("name", encoders.names())
def test_encoders(name: str) -> None:
    settings = SETTINGS.get(name, {})
    publications, unlisted = of_encoder(name, settings)
    own = encoders.describe(name).name in {"cnn", "mlp", "transformer"}
    assert bool(publications) != own
    for publication in publications:
        check(Citation(**publication))
    papers = [publication["title"] for publication in publications]
    if name in {
        "resnet50",
        "tresnet_l",
        "efficientnet_lite0",
        "bert-base-uncased",
        "roberta-base",
        "minilm_l6",
    }:
        assert not unlisted
        assert len(papers) == (3 if name == "minilm_l6" else 2)
    if name == "alexnet":
        assert unlisted == "alexnet"


def test_one_publication_is_written_in_one_way() -> None:
    found = [publication for name in losses.names() if (publication := losses.citation(name))]
    found += [p for name in encoders.names() for p in of_encoder(name, SETTINGS.get(name, {}))[0]]
    by_title: dict[str, dict[str, object]] = {}
    for publication in found:
        assert by_title.setdefault(publication["title"], publication) == publication


def study(tmp_path: Path, **keys: object) -> str:
    content = yaml.safe_load((ROOT / "config/studies/small.yaml").read_text()) | keys
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return bibliography(load_study(file))


def test_entries_of_a_study(tmp_path: Path) -> None:
    text = study(
        tmp_path,
        datasets={"digit_scenes": {}, "uklex18": {"source": "uklex"}, "mulan_yeast": {}},
        encoders={"image": {"cnn": None}, "text": {"roberta-base": None}, "vector": {"mlp": None}},
        losses={"bce": None, "reg": None, "jaccard": None, "joint": {"contrastive": "simdissim"}},
    )
    found = entries(text)
    assert found["alpaydin1998optical"]["author"] == "Alpaydin, E. and Kaynak, C."
    assert found["chalkidis2022improved"]["author"] == "Chalkidis, Ilias and S{\\o}gaard, Anders"
    assert found["elisseeff2001kernel"]["author"] == "Elisseeff, Andr{\\'e} and Weston, Jason"
    assert found["audibert2024multilabel"]["note"] == "arXiv:2412.00101"
    assert found["huang2024similaritydissimilarity"]["author"] == "Huang, Guangming and others"
    assert "% loss jaccard\n% loss reg\n@misc{audibert2024multilabel," in text
    assert "% loss bce: no entry; the standard baseline\n" in text
    assert "% loss joint, contrastive\n@misc{huang" in text
    assert "% dataset digit_scenes, the digits\n@misc{alpaydin1998optical," in text
    assert "% encoder cnn: no publication; mlcl's own small network\n" in text
    assert (
        "% encoder roberta-base: weights FacebookAI/roberta-base, Hugging Face hub, commit e2da8e2f" in text
    )
    assert "Composed" not in "".join(fields["author"] for fields in found.values())


def test_a_loss_of_ones_own(tmp_path: Path) -> None:
    text = "\n".join([
        '"""Mine."""',
        "from mlcl.losses import PairWeighting",
        'CITATION = {"author": "Zhang, Zoë", "title": "A Loss", "year": 2025}',
        "class Mine(PairWeighting):",
        '    paper = "A Loss"',
        '    equation = "w_ik = 1"',
        "    def weights(self, pairs):",
        "        return pairs.shared",
    ])  # fmt: skip
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert entries(study(tmp_path, losses={"mine": {"file": "mine.py"}}))["zhang2025loss"]["author"] == (
        'Zhang, Zo{\\"e}'
    )
    file.write_text(text.replace(', "year": 2025', ""))
    with pytest.raises(losses.LossError, match=r"mine\.py:3: CITATION lacks year"):
        losses.citation("mine", file)
    file.write_text(text.replace("2025", '"2025"'))
    with pytest.raises(
        losses.LossError, match=r"mine\.py:3: CITATION must be a dict with these fields of BibTeX: author"
    ):
        losses.citation("mine", file)
    file.write_text(text.replace("2025", "20 + today()"))
    with pytest.raises(losses.LossError, match=r"mine\.py:3: CITATION must be a plain literal"):
        losses.citation("mine", file)
    file.write_text(text.replace("CITATION", "OTHER"))
    assert losses.citation("mine", file) is None
    assert "% loss mine: no entry; A Loss\n" in study(tmp_path, losses={"mine": {"file": "mine.py"}})


def test_names_titles_and_equal_keys() -> None:
    assert tex("Søgaard & Çelik, Dvořák, Müller, Xi’ao 50 %") == (
        "S{\\o}gaard \\& {\\c C}elik, Dvo{\\v r}{\\'a}k, M{\\\"u}ller, Xi'ao 50 \\%"
    )
    entry = Citation(
        "The {Pascal} VOC: GoEmotions of an End-to-End Kind", 2001, key_free := "Doe, A."
    ).entry()
    assert key_free in entry
    assert "title = {The {Pascal} {VOC}: {GoEmotions} of an End-to-End Kind}," in entry
    assert entry.startswith("@misc{doe2001pascal,")
    nameless = Citation("A title", 2001).entry()
    assert nameless.startswith("@misc{title,\n  key = {A title},")


def test_the_suites_own_entry() -> None:
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert SUITE.title == stated["title"]
    assert SUITE.author == "{" + stated["authors"][0]["name"] + "}"
    assert SUITE.year == stated["date-released"].year
    assert SUITE.note == f"Version {stated['version']}"
    assert SUITE.key == "mlcl"


@pytest.mark.skipif(not shutil.which("bibtex"), reason="bibtex is not installed")
@pytest.mark.parametrize("file", ["default", "studies/comprehensive_text", "studies/mulan", "studies/kmcl"])
def test_bibtex_has_nothing_to_say(tmp_path: Path, file: str) -> None:
    text = bibliography(load_study(ROOT / f"config/{file}.yaml"))
    (tmp_path / "refs.bib").write_text(text, encoding="ascii")
    (tmp_path / "article.aux").write_text("\\citation{*}\n\\bibdata{refs}\n\\bibstyle{plain}\n")
    done = subprocess.run(["bibtex", "article"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Warning" not in done.stdout
    printed = (tmp_path / "article.bbl").read_text()
    assert printed.count("\\bibitem{") == len(entries(text))
    for fields in entries(text).values():
        assert fields.get("note", "") in " ".join(printed.split())
