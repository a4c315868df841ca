"""The metrics beside BLEU, ROUGE-L and CIDEr-D: formulas on cases worked out by hand, and what is missing is said."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ladic.errors import UsageError
from ladic.metrics.caption_store import CaptionStore
from ladic.metrics.clip_score import CLIPScore
from ladic.metrics.distinct import DistinctN
from ladic.metrics.functional.bert_score import bert_score
from ladic.metrics.functional.clip_score import clip_score, ref_clip_score
from ladic.metrics.functional.distinct import distinct_n
from ladic.metrics.functional.jars import Unavailable
from ladic.metrics.functional.java_tokenizer import java_tokenize_all
from ladic.metrics.functional.length import length_ratio
from ladic.metrics.functional.meteor import meteor
from ladic.metrics.functional.ngrams import NgramTable
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize
from ladic.metrics.functional.repetition import repetition, stutter
from ladic.metrics.functional.self_cider import self_cider
from ladic.metrics.functional.spice import spice
from ladic.metrics.meteor import METEORScore
from ladic.metrics.scoring import METRICS, score_captions
from ladic.metrics.self_cider import SelfCIDEr

GOLD = Path(__file__).resolve().parents[2] / "shared" / "reference" / "metrics"
needs_gold = pytest.mark.skipif(not GOLD.is_dir(), reason=f"the gold values of {GOLD} aren't on this machine")


def java_package() -> str | None:
    """An installed pycocoevalcap, or the folder named in LADIC_TEST_PYCOCOEVALCAP."""
    return os.environ.get("LADIC_TEST_PYCOCOEVALCAP")


def has_java() -> bool:
    try:
        return java_tokenize_all(["a dog"], package=java_package()) == ["a dog"]
    except Unavailable:
        return False


needs_java = pytest.mark.skipif(not has_java(), reason="needs Java and pycocoevalcap (or LADIC_TEST_PYCOCOEVALCAP)")


@needs_java
def test_meteor_of_our_own_set_is_pycocoevalcaps():
    from test_metrics_golden import CAPTIONS, CORPUS, PER_IMAGE, REFERENCES

    scores = score_captions(CAPTIONS, REFERENCES, ["meteor"], tokenizer="java", java_package=java_package())
    assert scores.tokenizer == "java"
    assert scores.corpus["METEOR"] == pytest.approx(CORPUS["METEOR"], abs=1e-6)
    for image, values in PER_IMAGE.items():
        assert scores.per_image[image]["METEOR"] == pytest.approx(values["METEOR"], abs=1e-6)


@needs_java
@needs_gold
def test_meteor_of_a_thousand_images():
    gold = json.loads((GOLD / "coco_fakecap.json").read_bytes())
    candidates = [captions[0] for captions in gold["tokenized_res"].values()]
    result = meteor(candidates, list(gold["tokenized_gts"].values()), package=java_package())
    assert result.corpus == pytest.approx(gold["scores"]["METEOR"], abs=1e-6)
    np.testing.assert_allclose(result.per_image, list(gold["per_image"]["METEOR"].values()), rtol=0, atol=1e-6)


@needs_gold
def test_bert_score_by_the_gold_values_of_a_tiny_model():
    from ladic.metrics.bert_embedder import BertEmbedder

    gold = json.loads((GOLD / "bertscore_tiny.json").read_bytes())
    scores = BertEmbedder(GOLD / "tiny_roberta", num_layers=3).score(gold["cands"], gold["refs"], images_at_once=7)
    for i, name in enumerate("PRF"):
        np.testing.assert_allclose(scores[:, i], gold[name], rtol=0, atol=1e-5)


@needs_gold
def test_clip_scores_by_their_gold_values():
    gold = json.loads((GOLD / "clipscore_formula.json").read_bytes())
    np.testing.assert_allclose(clip_score(gold["image"], gold["cand"]), gold["clipscore"], rtol=0, atol=1e-5)
    both = ref_clip_score(gold["image"], gold["cand"], gold["refs"])
    np.testing.assert_allclose(both, gold["refclipscore"], rtol=0, atol=1e-5)
    assert both.mean() == pytest.approx(gold["refclipscore_mean"], abs=1e-5)


def test_clip_score_of_angles():
    angle = math.radians(60)
    image, caption = [[1.0, 0.0]], [[3 * math.cos(angle), 3 * math.sin(angle)]]
    assert clip_score(image, caption)[0] == pytest.approx(2.5 * 0.5)
    assert ref_clip_score(image, caption, [[[0.0, 1.0], [-1.0, 0.0]]])[0] == pytest.approx(
        2 / (1 / 1.25 + 1 / math.cos(math.radians(30)))
    )


class FewWords:
    """A stand-in for CLIP: pictures and texts have the features of their colours."""

    def image_features(self, images):
        return np.array([image.getpixel((0, 0)) for image in images], np.float64)

    def text_features(self, texts):
        assert all(text.startswith("A photo depicts ") for text in texts)
        return np.array([[1 + ("red" in t), 1 + ("green" in t), 1 + ("blue" in t)] for t in texts], np.float64)


def test_clip_score_of_batches_counts_an_image_once():
    red, blue = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
    metric = CLIPScore(FewWords())
    metric.update(["red", "red"], [["red car"], ["blue", "sea"]], [1, 2], [red, blue])
    metric.update(["red"], [["red car"]], [1], [red])
    scores = metric.compute()
    right, wrong = 2.5 * 2 / math.sqrt(6), 2.5 * 1 / math.sqrt(6)
    assert scores["CLIPScore"].item() == pytest.approx((right + wrong) / 2)
    with pytest.raises(ValueError, match="1 images and 2 captions"):
        metric.update(["a", "b"], [["a"], ["b"]], [1, 2], [red])


def test_weights_that_cannot_be_had_are_named(tmp_path):
    from ladic.metrics.bert_embedder import BertEmbedder
    from ladic.metrics.clip_score import ClipFeatures

    with pytest.raises(Unavailable, match=r"CLIPScore needs the weights '.*nowhere.pt' of ViT-B-32"):
        ClipFeatures(pretrained=str(tmp_path / "nowhere.pt"))
    with pytest.raises(ValueError, match="needs trained weights"):
        ClipFeatures(pretrained="")
    with pytest.raises(Unavailable, match=r"BERTScore needs the model '.*nothing'"):
        BertEmbedder(tmp_path / "nothing", num_layers=3)
    with pytest.raises(ValueError, match="needs num_layers"):
        BertEmbedder(tmp_path)
    scores = score_captions({1: "a"}, {1: ["a"]}, ["bertscore"], bert_model=tmp_path / "nothing", bert_layers=3)
    assert scores.corpus == {"BERTScore-P": None, "BERTScore-R": None, "BERTScore-F": None}
    assert "hub name or a local folder" in scores.unavailable["BERTScore-F"]


def test_bert_score_takes_the_best_of_each_kind():
    opening, closing, dog, cat, runs = np.eye(5)
    candidate = np.stack([opening, dog, runs, closing])
    short, long = np.stack([opening, dog, closing]), np.stack([opening, dog, runs, cat, cat, closing])
    # short: P 1/2, R 1; long: P 1, R 1/2; F of both is 2/3
    assert bert_score(candidate, [short, long]) == pytest.approx((1.0, 1.0, 2 / 3))
    assert bert_score(np.stack([opening, closing]), [short]) == (0.0, 0.0, 0.0)


def test_what_java_would_do_is_null_with_the_reason(tmp_path, monkeypatch):
    scores = score_captions({1: "a dog"}, {1: ["dogs"]}, ["bleu", "meteor", "spice"], java_package=tmp_path)
    assert scores.corpus["METEOR"] is None
    assert "meteor-1.5.jar isn't there" in scores.unavailable["METEOR"]
    assert "METEOR" not in scores.per_image[1]
    assert scores.corpus["BLEU-1"] is not None
    monkeypatch.setenv("PATH", "")
    assert "no 'java' program" in score_captions({1: "a"}, {1: ["b"]}, ["spice"]).unavailable["SPICE"]
    metric = METEORScore(java_package=tmp_path)
    metric.update(["a"], [["b"]], [1])
    assert math.isnan(metric.compute()["METEOR"])


def fake_java(folder: Path, body: str, monkeypatch) -> None:
    program = folder / "java"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_spice_by_a_stand_in_for_its_jar(tmp_path, monkeypatch):
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    (tmp_path / "spice" / "spice-1.0.jar").touch()
    with pytest.raises(Unavailable, match=r"SPICE needs stanford-corenlp-3\.6\.0\.jar"):
        spice(["a"], [["b"]], package=tmp_path)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / "spice" / "lib" / name).touch()
    body = """
