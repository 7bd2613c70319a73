"""Text encoders of the transformers library, from configurations with random weights and from local folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep import DataError
from data_prep.writer import DatasetWriter
from mlcl.data import PreparedDataset, open_dataset
from mlcl.encoders import EncoderError, InputShape, create
from mlcl.encoders.base import TokenBatch
from mlcl.encoders.catalog import HuggingFaceSettings
from mlcl.encoders.huggingface import pool_chunks, pool_tokens

COMMIT = "0123456789abcdef0123456789abcdef01234567"
INPUTS = InputShape(vocab_size=60, pad_id=0)
TOKENIZER = {"kind": "bpe", "vocab_size": 60}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
MODELS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **SIZES},
    "roberta": {"model_type": "roberta", **SIZES},
    "distilbert": {"model_type": "distilbert", "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 32},
    "longformer": {"model_type": "longformer", **SIZES, "attention_window": [8, 8]},
    "modernbert": {"model_type": "modernbert", **SIZES},
    "minilm": {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "llama": {"model_type": "llama", **SIZES, "num_key_value_heads": 2},
}
ENCODERS = [name for name in MODELS if name != "llama"]


def encoder(
    model: str, name: str = "huggingface", inputs: InputShape = INPUTS, seed: int = 0, **more: Any
) -> Any:
    torch.manual_seed(seed)
    settings = {"config": MODELS[model], "tokenizer": TOKENIZER, "max_length": 24, **more}
    return create(name, settings, inputs)


def texts(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, 60, (length,), generator=generator) for length in lengths]


def batch(rows: list[torch.Tensor], width: int | None = None, **more: Any) -> TokenBatch:
    width = width or max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        attention_mask[place, : len(row)] = True
    return TokenBatch(ids, attention_mask, **more)


@pytest.mark.parametrize("model", ENCODERS)
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_every_weight_is_trained(model: str, pooling: str) -> None:
    """No pooling layer or head lies idle: all parameters get a finite gradient."""
    net = encoder(model, pooling=pooling)
    features = net(batch(texts(9, 4, 1)))
    assert features.shape == (3, net.feature_dim)
    assert features.dtype == torch.float32
    features.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_a_feature_depends_on_its_own_text_only(model: str, pooling: str) -> None:
    net = encoder(model, pooling=pooling).eval()
    rows = texts(9, 4, 1, 7)
    together = net(batch(rows))
    wider = net(batch(rows, width=20))
    for place, row in enumerate(rows):
        alone = net(batch([row]))[0]
        torch.testing.assert_close(alone, together[place], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone, wider[place], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[3], atol=1e-3)


def test_what_stands_in_the_padding_plays_no_part() -> None:
    net = encoder("bert").eval()
    rows = batch(texts(9, 4))
    other = rows._replace(ids=torch.where(rows.attention_mask, rows.ids, 33))
    torch.testing.assert_close(net(rows), net(other))


@pytest.mark.parametrize("model", ["bert", "roberta", "longformer"])
def test_order_matters(model: str) -> None:
    net = encoder(model).eval()
    (row,) = texts(8)
    assert not torch.allclose(net(batch([row])), net(batch([row.flip(0)])), atol=1e-4)


def test_longformers_first_token_sees_beyond_its_window() -> None:
    net = encoder("longformer", pooling="cls", max_length=64).eval()
    (row,) = texts(60)
    changed = row.clone()
    changed[-1] = 5 if row[-1] != 5 else 6
    assert not torch.allclose(net(batch([row])), net(batch([changed])), atol=1e-6)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_chunks_are_pooled_as_a_loop_does(how: str) -> None:
    net = encoder("bert", chunk_pooling=how, max_chunks=3).eval()
    chunks = texts(8, 8, 3, 5, 8, 1)
    text = torch.tensor([0, 0, 0, 1, 2, 2])
    features = net(batch(chunks, text=text, texts=3))
    single = torch.cat([net(batch([chunk])) for chunk in chunks])
    for number in range(3):
        own = single[text == number]
        expected = own.mean(dim=0) if how == "mean" else own.max(dim=0).values
        torch.testing.assert_close(features[number], expected, rtol=1e-4, atol=1e-5)
    features.sum().backward()
    assert net.model.embeddings.word_embeddings.weight.grad.isfinite().all()


def test_the_largest_of_negative_chunks_is_negative() -> None:
    rows = batch(texts(2, 2), text=torch.tensor([0, 0]), texts=1)
    assert pool_chunks(torch.tensor([[-3.0], [-2.0]]), rows, "max").tolist() == [[-2.0]]


def test_token_pooling_reads_the_named_places() -> None:
    states = torch.arange(12.0).view(2, 3, 2)
    states[1, 2] = float("inf")
    attention_mask = torch.tensor([[True, True, True], [True, True, False]])
    assert pool_tokens(states, attention_mask, "cls").tolist() == [[0, 1], [6, 7]]
    assert pool_tokens(states, attention_mask, "last").tolist() == [[4, 5], [8, 9]]
    assert pool_tokens(states, attention_mask, "mean").tolist() == [[2, 3], [7, 8]]


def test_means_of_long_texts_do_not_overflow_half_precision() -> None:
    states = torch.full((1, 4096, 2), 60.0, dtype=torch.float16)
    attention_mask = torch.ones(1, 4096, dtype=torch.bool)
    assert pool_tokens(states, attention_mask, "mean").tolist() == [[60, 60]]


@pytest.mark.parametrize("model", MODELS)
def test_weights_come_from_the_global_generator(model: str) -> None:
    first, again, other = (encoder(model, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("model", ["bert", "roberta", "distilbert", "modernbert", "llama"])
def test_a_step_asks_the_device_for_nothing(model: str) -> None:
    """Tensors without values: whoever reads one, and would wait for a GPU, fails."""
    rows = batch(texts(9, 4), text=torch.tensor([0, 0]), texts=1)
    net = encoder(model, max_chunks=2).to("meta")
    assert "sdpa" in net.model.config._attn_implementation
    there = TokenBatch(
        rows.ids.to("meta"),
        rows.attention_mask.to("meta"),
        torch.zeros(2, dtype=torch.long, device="meta"),
        1,
    )
    assert net(there).shape == (1, net.feature_dim)


@pytest.mark.parametrize("model", ["bert", "distilbert", "modernbert"])
def test_dropout_is_settable(model: str) -> None:
    rows = batch(texts(9, 4))
    still = encoder(model, dropout=0.0).train()
    torch.testing.assert_close(still(rows), still(rows), rtol=0, atol=0)
    noisy = encoder(model, dropout=0.5).train()
    assert not torch.allclose(noisy(rows), noisy(rows))
    torch.testing.assert_close(noisy.eval()(rows), still.eval()(rows))


@pytest.mark.parametrize(
    ("name", "model"), [("huggingface", "bert"), ("huggingface", "roberta"), ("decoder", "llama")]
)
def test_gradient_checkpointing_changes_no_gradient(name: str, model: str) -> None:
    found = []
    for switch in (False, True):
        net = encoder(model, name, gradient_checkpointing=switch, dropout=0.0).train()
        assert any(getattr(part, "gradient_checkpointing", False) for part in net.modules()) == switch
        net(batch(texts(9, 4))).square().sum().backward()
        found.append(
            {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}
        )
    assert found[0].keys() == found[1].keys()
    assert any(gradient.abs().sum() > 0 for gradient in found[0].values())
    for key, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][key])


def test_padding_of_another_number_is_padding() -> None:
    """RoBERTa counts positions from its padding token on: its number must reach the model."""
    inputs = InputShape(vocab_size=60, pad_id=3)
    net = encoder("roberta", inputs=inputs).eval()
    rows = batch(texts(9, 4))
    padded = rows._replace(ids=torch.where(rows.attention_mask, rows.ids, 3))
    torch.testing.assert_close(net(padded)[1:], net(batch(texts(9, 4)[1:])), rtol=1e-4, atol=1e-5)
    assert net.model.config.pad_token_id == 3


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        ({"model_type": "brt"}, {}, "brt"),
        (
            {"model_type": "bert", "hiden_size": 3},
            {},
            "has no setting 'hiden_size'; did you mean hidden_size",
        ),
        ({"model_type": "t5"}, {}, "encoder-decoder model"),
        (MODELS["bert"], {"max_length": 513}, "takes at most 512 tokens; set max_length to 512 or less"),
        (MODELS["roberta"] | {"max_position_embeddings": 20}, {"max_length": 20}, "takes at most 19 tokens"),
    ],
)
def test_a_configuration_that_does_not_suit_is_refused(config: dict, more: dict, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        create("huggingface", {"config": config, "tokenizer": TOKENIZER, "max_length": 24, **more}, INPUTS)


# --- local folders in the hub's layout


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model with its tokenizer, as published ones are stored."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(5)
    fields = {key: value for key, value in MODELS["roberta"].items() if key != "model_type"}
    config = AutoConfig.for_model("roberta", **fields, vocab_size=40, max_position_embeddings=40)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(36))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", model_max_length=24
    ).save_pretrained(folder)
    return folder


WriteTexts = Callable[[list[str]], PreparedDataset]


@pytest.fixture
def write_texts(tmp_path: Path) -> WriteTexts:
    def write(sentences: list[str]) -> PreparedDataset:
        with DatasetWriter(tmp_path / "prepared", "text") as writer:
            writer.labels(["x"])
            for split in ("train", "val", "test"):
                for row, text in enumerate(sentences):
                    writer.split(split).add(f"{split}{row}", ["x"], text)
            writer.finish({"name": "tiny", "title": "Tiny", "fingerprint": "f"})
        return open_dataset(tmp_path / "prepared")

    return write


def copied(saved: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_folder_gives_what_the_library_gives(saved: Path, write_texts: WriteTexts) -> None:
    """Dataset, tokens and encoder together equal the library's own tokenizer and model."""
    from transformers import AutoModel, AutoTokenizer

    sentences = ["w1 w2 w3", "", "w4", " ".join(f"w{number % 36}" for number in range(90))]
    settings = HuggingFaceSettings(model=str(saved), max_length=16)
    tokens = write_texts(sentences)["test"].tokens(settings.tokens)
    inputs = InputShape(vocab_size=tokens.vocab_size, pad_id=tokens.pad_id)
    net = create("huggingface", settings.model_dump(), inputs).eval()
    ids, attention_mask = tokens.padded(torch.arange(4).numpy(), settings.max_length)
    ours = net(TokenBatch(torch.from_numpy(ids).long(), torch.from_numpy(attention_mask)))

    encoded = AutoTokenizer.from_pretrained(saved)(
        sentences, truncation=True, max_length=16, padding="longest", return_tensors="pt"
    )
    assert torch.equal(encoded["input_ids"], torch.from_numpy(ids).long())
    theirs = AutoModel.from_pretrained(saved).eval()(
        input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
    )
    torch.testing.assert_close(ours, theirs.last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)


