"""The publications of an encoder: of the library that builds it, and of the network or model that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcl.encoders.catalog import describe

TRANSFORMERS = {
    "author": "Wolf, Thomas and Debut, Lysandre and Sanh, Victor and Chaumond, Julien and Delangue, Clement and others",
    "title": "Transformers: State-of-the-Art Natural Language Processing",
    "booktitle": "Conference on Empirical Methods in Natural Language Processing: System Demonstrations (EMNLP)",
    "year": 2020,
}
LORA = {
    "author": "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and "
    "Wang, Shean and Wang, Lu and Chen, Weizhu",
    "title": "LoRA: Low-Rank Adaptation of Large Language Models",
    "booktitle": "International Conference on Learning Representations (ICLR)",
    "year": 2022,
    "eprint": "2106.09685",
}
LIBRARIES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "torchvision": (
        {
            "author": "{TorchVision maintainers and contributors}",
            "title": "TorchVision: {PyTorch}'s Computer Vision library",
            "year": 2016,
            "url": "https://github.com/pytorch/vision",
        },
    ),
    "timm": (
        {
            "author": "Wightman, Ross",
            "title": "{PyTorch} Image Models",
            "year": 2019,
            "url": "https://github.com/huggingface/pytorch-image-models",
        },
    ),
    "huggingface": (TRANSFORMERS,),
    "decoder": (TRANSFORMERS, LORA),
}
"""Family of encoders -> the library that it is of, and the method by which it is trained."""

MODELS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "minilm": (
        {
            "author": "Reimers, Nils and Gurevych, Iryna",
            "title": "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
            "booktitle": "Conference on Empirical Methods in Natural Language Processing (EMNLP)",
            "year": 2019,
            "eprint": "1908.10084",
        },
        {
            "author": "Wang, Wenhui and Wei, Furu and Dong, Li and Bao, Hangbo and Yang, Nan and Zhou, Ming",
            "title": "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained "
            "Transformers",
            "booktitle": "Advances in Neural Information Processing Systems (NeurIPS)",
            "year": 2020,
            "eprint": "2002.10957",
        },
    ),
    "distil": (
        {
            "author": "Sanh, Victor and Debut, Lysandre and Chaumond, Julien and Wolf, Thomas",
            "title": "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
            "year": 2019,
            "eprint": "1910.01108",
        },
    ),
    "modernbert": (
        {
            "author": "Warner, Benjamin and others",
            "title": "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder for Fast, Memory Efficient, and "
            "Long Context Finetuning and Inference",
            "year": 2024,
            "eprint": "2412.13663",
        },
    ),
    "clinical-longformer": (
        {
            "author": "Li, Yikuan and Wehbe, Ramsey M. and Ahmad, Faraz S. and Wang, Hanyin and Luo, Yuan",
            "title": "Clinical-Longformer and Clinical-BigBird: Transformers for long clinical sequences",
            "year": 2022,
            "eprint": "2201.11838",
        },
    ),
    "roberta": (
        {
            "author": "Liu, Yinhan and Ott, Myle and Goyal, Naman and Du, Jingfei and Joshi, Mandar and "
            "Chen, Danqi and Levy, Omer and Lewis, Mike and Zettlemoyer, Luke and Stoyanov, Veselin",
            "title": "RoBERTa: A Robustly Optimized BERT Pretraining Approach",
            "year": 2019,
            "eprint": "1907.11692",
        },
    ),
    "bert": (
        {
            "author": "Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina",
            "title": "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
            "booktitle": "Conference of the North American Chapter of the Association for Computational Linguistics "
            "(NAACL)",
            "year": 2019,
            "eprint": "1810.04805",
        },
    ),
    "tresnet": (
        {
            "author": "Ridnik, Tal and Lawen, Hussam and Noy, Asaf and Ben Baruch, Emanuel and Sharir, Gilad and "
            "Friedman, Itamar",
            "title": "TResNet: High Performance GPU-Dedicated Architecture",
            "booktitle": "IEEE/CVF Winter Conference on Applications of Computer Vision (WACV)",
            "year": 2021,
            "eprint": "2003.13630",
        },
    ),
    "resnet": (
        {
            "author": "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
            "title": "Deep Residual Learning for Image Recognition",
            "booktitle": "IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
            "year": 2016,
            "eprint": "1512.03385",
        },
    ),
    "efficientnet": (
        {
            "author": "Tan, Mingxing and Le, Quoc V.",
            "title": "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
            "booktitle": "International Conference on Machine Learning (ICML)",
            "year": 2019,
            "eprint": "1905.11946",
        },
    ),
    "vit": (
        {
            "author": "Dosovitskiy, Alexey and Beyer, Lucas and Kolesnikov, Alexander and Weissenborn, Dirk and "
            "Zhai, Xiaohua and Unterthiner, Thomas and others",
            "title": "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
            "booktitle": "International Conference on Learning Representations (ICLR)",
            "year": 2021,
            "eprint": "2010.11929",
        },
    ),
}
"""What a model's name begins with, or its name on the hub -> its papers; the first one that fits. Other networks of the
libraries are not listed: `mlcl cite` says so."""
PREFIXES = ("published:", "tf_", "all-")


def citations(name: str, settings: Mapping[str, Any]) -> tuple[tuple[dict[str, Any], ...], str]:
    """The publications of an encoder, fields of BibTeX; and its model's name where none of them is the model's.

    Encoders that mlcl defines itself (`cnn`, `mlp`, `transformer`) have none.
    """
    family = describe(name)
    if family.name not in LIBRARIES:
        return (), ""
    checked = family.settings.model_validate(settings)
    model = _model(checked)
    own = next((papers for start, papers in MODELS.items() if _plain(model).startswith(start)), ())
    return (*LIBRARIES[family.name], *own), "" if own else model


def _model(settings: Any) -> str:
    config = getattr(settings, "config", None)
    return settings.model or (config or {}).get("model_type", "")


def _plain(model: str) -> str:
    """`sentence-transformers/all-MiniLM-L6-v2`: `minilm-l6-v2`."""
    name = model.lower().removeprefix("published:").rstrip("/").rpartition("/")[2]
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
