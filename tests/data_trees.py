"""Small copies of data sets in each of their published shapes; imported by the tests of datamodules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_run import karpathy_entry, picture, write_json

COCO = [  # number, Karpathy's split, folder of COCO's own split
    (9, "train", "train2014"),
    (25, "restval", "val2014"),
    (42, "val", "val2014"),
    (73, "test", "val2014"),
]


def coco_name(number: int, where: str) -> str:
    return f"COCO_{where}_{number:012d}.jpg"


def coco_captions(number: int) -> list[str]:
    return [f"A Dog number {number} ,  says {voice} ." for voice in "abcde"]


def coco_pictures(folder: Path, flat: bool = False) -> Path:
    """Pictures in ``train2014`` and ``val2014``, or in one folder."""
    for number, _, where in COCO:
        picture(folder / ("" if flat else where) / coco_name(number, where))
    return folder


def coco_karpathy(folder: Path) -> Path:
    """``dataset_coco.json``."""
    entries = [
        karpathy_entry(coco_name(number, where), split, coco_captions(number), filepath=where, cocoid=number, imgid=n)
        for n, (number, split, where) in enumerate(COCO)
    ]
    return write_json(folder / "dataset_coco.json", {"images": entries, "dataset": "coco"})


def coco_blip(folder: Path, truth: bool = True) -> Path:
    """``coco_karpathy_{train,val,test}.json`` and the references of the last two."""
    lists: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for number, split, where in COCO:
        image = f"{where}/{coco_name(number, where)}"
        if split in ("train", "restval"):
            lists["train"] += [
                {"caption": caption, "image": image, "image_id": f"coco_{number}"} for caption in coco_captions(number)
            ]
        else:
            lists[split].append({"image": image, "caption": coco_captions(number)})
            if truth:
                references = [
                    {"image_id": number, "caption": caption, "id": n} for n, caption in enumerate(coco_captions(number))
                ]
                content = {"annotations": references, "images": [{"id": number}]}
                write_json(folder / f"coco_karpathy_{split}_gt.json", content)
    for split, entries in lists.items():
        write_json(folder / f"coco_karpathy_{split}.json", entries)
    return folder


def coco_own(folder: Path) -> Path:
    """``captions_train2014.json`` and ``captions_val2014.json``."""
    for name in ("train2014", "val2014"):
        numbers = [number for number, _, where in COCO if where == name]
        images = [{"id": number, "file_name": coco_name(number, name), "license": 1} for number in numbers]
        annotations = [
            {"image_id": number, "id": 10 * number + n, "caption": caption}
            for number in numbers
            for n, caption in enumerate(coco_captions(number))
        ]
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        write_json(folder / f"captions_{name}.json", content)
    return folder


def coco_split_lists(folder: Path) -> Path:
    """``karpathy_{train,val,test}_images.txt``: a file name and a number on each line."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in (("train", ("train", "restval")), ("val", ("val",)), ("test", ("test",))):
        lines = [f"{coco_name(number, where)} {number}" for number, own, where in COCO if own in names]
        (folder / f"karpathy_{split}_images.txt").write_text("\n".join(lines) + "\n")
    return folder


GENOME = [  # number, split, folder
    (2356347, "train", "VG_100K"),
    (2346802, "val", "VG_100K"),
    (2414610, "test", "VG_100K_2"),
]


def paragraph(number: int) -> str:
    return f"There is a dog in picture {number}. " + "It looks at the sky, which is blue. " * 9


def genome_pictures(folder: Path, flat: bool = False) -> Path:
    for number, _, where in GENOME:
        picture(folder / ("" if flat else where) / f"{number}.jpg")
    return folder


def stanford(folder: Path) -> Path:
    """``paragraphs_v1.json`` with a picture that comes twice and one in no list, and the three lists."""
    entries = [
        {"url": f"https://example.org/{where}/{number}.jpg", "image_id": number, "paragraph": paragraph(number)}
        for number, _, where in GENOME
    ]
    again = {**entries[0], "paragraph": "Another paragraph of the first picture."}
    stray = {"url": "https://example.org/people/VG/VG_100K/5.jpg", "image_id": 5, "paragraph": "In no list."}
    for split in ("train", "val", "test"):
        write_json(folder / f"{split}_split.json", [number for number, own, _ in GENOME if own == split])
    return write_json(folder / "paragraphs_v1.json", [*entries, again, stray])


def stanford_as_coco(folder: Path) -> Path:
    """``para_captions_{train,val,test}.json``."""
    for split in ("train", "val", "test"):
        ours = [(number, where) for number, own, where in GENOME if own == split]
        images = [
            {"url": f"https://example.org/VG/{where}/{number}.jpg", "file_name": f"{number}.jpg", "id": number}
            for number, where in ours
        ]
        annotations = [{"image_id": number, "id": number, "caption": paragraph(number)} for number, _ in ours]
        content = {"images": images, "info": {}, "licenses": "", "type": "captions", "annotations": annotations}
        write_json(folder / f"para_captions_{split}.json", content)
    return folder


FLICKR = {"train": ["1000_a.jpg", "1001_b.jpg"], "val": ["1002_c.jpg"], "test": ["1003_d.jpg"]}
NAMES = [name for names in FLICKR.values() for name in names]


def flickr_tokens(folder: Path) -> Path:
    """``Flickr8k.token.txt`` with a picture in no list, and the archive's three lists."""
    names = [*NAMES, "2258277193_586949ec62.jpg.1"]
    lines = [f"{name}#{n}\tA dog says {n} ." for name in names for n in range(5)]
    folder.mkdir(parents=True, exist_ok=True)
    for split, own in FLICKR.items():
        listed = {"train": "train", "val": "dev", "test": "test"}[split]
        (folder / f"Flickr_8k.{listed}Images.txt").write_text("\n".join(own) + "\n")
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return folder / "Flickr8k.token.txt"


def flickr_blip(folder: Path) -> Path:
    """``flickr30k_{train,val,test}.json``."""
    for split, names in FLICKR.items():
        captions = [f"A dog says {n} ." for n in range(5)]
        if split == "train":
            content = [
                {"image": f"flickr30k-images/{name}", "caption": caption, "image_id": n}
                for n, name in enumerate(names)
                for caption in captions
            ]
        else:
            content = [{"image": f"flickr30k-images/{name}", "caption": captions} for name in names]
        write_json(folder / f"flickr30k_{split}.json", content)
    return folder


def flickr_pictures(folder: Path, inside: str = "") -> Path:
    for name in NAMES:
        picture(folder / inside / name)
    return folder
