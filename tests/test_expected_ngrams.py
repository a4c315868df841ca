"""Choosing by the n-grams that captions of a picture would have: the regression, the score, the file, the command."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import write_config

from benchmarks import retrieval
from ladic.errors import UsageError
from ladic.expected_ngrams import ExpectedNgrams, pooled
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.rerank import Evidence, ExpectedCiderSelector, MinimumBayesRiskSelector

CAPTIONS = [["a dog runs", "dog"], ["a cat", "a cat sits"], ["a dog", "the dog"], ["a bird", "a red bird"]]


def fitted(least: int = 1, ridge: float = 0.5) -> tuple[ExpectedNgrams, torch.Tensor]:
    features = torch.randn(len(CAPTIONS), 3, generator=torch.Generator().manual_seed(2))
    return ExpectedNgrams.fit(features, CAPTIONS, least, ridge), features


def unit_vectors(text: str, model: ExpectedNgrams) -> np.ndarray:
    """By the formula: of each length, counts times rarity over their norm."""
    words, found = text.split(), np.zeros(len(model.ngrams))
    for grams in (words, [" ".join(pair) for pair in itertools.pairwise(words)]):
        weigh = {g: grams.count(g) * np.log(4 / max(1, sum(has(texts, g) for texts in CAPTIONS))) for g in grams}
        norm = np.sqrt(sum(value**2 for value in weigh.values()))
        for gram, value in weigh.items():
            if gram in model.index and norm:
                found[model.index[gram]] = value / norm
    return found


def has(texts: list[str], ngram: str) -> bool:
    return any(f" {ngram} " in f" {text} " for text in texts)


def test_the_regression_solves_least_squares_with_a_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against numpy's least squares, for which the ridge is C more pictures; some pictures at a time."""
    monkeypatch.setattr("ladic.expected_ngrams.PICTURES", 3)
    model, features = fitted()
    x = features.double().numpy()
    x = (x - x.mean(0)) / (x.std(0) + 1e-3)
    vectors = np.array([np.mean([unit_vectors(text, model) for text in texts], axis=0) for texts in CAPTIONS])
    np.testing.assert_allclose(model.vectors(CAPTIONS).numpy(), vectors, atol=1e-6)
    centred = vectors - vectors.mean(0)
    rows = np.concatenate([x, np.sqrt(0.5 * len(x)) * np.eye(3)])
    weight = np.linalg.lstsq(rows, np.concatenate([centred, np.zeros((3, len(model.ngrams)))]))[0]
    np.testing.assert_allclose(model.weight.numpy(), weight, atol=1e-5)
    expected = vectors.mean(0) + x @ weight
    np.testing.assert_allclose(model.expected(features).numpy(), expected, atol=1e-5)
    told = 1 - ((expected - vectors) ** 2).sum() / (centred**2).sum()
    assert model.explained(features, CAPTIONS) == pytest.approx(told, abs=1e-5)


def test_ngrams_have_to_be_in_some_pictures_and_their_rarity_is_ciders() -> None:
    model, features = fitted(least=2)
    assert model.ngrams == ["a", "a dog", "dog"]
    assert model.rarity.tolist() == pytest.approx([0.0, np.log(2), np.log(2)])
    assert model.lengths == [0, 1, 4, 3]
    assert ExpectedNgrams.fit(features, CAPTIONS, 1, 1.0, longest=1, most=2).ngrams == ["a", "dog"]
    assert ExpectedNgrams.fit(features, CAPTIONS, 1, 1.0, longest=1, most=3).ngrams == ["a", "bird", "dog"], "by name"
    with pytest.raises(UsageError, match="--least 5: no word is in the captions of so many pictures"):
        fitted(least=5)


def test_where_the_references_are_known_the_score_is_ciders(tmp_path: Path) -> None:
    """All of one length and no word twice, so that CIDEr-D's penalty and its clipping have nothing to do."""
    model, _ = fitted()
    references = ["a dog runs", "a cat sits", "a red bird"]
    model.weight.zero_()
    model.prior.copy_(model.vectors([references])[0])
    model.lengths = [0, 0, 0, 3]
    model.save(tmp_path / "words.safetensors")
    selector = ExpectedCiderSelector(str(tmp_path / "words.safetensors"))
    candidates = ["A dog runs.", "the cat runs", "a red bird", "a zebra dog", "red dog zebra"]
    (scores,) = selector.scores([candidates], Evidence(image_tokens=torch.zeros(1, 2, 3)))
    of_pictures = DocumentFrequencies.from_references(CAPTIONS)
    said = ["a dog runs", *candidates[1:]]
    true = cider_d(said, [references] * len(said), of_pictures, max_n=2).per_image
    np.testing.assert_allclose(scores, true, rtol=1e-4)
    assert len({round(score, 3) for score in scores}) == 4, "two of them are references that fit as well"