def test_a_hub_id_in_the_cache(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_texts: WriteTexts
) -> None:
    """Model and tokenizer of a pinned hub id are found without a network, and are the folder's."""
    copied(saved, tmp_path / "models--owner--net" / "snapshots" / COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    dataset = write_texts(["w1 w2 w3", "w4"])
    settings = HuggingFaceSettings(model="owner/net", revision=COMMIT, max_length=16)
    tokens = dataset["train"].tokens(settings.tokens)
    assert (tokens.prefix_ids, tokens.suffix_ids, tokens.vocab_size, tokens.pad_id) == ((0,), (2,), 40, 1)
    inputs = InputShape(vocab_size=40, pad_id=1)
    ours = create("huggingface", settings.model_dump(), inputs).eval()
    folders = create("huggingface", {"model": str(saved), "max_length": 16}, inputs).eval()
    rows = batch([row % 36 + 4 for row in texts(5, 9)])
    torch.testing.assert_close(ours(rows), folders(rows))
    with pytest.raises(EncoderError, match=r"owner/other at .* is not in the local cache"):
        create("huggingface", {"model": "owner/other", "revision": COMMIT}, inputs)
    with pytest.raises(DataError, match="tokenizer 'owner/other' cannot be loaded"):
        dataset["train"].tokens({"kind": "huggingface", "name": "owner/other", "revision": COMMIT})


def test_a_folder_without_its_weights_is_its_configuration(saved: Path) -> None:
    inputs = InputShape(vocab_size=40, pad_id=1)
    stored, random, other = (
        create(
            "huggingface", {"model": str(saved), "weights": flag, "max_length": 16, "tokenizer": kind}, shape
        )
        for flag, kind, shape in ((True, None, inputs), (False, None, inputs), (False, TOKENIZER, INPUTS))
    )
    weights = [net.model.embeddings.word_embeddings.weight for net in (stored, random, other)]  # type: ignore[attr-defined]
    assert weights[0].shape == weights[1].shape == (40, 16)
    assert not torch.allclose(weights[0], weights[1])
    assert weights[2].shape == (60, 16)
    assert other.model.config.pad_token_id == 0  # type: ignore[attr-defined]


def test_loading_prints_nothing(saved: Path, capfd: pytest.CaptureFixture) -> None:
    create("huggingface", {"model": str(saved), "max_length": 16}, InputShape(vocab_size=40, pad_id=1))
    assert "".join(capfd.readouterr()) == ""


def test_pickled_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = copied(saved, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"pytorch_model\.bin: only safetensors are read"):
        create("huggingface", {"model": str(folder), "max_length": 16}, InputShape(vocab_size=40, pad_id=1))


def test_weights_that_lack_a_part_are_refused(saved: Path, tmp_path: Path) -> None:
    """The library would fill it with random numbers."""
    from safetensors.torch import load_file, save_file

    folder = copied(saved, tmp_path / "partial")
    state = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in state.items() if "layer.1.attention.self.query" not in name}
    assert len(kept) == len(state) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"2 weights are missing, among them .*query"):
        create("huggingface", {"model": str(folder), "max_length": 16}, InputShape(vocab_size=40, pad_id=1))


