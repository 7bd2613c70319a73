"""What a study may say of text encoders, and what is refused before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlcl.data.tokenizers import checked_spec
from mlcl.encoders import describe, local_sources, names, weights_digest
from mlcl.encoders.catalog import DecoderSettings, HuggingFaceSettings, TransformerSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PINNED = ["bert-base-uncased", "roberta-base", "distilroberta-base", "all-MiniLM-L6-v2", "ModernBERT-base"]
SMALL = {"model_type": "bert", "hidden_size": 8}
TRAINED = {"kind": "bpe", "vocab_size": 100}


@pytest.mark.parametrize("name", PINNED)
def test_shorthands_are_pinned(name: str) -> None:
    info = describe(name)
    settings: Any = info.settings()
    assert name in names()
    assert (info.name, info.modality) == ("huggingface", "text")
    assert settings.pretrained
    assert settings.tokens == {"kind": "huggingface", "name": settings.model, "revision": settings.revision}
    assert checked_spec(settings.tokens) == settings.tokens
    with pytest.raises(ValidationError, match="model"):
        info.settings(model="another/one")
    with pytest.raises(ValidationError, match="revision"):
        info.settings(revision=COMMIT)
    with pytest.raises(ValidationError, match="max_length"):
        info.settings(max_length=0)


def test_a_shorthand_has_its_models_defaults_and_they_can_be_set() -> None:
    info = describe("all-MiniLM-L6-v2")
    assert (info.settings().pooling, info.settings().max_length) == ("mean", 256)  # type: ignore[attr-defined]
    assert info.settings(pooling="cls", max_chunks=4).pooling == "cls"  # type: ignore[attr-defined]
    assert describe("roberta-base").settings().pooling == "cls"  # type: ignore[attr-defined]


def test_a_shorthand_without_a_known_commit_asks_for_one() -> None:
    info = describe("Clinical-Longformer")
    with pytest.raises(ValidationError, match="needs revision: a full commit hash"):
        info.settings()
    assert info.settings(revision=COMMIT).tokens["revision"] == COMMIT  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [HuggingFaceSettings, DecoderSettings])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "set either model"),
        ({"model": "a/b", "revision": COMMIT, "config": SMALL, "tokenizer": TRAINED}, "set either model"),
        ({"model": "owner/model"}, "no folder 'owner/model', and as a hub id it needs revision"),
        ({"model": "owner/model", "revision": "main"}, "needs revision: a full commit hash"),
        (
            {"model": "owner/model", "revision": COMMIT, "tokenizer": TRAINED},
            "need the model's own tokenizer",
        ),
        ({"config": SMALL}, "config: needs tokenizer"),
        ({"config": {"hidden_size": 8}, "tokenizer": TRAINED}, "config: needs model_type"),
        (
            {"config": SMALL | {"vocab_size": 9}, "tokenizer": TRAINED},
            "leave vocab_size and pad_token_id out",
        ),
        ({"config": SMALL, "tokenizer": {"kind": "huggingface", "name": "owner/model"}}, "needs revision"),
        ({"config": SMALL, "tokenizer": TRAINED | {"freeze": True}}, "freeze"),
        ({"config": SMALL, "tokenizer": TRAINED, "pooling": "max"}, "pooling"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind: type, given: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(given)


def test_tokens_are_what_the_data_floor_understands(tmp_path: Path) -> None:
    trained = HuggingFaceSettings.model_validate({"config": SMALL, "tokenizer": TRAINED})
    folder = HuggingFaceSettings.model_validate({"model": str(tmp_path)})
    other = HuggingFaceSettings.model_validate(
        {"config": SMALL, "tokenizer": {"kind": "huggingface", "name": "a/b", "revision": COMMIT}}
    )
    assert trained.tokens == checked_spec(trained.tokens) == TRAINED
    assert folder.tokens == checked_spec(folder.tokens) == {"kind": "huggingface", "name": str(tmp_path)}
    assert other.tokens == checked_spec(other.tokens)
    assert checked_spec(TransformerSettings().tokens) == {"kind": "word", "vocab_size": 8000}
    assert TransformerSettings().max_chunks == 1


def test_pooling_reads_what_is_there() -> None:
    """A trained tokenizer puts no [CLS] before a text; the first token of a decoder sees nothing."""
    trained = {"config": SMALL, "tokenizer": TRAINED}
    assert HuggingFaceSettings.model_validate(trained).pooling == "mean"
    assert HuggingFaceSettings.model_validate(trained | {"pooling": "last"}).pooling == "last"
    assert HuggingFaceSettings.model_validate({"model": "a/b", "revision": COMMIT}).pooling == "cls"
    assert DecoderSettings.model_validate(trained).pooling == "last"
    with pytest.raises(ValidationError, match="pooling"):
        DecoderSettings.model_validate(trained | {"pooling": "cls"})


def test_pretrained_says_whether_weights_are_loaded(tmp_path: Path) -> None:
    given = {"model": str(tmp_path)}
    assert HuggingFaceSettings.model_validate(given).pretrained
    assert not HuggingFaceSettings.model_validate(given | {"weights": False}).pretrained
    assert not HuggingFaceSettings.model_validate({"config": SMALL, "tokenizer": TRAINED}).pretrained


def test_settings_survive_the_way_through_json() -> None:
    for settings in (
        HuggingFaceSettings.model_validate({"config": SMALL, "tokenizer": TRAINED}),
        DecoderSettings.model_validate({"model": "a/b", "revision": COMMIT, "lora": {"rank": 4}}),
        describe("all-MiniLM-L6-v2").settings(),
    ):
        assert type(settings).model_validate_json(settings.model_dump_json()) == settings


def test_settings_import_no_library() -> None:
    code = (
        "import sys; from mlcl.encoders import describe; describe('roberta-base').settings(); "
        "print([name for name in ('torch', 'transformers', 'peft', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_tokenizer_s_folder_counts_as_the_weights_do(tmp_path: Path) -> None:
    folder, copy = tmp_path / "one", tmp_path / "two"
    for place in (folder, copy):
        place.mkdir()
        (place / "tokenizer.json").write_text("{}")

    def digest(place: Path) -> str | None:
        return weights_digest(
            "huggingface", {"config": SMALL, "tokenizer": {"kind": "huggingface", "name": str(place)}}
        )

    before = digest(folder)
    assert before is not None
    assert before == digest(copy)
    (copy / "tokenizer.json").write_text("{ }")
    assert before != digest(copy)
    assert weights_digest("huggingface", {"config": SMALL, "tokenizer": TRAINED}) is None
    pinned = {"kind": "huggingface", "name": "owner/name", "revision": COMMIT}
    assert weights_digest("huggingface", {"config": SMALL, "tokenizer": pinned}) is None
    both = {
        "model": "owner/name",
        "revision": COMMIT,
        "tokenizer": {"kind": "huggingface", "name": str(folder)},
    }
    assert local_sources("huggingface", both) == [str(folder)]
    assert weights_digest("huggingface", both) == before


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValidationError, match="dim 50 is not divisible by 4 heads"):
        TransformerSettings(dim=50, heads=4)
