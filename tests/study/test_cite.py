"""`mlcl cite`: everything a study can use has an entry that BibTeX prints, or a comment that says why not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import mlcl
from data_prep import registry
from data_prep.source import About, validate
from mlcl import encoders, losses
from mlcl.encoders.citations import LIBRARIES, MODELS
from mlcl.encoders.citations import citations as of_encoder
from mlcl.errors import ConfigError
from mlcl.study import references
from mlcl.study.cite import bibliography
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


def fields_of(text: str) -> dict[str, dict[str, str]]:
    """Key -> fields; every entry is closed, and nothing but comments stands between them."""
    found = {}
    rest = re.sub(r"(?m)^%.*$", "", text)
    for kind, key, body in re.findall(r"(?ms)^@(\w+)\{([^,\n]+),\n(.*?)^\}$", rest):
        assert key not in found
        found[key] = {"kind": kind, **dict(re.findall(r"(?m)^  (\w+) = \{(.*)\},$", body))}
    assert not re.sub(r"(?ms)^@\w+\{.*?^\}$", "", rest).strip()
    return found


REFERENCES = fields_of((ROOT / "mlcl/study/references.bib").read_text(encoding="ascii"))


def plain(title: str) -> str:
    return re.sub(r"[{}]", "", title).lower()


@pytest.mark.parametrize("key", REFERENCES)
def test_references(key: str) -> None:
    fields = REFERENCES[key]
    assert re.fullmatch(r"[a-z0-9]+", key), key
    assert fields.get("author") or fields.get("key")
    assert fields["title"]
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    assert {"article": "journal", "inproceedings": "booktitle"}.get(fields["kind"], "title") in fields
    assert fields_of(references.entry(key, "here")[1]) == {key: fields}
    if "eprint" in fields:
        assert fields["note"].endswith(f"arXiv:{fields['eprint']}")


def test_each_publication_stands_there_once_and_is_somebodys() -> None:
    titles = [plain(fields["title"]) for fields in REFERENCES.values()]
    assert len(set(titles)) == len(titles)
    assert list(REFERENCES) == sorted(REFERENCES)
    used = {references.SUITE}
    used |= {publication for name in losses.names() if (publication := losses.citation(name))}
    for name in set(registry.names()) - OWN_DATA:
        entry = registry.find(name)
        used |= set(registry.citations(entry, validate(entry.source.settings, {}, entry.preset, name)))
    used |= {key for keys in (*LIBRARIES.values(), *MODELS.values()) for key in keys}
    assert used == set(REFERENCES)


@pytest.mark.parametrize("name", losses.names())
def test_losses(name: str) -> None:
    """What the entry says is what `paper`, shown in tables, says."""
    paper, publication = losses.describe(name).paper, losses.citation(name)
    if publication is None:
        assert name in {"bce", "gma_scl", "multisupcon"}
        return
    fields = REFERENCES[publication]
    assert paper.lower().startswith(plain(fields["title"]))
    if number := re.search(r"arXiv:([\d.]+)", paper):
        assert fields["eprint"] == number[1]


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
        fields = REFERENCES[publication]
        if number == 0 or entry.module != "mulan":
            family = fields["author"].split(",")[0]
            assert f"{family} " in about.citation or f"{family}:" in about.citation
            assert " ".join(plain(fields["title"]).split()[:5]) in about.citation.lower()
            assert fields["year"] in about.citation


@pytest.mark.parametrize("name", encoders.names())
def test_encoders(name: str) -> None:
    settings = SETTINGS.get(name, {})
    publications, unlisted = of_encoder(name, settings)
    own = encoders.describe(name).name in {"cnn", "mlp", "transformer"}
    assert bool(publications) != own
    assert set(publications) <= set(REFERENCES)
    if name in {
        "resnet50",
        "tresnet_l",
        "efficientnet_lite0",
        "bert-base-uncased",
        "roberta-base",
        "minilm_l6",
    }:
        assert not unlisted
        assert len(publications) == (3 if name == "minilm_l6" else 2)
    if name == "alexnet":
        assert unlisted == "alexnet"


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
    found = fields_of(text)
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


OWN = """@misc{zhang2025loss,
  author = {Zhang, Zoe},
  title = {A Loss},
  year = {2025},
}"""
LOSS = """'A loss of one's own.'
from mlcl.losses import PairWeighting
CITATION = %s
class Mine(PairWeighting):
    paper = "A Loss"
    equation = "w_ik = 1"
    def weights(self, pairs):
        return pairs.shared
""".replace("'A loss of one's own.'", '"""Mine."""')


def test_a_loss_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"

    def cited(value: str) -> str:
        file.write_text(LOSS % value)
        return study(tmp_path, losses={"reg": None, "mine": {"file": "mine.py"}})

    text = cited(f'"""\n{OWN}\n"""')
    assert f"% loss mine\n{OWN}\n" in text
    assert fields_of(text)["zhang2025loss"]["author"] == "Zhang, Zoe"
    assert "% loss mine\n% loss reg\n@misc{audibert2024multilabel," in cited('"audibert2024multilabel"')
    with pytest.raises(
        ConfigError, match=r"loss mine: 'audibert2024multilable' is no key .*audibert2024multilabel"
    ):
        cited('"audibert2024multilable"')
    with pytest.raises(ConfigError, match=r"loss mine: is no BibTeX entry: '@misc\{key,'"):
        cited(f'"""{OWN[:-2]}}}"""')
    with pytest.raises(ConfigError, match=r"loss reg: its BibTeX key .* is that of loss mine too"):
        cited(f'"""{OWN.replace("zhang2025loss", "audibert2024multilabel")}"""')
    with pytest.raises(losses.LossError, match=r"mine\.py:3: CITATION must be a BibTeX entry in quotes"):
        cited("today()")
    file.write_text(LOSS.replace("CITATION", "OTHER") % "1")
    assert losses.citation("mine", file) is None
    assert "% loss mine: no entry; A Loss\n" in study(tmp_path, losses={"mine": {"file": "mine.py"}})


def test_the_suites_own_entry() -> None:
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    fields = REFERENCES[references.SUITE]
    assert fields["title"] == stated["title"]
    assert fields["author"] == "{" + stated["authors"][0]["name"] + "}"
    assert fields["year"] == str(stated["date-released"].year)
    assert fields["note"] == f"Version {stated['version']}" == f"Version {mlcl.__version__}"


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
    assert printed.count("\\bibitem{") == len(fields_of(text))
    for fields in fields_of(text).values():
        assert fields.get("note", "") in " ".join(printed.split())