def test_code_beside_the_weights_is_not_run(saved: Path, tmp_path: Path) -> None:
    import json

    folder = copied(saved, tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "its_own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(EncoderError):
        create("huggingface", {"model": str(folder), "max_length": 16}, InputShape(vocab_size=40, pad_id=1))
    assert not (tmp_path / "ran").exists()


def test_tokens_of_another_model_are_refused(saved: Path) -> None:
    with pytest.raises(EncoderError, match="embeddings of 40 tokens, the tokenizer has 60"):
        create("huggingface", {"model": str(saved), "max_length": 16}, INPUTS)


# --- decoders


def test_only_adapters_are_trained() -> None:
    net = encoder("llama", "decoder", lora={"rank": 3, "alpha": 6, "dropout": 0.1}).train()
    trained = {name: weight for name, weight in net.named_parameters() if weight.requires_grad}
    kept = {name: weight.clone() for name, weight in net.named_parameters() if name not in trained}
    assert len(trained) == 2 * 2 * 2  # A and B of queries and values in two layers
    assert all("lora_" in name for name in trained)
    assert all(3 in weight.shape for weight in trained.values())
    before = {name: weight.clone() for name, weight in trained.items()}
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    for _ in range(2):  # B is 0 at the start, so A has no gradient in the first step
        optimizer.zero_grad()
        net(batch(texts(9, 4))).square().sum().backward()
        optimizer.step()
    assert all(not torch.equal(weight, before[name]) for name, weight in trained.items())
    for name, weight in net.named_parameters():
        assert name in trained or (weight.grad is None and torch.equal(weight, kept[name]))


def test_adapters_change_nothing_at_the_start() -> None:
    plain, adapted = encoder("llama", pooling="last").eval(), encoder("llama", "decoder").eval()
    torch.testing.assert_close(plain(batch(texts(9, 4))), adapted(batch(texts(9, 4))))


def test_adapters_are_part_of_the_state() -> None:
    net, other = encoder("llama", "decoder", seed=1).eval(), encoder("llama", "decoder", seed=2).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    rows = batch(texts(9, 4))
    assert not torch.allclose(net(rows), other(rows), atol=1e-3)
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(rows), other(rows))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_decoders_feature_depends_on_its_own_text_only(pooling: str) -> None:
    net = encoder("llama", "decoder", pooling=pooling).eval()
    rows = texts(9, 4, 1)
    together = net(batch(rows, width=15))
    for place, row in enumerate(rows):
        torch.testing.assert_close(net(batch([row]))[0], together[place], rtol=1e-4, atol=1e-5)


def test_kept_weights_may_be_bfloat16() -> None:
    net = encoder("llama", "decoder", dtype="bfloat16")
    for name, weight in net.named_parameters():
        assert weight.dtype == (torch.float32 if weight.requires_grad else torch.bfloat16), name
    features = net(batch(texts(9, 4)))
    assert features.dtype == torch.float32
    features.square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters() if weight.requires_grad)


def test_unknown_target_modules_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"lora: .*nowhere"):
        encoder("llama", "decoder", lora={"target_modules": ["nowhere"]})


def test_all_linear_layers_can_be_adapted() -> None:
    net = encoder("llama", "decoder", lora={"rank": 2, "target_modules": "all-linear"})
    adapted = {
        name.split(".lora_")[0].rsplit(".", 1)[1] for name, _ in net.named_parameters() if "lora_A" in name
    }
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
