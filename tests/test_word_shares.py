"""Choosing by the words that captions of a picture would have: the regression, the score, the file, the command."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import write_config

from ladic.errors import UsageError
from ladic.rerank import Evidence, ExpectedCiderSelector, MinimumBayesRiskSelector
from ladic.word_shares import FLOOR, WordShares, pooled

CAPTIONS = [["a dog runs", "dog"], ["a cat", "a cat sits"], ["a dog", "the dog"], ["a bird", "a red bird"]]


def fitted(least: int = 1, ridge: float = 0.5) -> tuple[WordShares, torch.Tensor]:
    features = torch.randn(len(CAPTIONS), 3, generator=torch.Generator().manual_seed(2))
    return WordShares.fit(features, CAPTIONS, least, ridge), features


def test_the_regression_solves_least_squares_with_a_ridge() -> None:
    """Against numpy's least squares, for which the ridge is C more pictures."""
    model, features = fitted()
    x = features.double().numpy()
    x = (x - x.mean(0)) / (x.std(0) + 1e-3)
    shares = np.array(
        [[np.mean([word in text.split() for text in texts]) for word in model.words] for texts in CAPTIONS]
    )
    rows = np.concatenate([x, np.sqrt(0.5 * len(x)) * np.eye(3)])
    weight = np.linalg.lstsq(rows, np.concatenate([shares - shares.mean(0), np.zeros((3, len(model.words)))]))[0]
    np.testing.assert_allclose(model.weight.numpy(), weight, atol=1e-5)
    expected = np.clip(shares.mean(0) + x @ weight, FLOOR * shares.mean(0), 1)
    np.testing.assert_allclose(model.expected(features).numpy(), expected, atol=1e-5)
    told = 1 - ((expected - shares) ** 2).sum() / ((shares.mean(0) - shares) ** 2).sum()
    assert model.explained(features, CAPTIONS) == pytest.approx(told, abs=1e-5)


def test_words_have_to_be_in_some_pictures_and_their_rarity_is_ciders() -> None:
    model, _ = fitted(least=2)
    assert model.words == ["a", "dog"]
    assert model.rarity.tolist() == pytest.approx([0.0, np.log(2)])
    with pytest.raises(UsageError, match="--least 5: no word is in the captions of so many pictures"):
        fitted(least=5)


def test_the_score_is_the_mean_over_references_where_these_are_known(tmp_path: Path) -> None:
    """With the references' own shares it is the mean inner product of their vectors and the caption's unit vector."""
    model, _ = fitted()
    references = ["a dog runs", "dog", "a red dog"]
    shares = [np.mean([word in text.split() for text in references]) for word in model.words]
    model.weight.zero_()
    model.prior.copy_(torch.tensor(shares))
    model.save(tmp_path / "words.safetensors")
    selector = ExpectedCiderSelector(str(tmp_path / "words.safetensors"))
    candidates = ["A dog runs.", "the cat", "a red dog sits", "zebra dog", ""]
    (scores,) = selector.scores([candidates], Evidence(image_tokens=torch.zeros(1, 2, 3)))

    rarity = dict(zip(model.words, model.rarity.tolist(), strict=True))

    def vector(text: str) -> dict[str, float]:
        return {word: rarity.get(word, np.log(4)) for word in text.split()}

    for caption, score in zip(["a dog runs", "the cat", "a red dog sits", "zebra dog"], scores, strict=False):
        own = vector(caption)
        norm = np.sqrt(sum(value**2 for value in own.values()))
        products = [sum(value * vector(text).get(word, 0.0) for word, value in own.items()) for text in references]
        assert score == pytest.approx(np.mean(products) / norm, abs=1e-4)
    assert scores[-1] == 0.0


def test_roots_keep_their_sign() -> None:
    tokens = torch.tensor([[[1.0, -8.0], [7.0, -10.0]]])
    assert pooled(tokens).tolist() == [[2.0, -3.0]]


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    model, features = fitted()
    model.save(tmp_path / "words.safetensors")
    again = WordShares.load(tmp_path / "words.safetensors")
    torch.testing.assert_close(again.expected(features), model.expected(features), atol=1e-2, rtol=1e-2)  # float16
    assert (again.words, again.pictures) == (model.words, 4)


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
    assert "% of what words' shares vary by is told by the picture" in done.stdout
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
        (["--output=w.safetensors", "--batch-size=0"], "--batch-size 0: need at least 1"),
    ],
)
def test_wrong_options_are_told(cli, tmp_path: Path, words: list[str], complaint: str) -> None:
    done = cli("fit-words", "-c", write_config(tmp_path), *words)
    assert done.code == 2
    assert complaint in done.stderr
