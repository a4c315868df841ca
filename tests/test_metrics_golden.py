"""Golden values of a small set of our own: no file from outside needed.

The values are those of an independent program: pycocoevalcap 1.2 with OpenJDK 17 (Stanford's tokenizer 3.4.1, its BLEU,
ROUGE-L, CIDEr and METEOR 1.5), run once on these captions.
"""

from __future__ import annotations

import numpy as np
import pytest

from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize
from ladic.metrics.functional.rouge import rouge_l
from ladic.metrics.scoring import score_captions

CAPTIONS = {
    "harbour": "a small boat is tied to a wooden pier",
    "market": "two women selling fruit, at a market stall...",
    "empty": "",
    "snow": "a snow- covered hill with people skiing down it",
    "sign": "a sign that says (no parking) on St. Mark's Ave.",
    "dogs": "dogs dogs dogs dogs",
    "tv": "a man isn't watching the t.v. at 5:30pm",
    "cake": "A slice of cake with 22 3/4 candles!!",
    "short": "kitchen",
}
REFERENCES = {
    "harbour": [
        "A small boat tied up at a wooden pier.",
        "There's a little boat moored at the dock",
        "The boat is next to a pier on calm water.",
    ],
    "market": [
        "Two women sell fruit at an outdoor market.",
        "Women at a market stall with fruits & vegetables.",
        "Fruit sellers behind a stall; one of them smiles.",
        "two ladies selling fruit",
    ],
    "empty": ["A cat sleeps on a sofa.", "A cat asleep."],
    "snow": ["People are skiing down a snow-covered hill.", "Skiers on a snowy slope."],
    "sign": [
        'A street sign at St. Mark\'s Ave. that reads "No Parking".',
        "No parking sign on a pole",
        "A sign (red and white) says no parking.",
    ],
    "dogs": ["Two dogs play with three other dogs.", "Dogs playing."],
    "tv": ["A man doesn't watch the T.V.", "Someone ignores a tv at half past five.", "A man by a television set."],
    "cake": ["A cake with 22 3/4 candles on it.", "A slice of birthday cake with candles!!"],
    "short": ["A kitchen.", "A kitchen with a stove and a sink and a refrigerator."],
}

