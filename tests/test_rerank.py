"""Choosing among candidates: by the picture's phrases and by the model's own reconstruction."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import write_config
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.errors import UsageError
from ladic.phrases import PhraseDetector, frequent_phrases, phrases_of
from ladic.reconstruction import Reconstruction
from ladic.rerank import (
    CandidateSelector,
    ClipSelector,
    Evidence,
    MinimumBayesRiskSelector,
    PhraseSelector,
    ReconstructionSelector,
)
from ladic.spec import describe


class ByLength(CandidateSelector):
    """Longer is better: an inner selector whose scores are known."""

    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        return [[float(len(caption)) for caption in captions] for captions in candidates]


def test_the_first_of_equals_is_chosen() -> None:
    assert ByLength().select([["ab", "cd", "e"], ["x", "yy"]]) == ["ab", "yy"]


def detector() -> PhraseDetector:
    made = PhraseDetector({"dog": 0.5, "red": 0.25, "red dog": 0.1}, width=2, num_tokens=3)
    with torch.no_grad():
        made.linear.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 4.0], [2.0, 2.0]]))
        made.linear.bias.fill_(-2.0)
    return made


def test_the_phrase_score_is_the_formula(tmp_path: Path) -> None:
    detector().save(tmp_path / "phrases.safetensors")
    selector = PhraseSelector(str(tmp_path / "phrases.safetensors"), reward=0.5, unknown=-3.0)
    tokens = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(1))
    logits = tokens[0].double().numpy() @ np.array([[4.0, 0, 2], [0, 4, 2]]) - 2
    pooled = np.log(np.exp(logits).sum(0))
    dog, red, both = -np.log1p(np.exp(-pooled))
    scores = selector.scores([["dog", "red dog", "red cat"]], Evidence(image_tokens=tokens))
    expected = [dog + 0.5, dog + red + both + 1.5, red - 3 - 3 + 1.5]  # "cat" and "red cat" are unknown
    np.testing.assert_allclose(scores, [expected], rtol=1e-5)


def test_a_checkpoint_finds_the_files_of_selectors_from_anywhere(tmp_path: Path, monkeypatch) -> None:
    detector().save(tmp_path / "p.safetensors")
    (tmp_path / "clip.bin").touch()
    (tmp_path / "shapes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert describe(PhraseSelector("p.safetensors"))["init_args"]["weights"] == str(tmp_path / "p.safetensors")
    assert describe(PhraseSelector("shapes"))["init_args"]["weights"] == "shapes", "a shipped one by its name"
    assert describe(ClipSelector(pretrained="clip.bin"))["init_args"]["pretrained"] == str(tmp_path / "clip.bin")
    assert describe(ClipSelector())["init_args"]["pretrained"] == "openai"


def test_the_detector_comes_back_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "phrases.safetensors"
    made = detector()
    made.save(file)
    again = PhraseDetector.load(file)
    tokens = torch.randn(2, 3, 2)
    torch.testing.assert_close(again(tokens), made(tokens), atol=1e-2, rtol=1e-2)  # float16 weights
    assert again.present(["a red dog", "x"]).tolist() == [0, 1, 2]
    assert not any(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("content", [None, b"no safetensors", b""])
def test_a_missing_or_foreign_phrase_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "phrases.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"phrases\.safetensors'.*ladic fit-phrases"):
        PhraseSelector(str(file))


def test_with_another_encoder_bayes_risk_chooses_and_says_so_once(tmp_path: Path, caplog) -> None:
    detector().save(tmp_path / "p.safetensors")
    selector = PhraseSelector(str(tmp_path / "p.safetensors"))
    evidence = Evidence(image_tokens=torch.zeros(1, 3, 5))
    candidates = [["dog", "a red cat", "a red cat"]]
    assert selector.scores(candidates, evidence) == MinimumBayesRiskSelector().scores(candidates, evidence)
    assert selector.select(candidates, evidence) == ["a red cat"]
    assert caplog.text.count("width 2, this encoder gives 5") == 1
    with pytest.raises(UsageError, match="needs the picture's tokens"):
        selector.select([["dog"]])


def test_the_shipped_phrases_know_the_drawn_scenes() -> None:
    """Real pictures: a scene's own references score above those of the next scene."""
    from ladic.components import ConvEncoder
    from ladic.datamodules.shapes.source import ShapesSource
    from ladic.datamodules.transforms import to_tensor

    source, encoder = ShapesSource("test", 12), ConvEncoder(weights="shapes")
    images = torch.stack([to_tensor(source.image(index), encoder.preprocess) for index in range(12)])
    pairs = [[source.captions(index)[0], source.captions((index + 1) % 12)[0]] for index in range(12)]
    scores = PhraseSelector("shapes").scores(pairs, Evidence(image_tokens=encoder(images)))
    # Mean log-probability a word, as captions differ in length.
    right = sum(
        mine / len(pair[0].split()) > other / len(pair[1].split())
        for pair, (mine, other) in zip(pairs, scores, strict=True)
    )
    assert right >= 11, f"{right} of 12"


