"""Against the gold files of COCO's evaluation and a published system; skipped where ../shared isn't there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.cider import cider_d
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize
from ladic.metrics.functional.rouge import rouge_l
from ladic.metrics.scoring import score_captions

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLD = SHARED / "reference" / "metrics"
needs_gold = pytest.mark.skipif(not GOLD.is_dir(), reason=f"the gold values of {GOLD} aren't on this machine")

# The Java tool starts a new line at these, which shifts the captions after it: here they are spaces.
LINE_BREAKING = "\r\x0b\x0c\x85\u2028\u2029"


def load(name: str):
    path = GOLD / name
    return json.loads(gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes())


@needs_gold
def test_tokens_of_coco_captions():
    stored = load("ptb_tokenizer_coco.json.gz")
    pairs = stored["rare"] + stored["common"] + stored["random"]
    wrong = [(caption, ptb_tokenize(caption), tokens) for caption, tokens in pairs if ptb_tokenize(caption) != tokens]
    assert len(wrong) <= 1e-4 * len(pairs), wrong[:5]


@needs_gold
def test_tokens_of_the_edge_cases():
    edge = load("edge.json")
    cases = {c: tokens for c, tokens in edge["tokenizer_cases"].items() if not set(c) & set(LINE_BREAKING)}
    for part in ("gts", "res"):
        for image, captions in edge[part].items():
            cases.update(zip(captions, edge[f"tokenized_{part}"][image], strict=True))
    assert {c: ptb_tokenize(c) for c in cases} == cases
    assert ptb_tokenize("x\u2028y\rz\x0bw") == "x y z w"


@needs_gold
def test_scores_of_a_thousand_images():
    gold = load("coco_fakecap.json")
    captions = {image: res[0] for image, res in gold["res"].items()}
    scores = score_captions(captions, gold["gts"], ["bleu", "rouge", "cider"])
    for ours, theirs in {
        **{f"BLEU-{n}": f"Bleu_{n}" for n in range(1, 5)},
        "ROUGE-L": "ROUGE_L",
        "CIDEr-D": "CIDEr",
    }.items():
        assert scores.corpus[ours] == pytest.approx(gold["scores"][theirs], abs=1e-9)
        for image, value in gold["per_image"][theirs].items():
            assert scores.per_image[image][ours] == pytest.approx(value, abs=1e-9)


@needs_gold
def test_scores_of_the_edge_cases():
    edge = load("edge.json")
    candidates = [captions[0] for captions in edge["tokenized_res"].values()]
    references = list(edge["tokenized_gts"].values())
    per_image = bleu(candidates, references).per_image
    for n in range(4):
        np.testing.assert_allclose(
            per_image[:, n], list(edge["per_image"][f"Bleu_{n + 1}"].values()), rtol=0, atol=1e-9
        )
    rouge = rouge_l(candidates, references).per_image
    np.testing.assert_allclose(rouge, list(edge["per_image"]["ROUGE_L"].values()), rtol=0, atol=1e-9)
    assert np.isfinite(cider_d(candidates, references).per_image).all()


@needs_gold
def test_a_published_system_has_its_published_scores():
    system = json.loads((SHARED / "data/coco/published_system_outputs.json").read_bytes())
    people = json.loads((SHARED / "data/coco/karpathy_test_refs.json").read_bytes())
    references = {int(Path(row["image"]).stem.rpartition("_")[2]): row["caption"] for row in people}
    captions = {row["image_id"]: row["caption"] for row in system}
    corpus = score_captions(captions, references, ["bleu", "rouge", "cider"]).corpus
    published = {"BLEU-1": 80.6, "BLEU-4": 39.8, "ROUGE-L": 58.4, "CIDEr-D": 131.1}
    assert {name: round(100 * corpus[name], 1) for name in published} == published