assert os.environ["LC_ALL"] == "C"
rows = json.load(open("in.json"))
scores = {"a": 0.5, "b": None}
out = [{"image_id": r["image_id"], "scores": {"All": {"f": scores[r["test"]]}}} for r in reversed(rows)]
json.dump(out, open(sys.argv[sys.argv.index("-out") + 1], "w"))
"""
    fake_java(tmp_path, body, monkeypatch)
    result = spice(["a", "b"], [["x"], ["y"]], package=tmp_path)
    assert (result.corpus, result.per_image.tolist()) == (0.25, [0.5, 0.0])
    fake_java(tmp_path, "sys.exit('out of memory')", monkeypatch)
    with pytest.raises(Unavailable, match="Java process failed: out of memory"):
        spice(["a"], [["x"]], package=tmp_path)


def test_meteor_by_a_stand_in_for_its_jar(tmp_path, monkeypatch):
    (tmp_path / "meteor").mkdir()
    (tmp_path / "meteor" / "meteor-1.5.jar").touch()
    body = """
for line in sys.stdin:
    kind, *parts = line.rstrip("\\n").split(" ||| ")
    if kind == "SCORE":
        print(len(parts[-1]), flush=True)
    else:
        print("\\n".join([*parts, "99"]), flush=True)
"""
    fake_java(tmp_path, body, monkeypatch)
    many = ["x" * (i % 50) for i in range(3000)]  # more than a pipe holds
    result = meteor(many, [["some reference"]] * 3000, package=tmp_path)
    assert result.corpus == 99
    assert result.per_image.tolist() == [i % 50 for i in range(3000)]


def test_a_meteor_that_hangs_or_dies_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "meteor").mkdir()
    (tmp_path / "meteor" / "meteor-1.5.jar").touch()
    fake_java(tmp_path, "time.sleep(60)", monkeypatch)
    with pytest.raises(Unavailable, match="no answer in time"):
        meteor(["a"], [["b"]], package=tmp_path, timeout=0.3)
    fake_java(tmp_path, "sys.exit('no room for the heap')", monkeypatch)
    with pytest.raises(Unavailable, match=r"it ended\. no room for the heap"):
        meteor(["a"], [["b"]], package=tmp_path)


def test_distinct_repetition_and_length_by_hand():
    assert distinct_n(["a b", "a b a"], 1) == 2 / 5
    assert distinct_n(["a b", "a b a"], 2) == 2 / 5
    assert distinct_n([""], 2) == 0
    assert repetition(["a a a a", "a b c", ""], 1).tolist() == [0.75, 0, 0]
    assert stutter(["a a b b", "a b"]).tolist() == [0.5, 0]
    result = length_ratio(["", "a b"], [["a"], ["a b c", "a b"]])
    assert (result.ratio, result.mean_length, result.per_image.tolist()) == (2 / 3, 1.0, [0.0, 1.0])
    assert result.brevity_penalty == pytest.approx(math.exp(1 - 3 / 2))
    for broken in (lambda: distinct_n(["a"], 0), lambda: repetition(["a"], 0)):
        with pytest.raises(ValueError, match="n-grams have at least one word"):
            broken()


def test_self_cider_between_its_ends():
    same, other = ["a dog runs on grass"] * 3, ["a dog runs on grass", "two cats", "people eat red pizza here"]
    scores = self_cider([same, other, ["one blue bird flies home", "one blue bird flies away"]])
    assert scores[0] == pytest.approx(0, abs=1e-7)
    assert 0 < scores[2] < scores[1] <= 1
    with pytest.raises(ValueError, match="has 1 captions"):
        self_cider([["a dog"]])
    metric = SelfCIDEr()
    metric.update([["A dog.", "A dog"], ["Two cats.", "people eat"]], torch.tensor([1, 2]))
    assert metric.compute()["Self-CIDEr"].item() == pytest.approx(0.5, abs=1e-7)


def test_every_metric_of_the_suite_answers_or_says_why_not(tmp_path):
    wanted = [name for name in METRICS if name != "bertscore"]
    scores = score_captions({1: "a dog", 2: ""}, {1: ["dogs"], 2: ["a cat"]}, wanted, java_package=tmp_path)
    assert {name for name, score in scores.corpus.items() if score is None} == set(scores.unavailable)
    assert DistinctN.scorer in METRICS


def test_scoring_needs_no_torch():
    code = "import sys, ladic.metrics.scoring; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("captions", "references", "kind", "words"),
    [
        ({}, {1: ["a"]}, {}, "there is no caption to score"),
        ({1: "a", 3: "b"}, {1: ["a"]}, {}, "1 of 2 captions are for an image id that the references don't have: 3"),
        ({"1": "a"}, {1: ["a"]}, {}, "the captions' ids look like '1', the references' like 1"),
        ({1: "a"}, {1: ["a"], 2: ["b"]}, {}, "1 of 2 images have references but no caption: 2; .*--partial"),
        ({1: "a"}, {1: []}, {}, "1 of 1 images have no list of references: 1"),
        ({1: "a"}, {1: ["a"]}, {"metrics": ["bleau"]}, "no metric called 'bleau'; there are bleu, "),
        ({1: "a"}, {1: ["a"]}, {"tokenizer": "nltk"}, "no tokenizer called 'nltk'; there are ptb, java"),
    ],
)
def test_bad_input_is_told_in_one_line(captions, references, kind, words):
    with pytest.raises(UsageError, match=words) as caught:
        score_captions(captions, references, **kind)
    assert "\n" not in str(caught.value)


def test_partial_scores_what_is_there():
    scores = score_captions({1: "a"}, {1: ["a"], 2: ["b"]}, ["rouge"], partial=True)
    assert scores.corpus == {"ROUGE-L": 1.0}


def test_strings_where_lists_belong_are_refused():
    with pytest.raises(ValueError, match="not strings"):
        NgramTable.build(["a dog"], ["a dog"])
    with pytest.raises(ValueError, match="image number 1"):
        NgramTable.build(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="2 candidates but references for 1 images"):
        NgramTable.build(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="integer or a string"):
        CaptionStore().add([1.5], ["a"], [["b"]])


# Tokens that the Java tool was seen to give, one for each kind of rule.
SEEN = {
    "A 'no parking' sign, at St. Mary's Ave.": "a no parking sign at st. mary 's ave.",
    "the letter K. The end": "the letter k the end",
    "J. K. Rowling": "j. k. rowling",
    "Call (555) 123-4567": "call -lrb-555-rrb-\u00a0123-4567",
    "a dog., a cat": "a dog. a cat",
    "no. 5 and no.": "no. 5 and no",
    "Wash. and wash.": "wash. and wash",
    "'Empty' at 'til": "'em pty at 'til",
    "Hawai'i y'all o'clock d'oeuvres": "hawai'i y' all o'clock d'oeuvres",
    "cann't can't CAN\u2019T cannot": "cann t ca n't ca n't can not",
    "oranges,2 bananas at 4:15pm": "oranges ,2 bananas at 4:15 pm",
    "well-lit and/or a/b/c 22 3/4 ½": "well-lit and/or a/b/c 22\u00a03/4 1/2",
    "<b class='x'>hi</b> 5 < 6": "<b\u00a0class='x'> hi </b> 5 < 6",
    "AT&T b&w &amp; $5 €5 5¢": "at&t b & w & $ 5 $ 5 5 cents",
    "www.foo.com me@here.org @me #tag :) ?!": "www.foo.com me@here.org @me #tag :-rrb- ?!",
    "a -- b ----- c ## d": "a b ----- c ## d",
}


@pytest.mark.parametrize("caption", SEEN)
def test_tokens_seen_from_the_java_tool(caption):
    assert ptb_tokenize(caption) == SEEN[caption]


@needs_java
def test_tokens_are_still_those_of_the_java_tool():
    assert java_tokenize_all([text for caption in SEEN for text in (caption, "a dog")], package=java_package())[
        ::2
    ] == [*SEEN.values()]
