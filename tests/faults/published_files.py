"""Small files in the layout of published datasets, and folders that the `datasets` library wrote."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.faults.raw_files import COCO, ROWS, gzipped, image, json_lines, lines, tarred, zipped

SMALL = {"size": 8}
PICTURES = [image(number) for number in range(ROWS)]


class Published(NamedTuple):
    """A dataset's source, settings and files; which of these is damaged, and how the damaged content is packed."""

    source: str
    settings: dict[str, Any]
    files: Mapping[str, bytes]
    target: str
    content: bytes
    pack: Callable[[bytes], bytes] = bytes


def _plain(source: str, files: dict[str, bytes], target: str, **settings: Any) -> Published:
    files = {f"{source}/{name}": content for name, content in files.items()}
    return Published(source, settings, files, f"{source}/{target}", files[f"{source}/{target}"])


def _packed(
    source: str,
    files: dict[str, bytes],
    target: str,
    content: bytes,
    pack: Callable[[bytes], bytes],
    **settings: Any,
) -> Published:
    return Published(
        source,
        settings,
        {f"{source}/{name}": data for name, data in files.items()},
        f"{source}/{target}",
        content,
        pack,
    )


def _in_archive(build: Callable[[Mapping[str, bytes]], bytes], others: Mapping[str, bytes], name: str) -> Any:
    return lambda content: build({**others, name: content})


def _sgml(number: int) -> str:
    split, topics = ("TEST" if number > ROWS - 4 else "TRAIN"), ("earn", "acq")[: 1 + number % 2]
    listed = "".join(f"<D>{topic}</D>" for topic in topics)
    return (
        f'<REUTERS TOPICS="YES" LEWISSPLIT="{split}" CGISPLIT="TRAINING-SET" OLDID="1" NEWID="{number}">\n'
        f"<TOPICS>{listed}</TOPICS>\n<TEXT>&#2;\n<TITLE>TITLE {number}</TITLE><BODY>Body &lt;of&gt; {number}\n&#3;"
        "</BODY></TEXT>\n</REUTERS>"
    )


def _book(number: int) -> str:
    return (
        f"<book>\n<title>Title {number}</title>\n<body>Blurb &amp; {number}</body>\n<metadata>\n<topics>"
        f"<d0>Fiction</d0><d1>Mystery {number % 2}</d1></topics></metadata>\n</book>"
    )


def _law(number: int) -> dict[str, Any]:
    return {
        "celex_id": f"3198{number}",
        "title": "t",
        "header": "Header",
        "recitals": ", recital",
        "main_body": ["One", "Two"],
        "eurovoc_concepts": ["192", "2356"][: 1 + number % 2],
    }