TOKENS = {
    "cake": "a slice of cake with 22\xa03/4 candles !!",
    "dogs": "dogs dogs dogs dogs",
    "empty": "",
    "harbour": "a small boat is tied to a wooden pier",
    "market": "two women selling fruit at a market stall",
    "short": "kitchen",
    "sign": "a sign that says -lrb- no parking -rrb- on st. mark 's ave.",
    "snow": "a snow covered hill with people skiing down it",
    "tv": "a man is n't watching the t.v. at 5:30 pm",
}
REFERENCE_TOKENS = {
    "cake": ["a cake with 22\xa03/4 candles on it", "a slice of birthday cake with candles !!"],
    "dogs": ["two dogs play with three other dogs", "dogs playing"],
    "empty": ["a cat sleeps on a sofa", "a cat asleep"],
    "harbour": [
        "a small boat tied up at a wooden pier",
        "there 's a little boat moored at the dock",
        "the boat is next to a pier on calm water",
    ],
    "market": [
        "two women sell fruit at an outdoor market",
        "women at a market stall with fruits & vegetables",
        "fruit sellers behind a stall one of them smiles",
        "two ladies selling fruit",
    ],
    "short": ["a kitchen", "a kitchen with a stove and a sink and a refrigerator"],
    "sign": [
        "a street sign at st. mark 's ave. that reads no parking",
        "no parking sign on a pole",
        "a sign -lrb- red and white -rrb- says no parking",
    ],
    "snow": ["people are skiing down a snow-covered hill", "skiers on a snowy slope"],
    "tv": ["a man does n't watch the t.v.", "someone ignores a tv at half past five", "a man by a television set"],
}
CORPUS = {
    "BLEU-1": 0.8412698412564878,
    "BLEU-2": 0.6426406561780454,
    "BLEU-3": 0.44146714284687655,
    "BLEU-4": 0.30268634068107114,
    "ROUGE-L": 0.5499478384067851,
    "CIDEr-D": 1.5664995322478008,
    "METEOR": 0.3744802923097775,
}
PER_IMAGE = {
    "harbour": {
        "BLEU-1": 0.9999999997777782,
        "BLEU-2": 0.8660254035859749,
        "BLEU-3": 0.5984084804464933,
        "BLEU-4": 7.730551755025992e-05,
        "ROUGE-L": 0.7777777777777778,
        "CIDEr-D": 2.079533293468722,
        "METEOR": 0.441577211873162,
    },
    "market": {
        "BLEU-1": 0.9999999997500004,
        "BLEU-2": 0.9258200995328305,
        "BLEU-3": 0.6586337558306233,
        "BLEU-4": 0.48892302229622764,
        "ROUGE-L": 0.6931818181818181,
        "CIDEr-D": 1.9882576396193683,
        "METEOR": 0.36860804476007936,
    },
    "empty": {
        "BLEU-1": 0.0,
        "BLEU-2": 0.0,
        "BLEU-3": 0.0,
        "BLEU-4": 0.0,
        "ROUGE-L": 0.0,
        "CIDEr-D": 0.0,
        "METEOR": 0.0,
    },
    "snow": {
        "BLEU-1": 0.5555555554938273,
        "BLEU-2": 0.26352313831625473,
        "BLEU-3": 2.148719982044067e-06,
        "BLEU-4": 6.376715692927575e-09,
        "ROUGE-L": 0.38364779874213834,
        "CIDEr-D": 0.8943110842385513,
        "METEOR": 0.4622571363961475,
    },
    "sign": {
        "BLEU-1": 0.9999999999230771,
        "BLEU-2": 0.6454972243161804,
        "BLEU-3": 0.42313149870030903,
        "BLEU-4": 0.29502343629374,
        "ROUGE-L": 0.4834874504623514,
        "CIDEr-D": 2.005238683559387,
        "METEOR": 0.34321449789752273,
    },
    "dogs": {
        "BLEU-1": 0.4999999998750002,
        "BLEU-2": 1.2909944483592659e-08,
        "BLEU-3": 4.367902322104203e-11,
        "BLEU-4": 3.0213753957831354e-12,
        "ROUGE-L": 0.5,
        "CIDEr-D": 0.6090472432132611,
        "METEOR": 0.1739130434782609,
    },
    "tv": {
        "BLEU-1": 0.5999999999400001,
        "BLEU-2": 0.36514837163156744,
        "BLEU-3": 2.554364774358996e-06,
        "BLEU-4": 6.985342055743659e-09,
        "ROUGE-L": 0.6075697211155379,
        "CIDEr-D": 0.8328546706519884,
        "METEOR": 0.4787150718772244,
    },
    "cake": {
        "BLEU-1": 0.9999999998888891,
        "BLEU-2": 0.9354143465830547,
        "BLEU-3": 0.7937005258838375,
        "BLEU-4": 0.6389431041591153,
        "ROUGE-L": 0.875,
        "CIDEr-D": 4.3316100136766265,
        "METEOR": 0.4700733017645522,
    },
    "short": {
        "BLEU-1": 0.3678794404356846,
        "BLEU-2": 0.0003678794406196241,
        "BLEU-3": 3.678794406809375e-05,
        "BLEU-4": 1.163336936997511e-05,
        "ROUGE-L": 0.6288659793814433,
        "CIDEr-D": 1.3576431618023026,
        "METEOR": 0.31168831168831174,
    },
}
NO_JAVA = [name for name in CORPUS if name != "METEOR"]


def test_tokens_are_those_of_the_java_tool():
    for image, caption in CAPTIONS.items():
        assert ptb_tokenize(caption) == TOKENS[image]
        assert [ptb_tokenize(reference) for reference in REFERENCES[image]] == REFERENCE_TOKENS[image]


@pytest.mark.parametrize("name", NO_JAVA)
def test_scores_are_those_of_pycocoevalcap(name):
    scores = score_captions(CAPTIONS, REFERENCES, ["bleu", "rouge", "cider"])
    assert scores.corpus[name] == pytest.approx(CORPUS[name], abs=1e-9)
    for image in CAPTIONS:
        assert scores.per_image[image][name] == pytest.approx(PER_IMAGE[image][name], abs=1e-9)


def test_functions_give_what_score_captions_gives():
    candidates, references = list(TOKENS.values()), list(REFERENCE_TOKENS.values())
    assert bleu(candidates, references).corpus[3] == pytest.approx(CORPUS["BLEU-4"], abs=1e-9)
    assert rouge_l(candidates, references).corpus == pytest.approx(CORPUS["ROUGE-L"], abs=1e-9)
    assert cider_d(candidates, references).corpus == pytest.approx(CORPUS["CIDEr-D"], abs=1e-9)


def test_stored_document_frequencies_give_a_subset_the_scores_of_the_whole(tmp_path):
    candidates, references = list(TOKENS.values()), list(REFERENCE_TOKENS.values())
    DocumentFrequencies.from_references(references).save(tmp_path / "corpus.json.gz")
    stored = DocumentFrequencies.load(tmp_path / "corpus.json.gz")
    whole = cider_d(candidates, references).per_image
    np.testing.assert_allclose(cider_d(candidates[:2], references[:2], stored).per_image, whole[:2], rtol=0, atol=1e-12)
    assert cider_d(candidates[:1], references[:1]).corpus == 0  # alone, every n-gram stands in all images


def test_a_file_without_document_frequencies_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no document frequencies"):
        DocumentFrequencies.load(tmp_path / "other.json")