def test_other_lengths_than_captions_have_score_less() -> None:
    model, _ = fitted()
    model.lengths = [0, 0, 1, 1]
    expected = torch.ones(len(model.ngrams)).tolist()
    once, twice = (model.score(expected, text) for text in ("dog", "dog dog"))  # the same unit vector but for its pair
    pair = model.vector("dog dog")
    assert pair == model.vector("dog") == {model.index["dog"]: 1.0}
    share = {words: np.mean([np.exp(-((words - length) ** 2) / 72) for length in (2, 3)]) for words in (1, 2)}
    assert (once, twice) == pytest.approx((10 / 2 * share[1], 10 / 2 * share[2]))
    assert model.score(expected, "") == 0
    assert model.score([-value for value in expected], "dog") == pytest.approx(-10 / 2), "no penalty that is a reward"


def test_a_search_through_all_captions_finds_the_one_with_the_highest_score() -> None:
    model, features = fitted()
    stored = [text for texts in CAPTIONS for text in texts] + ["a bird runs and a dog"]
    scores = [[model.score(row, text) for text in stored] for row in model.expected(features).tolist()]
    found = retrieval.Stored(model, stored).best(features)
    assert found == [stored[int(np.argmax(row))] for row in scores]
    assert len(set(found)) > 1
    assert retrieval.nearest(features, CAPTIONS, features) == [texts[0] for texts in CAPTIONS]


def test_where_all_pictures_have_all_ngrams_nothing_is_explained() -> None:
    same = [["a dog"]] * 3
    features = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert ExpectedNgrams.fit(features, same, 3, 0.5).explained(features, same) == 0


def test_roots_keep_their_sign() -> None:
    tokens = torch.tensor([[[1.0, -8.0], [7.0, -10.0]]])
    assert pooled(tokens).tolist() == [[2.0, -3.0]]


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    model, features = fitted()
    model.save(tmp_path / "words.safetensors")
    again = ExpectedNgrams.load(tmp_path / "words.safetensors")
    torch.testing.assert_close(again.expected(features), model.expected(features), atol=1e-2, rtol=1e-2)  # float16
    assert (again.ngrams, again.pictures, again.longest, again.lengths) == (model.ngrams, 4, 2, model.lengths)
    assert again.vector("a dog") == pytest.approx(model.vector("a dog"))


@pytest.mark.parametrize("content", [None, b"no safetensors", b""])
def test_a_missing_or_foreign_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "words.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"words\.safetensors'.*ladic fit-words"):
        ExpectedCiderSelector(str(file))


def test_with_another_encoder_bayes_risk_chooses_and_says_how_to_mend_it(tmp_path: Path, caplog) -> None:
    fitted()[0].save(tmp_path / "w.safetensors")
    selector = ExpectedCiderSelector(str(tmp_path / "w.safetensors"))
    evidence, candidates = Evidence(image_tokens=torch.zeros(1, 3, 5)), [["dog", "a red cat", "a red cat"]]
    for _ in range(2):
        assert selector.scores(candidates, evidence) == MinimumBayesRiskSelector().scores(candidates, evidence)
    assert caplog.text.count("width 3, this encoder gives 5") == caplog.text.count("`ladic fit-words`") == 1


def test_the_command_fits_it_and_a_captioner_of_either_kind_chooses_by_it(cli, tmp_path: Path) -> None:
    file, output = write_config(tmp_path), tmp_path / "words.safetensors"
    done = cli("fit-words", "-c", file, "--output", output, "--least=1", "--batch-size=3")
    assert done.code == 0, done.stderr
    assert "% of what captions' n-grams vary by is told by the picture" in done.stdout
    flags = ["--model.selector=ExpectedCiderSelector", f"--model.selector.words={output}", "--model.num_candidates=2"]
    assert cli("fit", "-c", file, *flags).code == 0
    stored = torch.load(next((tmp_path / "run").rglob("*.ckpt")), weights_only=False)["ladic"]
    assert stored["components"]["selector"]["init_args"] == {"words": str(output)}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--output=w.pt"], "--output w.pt: the name must end in .safetensors"),
        (["--output=w.safetensors", "--ridge=0"], "--ridge 0: need more than 0"),
        (["--output=w.safetensors", "--least=0"], "--least 0: need at least 1"),
        (["--output=w.safetensors", "--longest=0"], "--longest 0: need at least 1"),
        (["--output=w.safetensors", "--most=0"], "--most 0: need at least 1"),
        (["--output=w.safetensors", "--batch-size=0"], "--batch-size 0: need at least 1"),
    ],
)
def test_wrong_options_are_told(cli, tmp_path: Path, words: list[str], complaint: str) -> None:
    done = cli("fit-words", "-c", write_config(tmp_path), *words)
    assert done.code == 2
    assert complaint in done.stderr