def test_frequent_phrases_are_counted_once_a_picture() -> None:
    captions = [["a dog", "a dog runs"], ["a cat"], ["the cat"], ["a dog"]]
    shares = frequent_phrases(captions, longest=2, least=0.5)
    assert shares == {"a": 0.75, "a dog": 0.5, "cat": 0.5, "dog": 0.5}
    assert phrases_of(["one, two"], 2) == {"one", "two", "one two"}


def fake(words: dict[str, float], seen: list[tuple[int, str]]):
    def reconstruct(rows, captions, times, draws) -> tuple[Tensor, Tensor]:
        seen.extend(zip(rows, captions, strict=True))
        return torch.tensor([words[caption] for caption in captions]), torch.ones(len(captions))

    return reconstruct


def test_reconstruction_weighs_losses_against_the_inner_score() -> None:
    seen: list[tuple[int, str]] = []
    candidates = [["aaa", "bb", "bb", "c"]]
    evidence = Evidence(reconstruct=fake({"aaa": 2.0, "bb": 0.5, "c": 0.0}, seen))
    selector = ReconstructionSelector(ByLength(), weight=2.0, latent_weight=0.5)
    assert selector.scores(candidates, evidence) == [[3 - 4 - 0.5, 2 - 1 - 0.5, 2 - 1 - 0.5, 1 - 0.5]]
    assert seen == [(0, "aaa"), (0, "bb"), (0, "c")], "a caption drawn twice is looked at once"
    assert selector.select(candidates, evidence) == ["bb"]
    seen.clear()
    assert selector.scores([["bb"], ["aaa", "c"], ["c", "c"]], evidence)[::2] == [[2.0], [1.0, 1.0]]
    assert seen == [(1, "aaa"), (1, "c")], "nothing to choose, nothing to ask"
    assert selector.scores([["bb"]], evidence) == [[2.0]]
    seen.clear()
    short = ReconstructionSelector(ByLength(), weight=2.0, shortlist=1)
    assert short.scores(candidates, evidence) == [[-1.0, -math.inf, -math.inf, -math.inf]]
    assert seen == [(0, "aaa")]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"times": ()}, "at least one noise level"),
        ({"times": (0.0,)}, r"each in \(0, 1\]"),
        ({"draws": 0}, "draws=0: need at least 1"),
        ({"shortlist": 0}, "shortlist=0"),
    ],
)
def test_impossible_settings_are_refused(settings, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ReconstructionSelector(**settings)
    with pytest.raises(UsageError, match="needs the model"):
        ReconstructionSelector().select([["a"]])


def reconstruction(model: LatentDiffusionCaptioner, tokens: Tensor, ids: list[int | str], **more) -> Reconstruction:
    parts = {"denoiser": model.denoiser, "latent_space": model.latent_space, "schedule": model.noise_schedule}
    return Reconstruction(tokens, ids, **parts, **more)


def test_reconstruction_is_the_training_loss_and_counts(trained: Path) -> None:
    model = LatentDiffusionCaptioner.load_from_checkpoint(trained)
    tokens = torch.randn(2, model.image_encoder.num_tokens, model.image_encoder.width)
    captions, rows = ["a red circle", "a blue square", "a red circle"], [0, 1, 1]
    judge = reconstruction(model, tokens, ["x", "y"], batch_size=2)
    words, latents = judge(rows, captions, (0.3, 0.9), draws=2)
    assert judge.nfe == [4, 8]
    alone = reconstruction(model, tokens[1:], ["y"])
    again = alone([0], ["a red circle"], (0.3, 0.9), draws=2)
    torch.testing.assert_close(again[0], words[2:], atol=1e-5, rtol=1e-5)  # not a matter of the batch
    torch.testing.assert_close(again[1], latents[2:], atol=1e-5, rtol=1e-5)
    # By hand, one caption at one level with the noise of the first draw.
    from ladic.generation import SeededNoise, noise_seed

    space = model.latent_space
    batch = space.tokenize(["a red circle"])
    x0 = space.encode(batch.input_ids, batch.attention_mask)
    noise = SeededNoise([noise_seed(0, "y/reconstruct", 0)], tuple(x0.shape[1:])).draw()
    t = torch.tensor([0.3])
    alpha = model.noise_schedule.alpha_bar(t)
    with torch.no_grad():
        estimate = model.denoiser(alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise, t, model.denoiser.context(tokens[1:]))
        log_p = torch.log_softmax(space.decode(estimate), -1)
    expected = -log_p.gather(-1, space.targets(batch.input_ids, batch.attention_mask).unsqueeze(-1)).mean()
    one = alone([0], ["a red circle"], (0.3,), draws=1)
    torch.testing.assert_close(one[0][0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one[1][0], (estimate - x0).norm(dim=-1).mean(), atol=1e-5, rtol=1e-5)


def test_what_choosing_costs_is_written_down(cli, trained: Path, tmp_path: Path) -> None:
    from tiny_run import tiny_config

    config = tiny_config(tmp_path)
    config["model"] |= {
        "num_candidates": 3,
        "selector": {"class_path": "ReconstructionSelector", "init_args": {"times": [0.5], "draws": 2}},
    }
    file = write_config(tmp_path, config)
    assert cli("test", "-c", file, f"--ckpt_path={trained}").code == 0
    import json

    scores = json.loads((tmp_path / "run" / "scores_test.json").read_text())
    assert scores["nfe"] == 4, "two guided steps"
    assert 2 <= scores["selection_nfe"] <= 6, "two looks at each different candidate"


def test_phrases_are_fitted_by_the_command(cli, tmp_path: Path) -> None:
    file, output = write_config(tmp_path), tmp_path / "phrases.safetensors"
    outcome = cli("fit-phrases", "-c", file, "--output", output, "--steps=3", "--batch-size=4", "--least=0.1")
    assert outcome.code == 0, outcome.stderr
    assert "nats a picture" in outcome.stdout
    tokens = torch.zeros(1, 64, 16)
    assert PhraseSelector(str(output)).select([["a red circle", "a"]], Evidence(image_tokens=tokens))
    wrong = cli("fit-phrases", "-c", file, "--output", tmp_path / "p.pt")
    assert wrong.code == 2
    assert "must end in .safetensors" in wrong.stderr


def test_minimum_bayes_risk_scores_are_mean_utilities() -> None:
    scores = MinimumBayesRiskSelector().scores([["a b c d", "a b c d", "x"], ["one"]], Evidence())
    assert scores == [[0.5, 0.5, 0.0], [0.0]]