def _saved(target: str) -> Callable[[], Published]:
    """A folder of `save_to_disk` with class numbers."""

    def build() -> Published:
        import datasets

        datasets.disable_progress_bars()
        labels = datasets.Sequence(datasets.ClassLabel(names=["a", "b", "c"]))
        rows = {
            "text": [f"row {n}" for n in range(ROWS)],
            "labels": [[n % 3, (n + 1) % 3] for n in range(ROWS)],
        }
        features = datasets.Features({"text": datasets.Value("string"), "labels": labels})
        with tempfile.TemporaryDirectory() as folder:
            datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder)
            files = {f"saved/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
        name = next(name for name in files if name.endswith(target))
        return Published("huggingface", {"path": "saved"}, files, name, files[name])

    return functools.cache(build)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _instances(first: int) -> bytes:
    images = [{"id": first + n, "file_name": f"{first + n:012d}.png"} for n in range(ROWS)]
    annotations = [{"image_id": first + n, "category_id": 1 + 6 * (n % 2)} for n in range(ROWS)]
    return json.dumps({**COCO, "images": images, "annotations": annotations}).encode()


def _coco2017() -> Published:
    files = {
        f"{part}2017.zip": zipped({f"{part}2017/{first + n:012d}.png": PICTURES[n] for n in range(ROWS)})
        for part, first in (("train", 0), ("val", 100))
    }
    validation = {"annotations/instances_val2017.json": _instances(100)}
    pack = _in_archive(zipped, validation, "annotations/instances_train2017.json")
    return _packed("coco2017", files, "annotations_trainval2017.zip", _instances(0), pack, size=8)


def _mimic3() -> Published:
    notes = "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CATEGORY,DESCRIPTION,TEXT\n" + "".join(
        f'1,{n},{n},2100-01-01,Discharge summary,Report,"Admitted\n""{n}"""\n' for n in range(ROWS)
    )
    codes = "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE\n" + "".join(
        f"1,{n},{n},1,4019\n" for n in range(ROWS)
    )
    lists = {"train": range(8), "dev": range(8, 11), "test": range(11, ROWS)}
    files = {
        f"{split}_full_hadm_ids.csv": "".join(f"{n}\n" for n in part).encode()
        for split, part in lists.items()
    }
    files |= {
        "DIAGNOSES_ICD.csv": codes.encode(),
        "PROCEDURES_ICD.csv": codes.replace("4019", "3893").encode(),
    }
    return _packed("mimic3", files, "NOTEEVENTS.csv.gz", notes.encode(), gzipped)


_MULAN = b"@relation t\n@attribute x numeric\n@attribute y {0,1}\n@data\n" + lines(lambda n: f"{n},{n % 2}")
_XML = b'<labels><label name="y"></label></labels>'
_SPLITS = {"train": range(8), "val": range(8, 11), "test": range(11, ROWS)}
_CHEST = [f"{patient:08d}_{number:03d}.png" for patient in range(1, 8) for number in range(2)]
_CHEST_TABLE = b"Image Index,Finding Labels,Follow-up #,Patient ID\n" + lines(
    lambda n: f"{_CHEST[n]},{'No Finding' if n % 2 else 'Mass|Hernia'},0,1"
)
_FLICKR = {f"mirflickr/im{n}.jpg": PICTURES[n - 1] for n in range(1, ROWS + 1)}
_UCM = {f"UCMerced_LandUse/Images/beach/beach{n:02d}.jpg": PICTURES[n] for n in range(ROWS)}
_ADP = "ADP V1.0 Release/"
_TWEETS = b"ID\tTweet\tanger\tjoy\n" + lines(lambda n: f"id{{}}-{n}\ttweet {n}\t{n % 2}\t1")

PUBLISHED: dict[str, Published | Callable[[], Published]] = {
    "goemotions": _plain(
        "goemotions",
        {
            "data/emotions.txt": b"joy\nanger\nneutral",
            **{
                f"data/{part}.tsv": lines(lambda n, part=part: f'I say "so\t{n % 3},2\t{part}{n}')
                for part in ("train", "dev", "test")
            },
        },
        "data/train.tsv",
    ),
    "semeval2018_ec": _plain(
        "semeval2018_ec",
        {
            f"English/E-c/2018-E-c-En-{part}.txt": _TWEETS.replace(b"{}", part.encode())
            for part in ("train", "dev", "test-gold")
        },
        "English/E-c/2018-E-c-En-train.txt",
    ),
    "reuters21578": _packed(
        "reuters21578", {}, "reuters21578.tar.gz", lines(_sgml), _in_archive(tarred, {}, "./reut2-000.sgm")
    ),
    "aapd": _plain(
        "aapd",
        {
            f"{kind}_{split}": lines(
                lambda n, kind=kind: f"abstract {n}" if kind == "text" else ("cs.it math.it", "cs.lg")[n % 2]
            )
            for split in ("train", "val", "test")
            for kind in ("text", "label")
        },
        "label_train",
    ),
    "uklex": _plain(
        "uklex",
        {
            "uk-lex18.jsonl": json_lines(
                lambda n: {
                    "id": f"uk{n}",
                    "title": "Act",
                    "body": f"body {n}",
                    "labels": ["TAX", "ROAD"][: 1 + n % 2],
                    "year": 2000 + n,
                    "data_type": ("train", "dev", "test")[n % 3],
                }
            )
        },
        "uk-lex18.jsonl",
        labels=18,
    ),
    "eurlex57k": _packed(
        "eurlex57k",
        {},
        "dataset.zip",
        json_lines(_law),
        _in_archive(
            zipped,
            {
                f"{part}.jsonl": json_lines(lambda n, k=k: _law(k + n))
                for k, part in ((100, "dev"), (200, "test"))
            },
            "train.jsonl",
        ),
    ),
    "bgc": _packed(
        "bgc",
        {},
        "blurbgenrecollectionen.zip",
        lines(_book),
        _in_archive(
            zipped,
            {f"BlurbGenreCollection_EN_{part}.txt": lines(_book) for part in ("dev", "test")},
            "BlurbGenreCollection_EN_train.txt",
        ),
    ),
    "mimic3": _mimic3(),
    "mulan": Published(
        "mulan_tiny",
        {},
        {"mulan/tiny/tiny.xml": _XML, "mulan/tiny/tiny.arff": _MULAN},
        "mulan/tiny/tiny.arff",
        _MULAN,
    ),
    "coco2017": _coco2017(),
    "ucm_multilabel": _plain(
        "ucm_multilabel",
        {
            "UCMerced_LandUse.zip": zipped(_UCM),
            "LandUse_Multilabeled.txt": b"IMAGE\\LABEL\tsand\twater\n"
            + lines(lambda n: f"beach{n:02d}\t{n % 2}\t1"),
        },
        "LandUse_Multilabeled.txt",
        **SMALL,
    ),
    "mirflickr25k": _packed(
        "mirflickr25k",
        {"mirflickr25k.zip": zipped(_FLICKR)},
        "mirflickr25k_annotations_v080.zip",
        lines(lambda n: str(n + 1)),
        _in_archive(zipped, {"sea.txt": b"1\n3\n", "sky_r1.txt": b"1\n"}, "sky.txt"),
        **SMALL,
    ),
    "nuswide": _plain(
        "nuswide",
        {
            "ConceptsList/Concepts81.txt": b"airport\nlake\n",
            **{
                f"ImageList/{part}Imagelist.txt": lines(lambda n, part=part: f"actor\\{n:04d}_{part}.jpg\r")
                for part in ("Train", "Test")
            },
            **{
                f"Groundtruth/TrainTestLabels/Labels_{label}_{part}.txt": lines(lambda n: str(n % 2))
                for label in ("airport", "lake")
                for part in ("Train", "Test")
            },
            **{
                f"Flickr/actor/{n:04d}_{part}.jpg": PICTURES[n]
                for part in ("Train", "Test")
                for n in range(ROWS)
            },
        },
        "ImageList/TrainImagelist.txt",
        **SMALL,
    ),
    "chestxray14": _plain(
        "chestxray14",
        {
            "Data_Entry_2017.csv": _CHEST_TABLE,
            "train_val_list.txt": "\n".join(_CHEST[:10]).encode(),
            "test_list.txt": "\n".join(_CHEST[10:]).encode(),
            **{f"images/{name}": PICTURES[n] for n, name in enumerate(_CHEST)},
        },
        "Data_Entry_2017.csv",
        **SMALL,
    ),
    "adp": _plain(
        "adp",
        {
            f"{_ADP}ADP_EncodedLabels_Release1_Flat.csv": b"Patch Names,E,E.M,C,H,S,A,M,N,G,T\n"
            + lines(lambda n: f"{n}.png,1,0,0,0,{n % 2},0,0,0,0,0"),
            **{f"{_ADP}img_res_1um_bicubic/{n}.png": PICTURES[n] for n in range(ROWS)},
            **{
                f"{_ADP}splits/{name}.npy": _npy(np.array(part))
                for name, part in zip(("train", "valid", "test"), _SPLITS.values(), strict=True)
            },
        },
        f"{_ADP}splits/train.npy",
        **SMALL,
    ),
    "saved dataset: rows": _saved(".arrow"),
    "saved dataset: its columns": _saved("dataset_info.json"),
    "saved dataset: its files": _saved("state.json"),
}
