"""Tokenizers: published ones with their special tokens, trained ones, pinned sources."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import DataError
from data_prep.writer import DatasetWriter
from mlcl.data import PreparedDataset, open_dataset
from mlcl.data.tokenizers import checked_spec

TEXTS = ["the cat sat", "", "dog", "the dog ran off with the cat and the other dog"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "sat"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_hub_ids_need_a_commit(tmp_path: Path) -> None:
    for revision in (None, "main", COMMIT[:7]):
        with pytest.raises(
            DataError, match="'owner/model': is no folder here, and a hub id needs revision: the full"
        ):
            checked_spec({"kind": "huggingface", "name": "owner/model", "revision": revision})
    spec = {"kind": "huggingface", "name": "owner/model", "revision": COMMIT}
    assert checked_spec(spec) == spec
    assert checked_spec({"kind": "huggingface", "name": str(tmp_path)}) == {
        "kind": "huggingface",
        "name": str(tmp_path),
    }


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    with DatasetWriter(tmp_path / "prepared", "text") as writer:
        writer.labels(["x"])
        for split in ("train", "val", "test"):
            for row, text in enumerate(TEXTS):
                writer.split(split).add(f"{split}{row}", ["x"], text)
        writer.finish({"name": "tiny", "title": "Tiny", "fingerprint": "f"})
    return open_dataset(tmp_path / "prepared")


def save_tokenizer(folder: Path, template: str | None, words: list[str] = WORDS) -> None:
    """A BERT-like tokenizer that cuts at 4 tokens and pads by itself, as some published ones do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        specials = [(word, words.index(word)) for word in ("[CLS]", "[SEP]") if word in template]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=specials)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=5
    )
    wrapped.save_pretrained(folder)


@pytest.mark.parametrize(
    ("template", "prefix", "suffix"),
    [
        ("[CLS] $A [SEP]", (2,), (3,)),
        ("$A [SEP]", (), (3,)),
        ("[CLS] $A", (2,), ()),
        ("[CLS] $A [SEP] [SEP]", (2,), (3, 3)),
        (None, (), ()),
    ],
)
def test_special_tokens_are_found_and_kept_apart(
    dataset: PreparedDataset, tmp_path: Path, template: str | None, prefix: tuple, suffix: tuple
) -> None:
    save_tokenizer(tmp_path / "saved", template)
    tokens = dataset["train"].tokens({"kind": "huggingface", "name": str(tmp_path / "saved")})
    assert (tokens.prefix_ids, tokens.suffix_ids) == (prefix, suffix)
    long = tokens.ids[tokens.offsets[3] : tokens.offsets[4]].tolist()
    assert long == [4, 6, 1, 1, 1, 4, 5, 1, 4, 1, 6]  # neither cut nor padded, and without special tokens
    ids, mask = tokens.padded(np.array([0, 1]), 20)
    assert ids[0][mask[0]].tolist() == [*prefix, 4, 5, 7, *suffix]
    assert ids[1][mask[1]].tolist() == [*prefix, *suffix]
    stored = json.loads(next((dataset.folder / "tokens").glob("huggingface-*/spec.json")).read_text())
    assert (tuple(stored["prefix_ids"]), tuple(stored["suffix_ids"])) == (prefix, suffix)


def test_another_tokenizer_in_the_same_folder_is_noticed(dataset: PreparedDataset, tmp_path: Path) -> None:
    spec = {"kind": "huggingface", "name": str(tmp_path / "saved")}
    save_tokenizer(tmp_path / "saved", "[CLS] $A [SEP]")
    assert dataset["train"].tokens(spec).ids[0] == 4
    save_tokenizer(tmp_path / "saved", "[CLS] $A [SEP]", WORDS[:4] + WORDS[:3:-1])
    assert dataset["train"].tokens(spec).ids[0] == 7


def test_trained_tokenizers_have_no_special_tokens_around_a_text(dataset: PreparedDataset) -> None:
    tokens = dataset["train"].tokens({"kind": "word", "vocab_size": 30})
    assert tokens.specials == 0
    assert tokens.chunked(np.array([1]), 4, 2)[1].tolist() == [[True]]


def test_a_tokenizer_without_a_fast_form_is_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    folder = tmp_path / "characters"
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CanineTokenizer", "model_max_length": 64})
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "canine"}))
    with pytest.raises(DataError, match="has no fast form"):
        dataset["train"].tokens({"kind": "huggingface", "name": str(folder)})


@pytest.mark.slow
def test_tokenising_long_texts_prints_nothing(dataset: PreparedDataset, tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "saved", "[CLS] $A [SEP]")
    code = (
        "from mlcl.data import open_dataset\n"
        f"dataset = open_dataset({str(dataset.folder)!r})\n"
        f"dataset['train'].tokens({{'kind': 'huggingface', 'name': {str(tmp_path / 'saved')!r}}})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
