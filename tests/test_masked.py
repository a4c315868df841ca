"""Discrete diffusion: what is hidden in training, how words come to light, and that it learns."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_baselines import lively, masked, pictures, taught
from tiny_captioner import CAPTIONS, evaluation_batch, fit
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

from ladic import acceleration
from ladic.baselines import MaskedDiffusionCaptioner
from ladic.baselines.unmasking import hidden_share, unmask
from ladic.captioner_base import Captioner
from ladic.cli.model_options import refuse_foreign
from ladic.draws import BatchDraws
from ladic.errors import UsageError
from ladic.length_control import LengthRange

MASK = 9


class Oracle:
    """Knows the words, of which the ones in front are surer; notes what it was shown."""

    def __init__(self, words: Tensor) -> None:
        self.words, self.shown = words, []

    def __call__(self, shown: Tensor) -> Tensor:
        self.shown.append(shown.clone())
        sureness = torch.linspace(6, 3, shown.shape[1]).view(1, -1, 1)
        return F.one_hot(self.words, 10) * sureness


def test_words_come_to_light_the_surest_first_and_stay() -> None:
    words = torch.randint(0, 9, (3, 12))
    oracle = Oracle(words)
    found = unmask(oracle, torch.full((3, 12), MASK), mask=MASK, num_steps=4, schedule="linear")
    assert torch.equal(found.words, words)
    assert found.steps == len(oracle.shown) == 4
    hidden = [(shown == MASK).sum(1).tolist() for shown in oracle.shown]
    assert hidden == [[12] * 3, [9] * 3, [6] * 3, [3] * 3]
    for earlier, later in zip(oracle.shown, oracle.shown[1:], strict=False):
        known = earlier != MASK
        assert torch.equal(later[known], earlier[known])
        places = (later != MASK).sum(1)
        assert all(bool((later[row, : places[row]] != MASK).all()) for row in range(3)), "the front ones are surest"
    logp = torch.log_softmax(oracle(words), -1).amax(-1)
    torch.testing.assert_close(found.scores, logp.mean(1))


def test_one_step_takes_everything_at_once() -> None:
    oracle = Oracle(torch.randint(0, 9, (2, 7)))
    found = unmask(oracle, torch.full((2, 7), MASK), mask=MASK, num_steps=1)
    assert torch.equal(found.words, oracle.words)
    assert found.steps == 1


def test_known_words_stay_whatever_the_model_thinks() -> None:
    oracle = Oracle(torch.randint(0, 8, (2, 7)))
    start = torch.full((2, 7), MASK)
    start[0, 2], start[1, 5] = 8, 8
    found = unmask(oracle, start, mask=MASK, num_steps=3)
    assert (int(found.words[0, 2]), int(found.words[1, 5])) == (8, 8)
    others = start == MASK
    assert torch.equal(found.words[others], oracle.words[others])
    assert unmask(oracle, found.words, mask=MASK, num_steps=3).steps == 0, "nothing is hidden"


def test_more_steps_than_words_are_not_needed_and_banned_words_not_said() -> None:
    oracle = Oracle(torch.full((1, 4), 7))
    banned = torch.arange(10) == 7
    found = unmask(oracle, torch.full((1, 4), MASK), mask=MASK, num_steps=50, banned=banned)
    assert found.steps == 4
    assert 7 not in found.words


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_all_is_hidden_at_first_and_nothing_at_last(kind: Any) -> None:
    share = hidden_share(kind, torch.linspace(0, 1, 11))
    assert (float(share[0]), float(share[-1])) == pytest.approx((1, 0), abs=1e-6)
    assert (share.diff() < 0).all()


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@torch.no_grad()
def test_the_loss_is_over_hidden_words_alone(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    captioner = lively(masked(mask_schedule=kind))
    batch = pictures(captioner)
    progress, draws = torch.tensor([0.2, 0.5, 0.7, 1.0]), torch.rand(4, 12)
    monkeypatch.setattr(
        BatchDraws, "uniform", lambda self, *shape: draws.view(self.rows, *shape) if shape else progress
    )
    ours = captioner.losses(batch)
    words = captioner.words(batch["input_ids"])
    each, right = [], []
    for row in range(4):
        share = float(1 - progress[row] if kind == "linear" else torch.cos(progress[row] * torch.pi / 2))
        hidden = [place for place in range(1, 12) if draws[row, place] < share]
        shown = words[row : row + 1].clone()
        shown[0, hidden] = captioner.word("mask")
        context = captioner.decoder.context(batch["image_tokens"][row : row + 1])
        logp = torch.log_softmax(captioner.decoder(shown, context)[0], -1)
        each += [-logp[place, words[row, place]] / (share if kind == "linear" else 1) for place in hidden]
        right += [
            bool(logp[place].argmax() == words[row, place]) for place in hidden if batch["attention_mask"][row, place]
        ]
    positions = 4 * 11 if kind == "linear" else len(each)
    torch.testing.assert_close(ours["loss"], torch.stack(each).sum() / positions, atol=1e-4, rtol=1e-4)
    assert float(ours["token_accuracy"]) == pytest.approx(sum(right) / len(right))


@torch.no_grad()
def test_the_linear_loss_bounds_what_a_model_of_single_words_can_say() -> None:
    """A network that sees neither words nor picture says every word with its own log-probability."""
    captioner = masked(mask_schedule="linear").eval()
    for weight in captioner.decoder.parameters():
        weight.zero_()
    captioner.decoder.head.bias.normal_(generator=torch.Generator().manual_seed(0))
    batch = pictures(captioner)
    draws = BatchDraws(4, torch.device("cpu"), torch.Generator().manual_seed(1))
    loss = torch.stack([captioner.losses(batch, draws)["loss"] for _ in range(1500)]).mean()
    words = captioner.words(batch["input_ids"])[:, 1:]
    exact = -captioner.decoder.head.bias.log_softmax(-1)[words].mean()
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0)


def test_padding_is_taken_last_and_not_scored() -> None:
    words = torch.tensor([[1, 2, 3, 4, 0, 0, 0, 0]])
    oracle = Oracle(words)
    sureness = torch.tensor([3.0, 5.0, 4.0, 2.0, 9.0, 9.0, 9.0, 9.0])  # padding is surest

    def asked(shown: Tensor) -> Tensor:
        oracle(shown)
        return F.one_hot(words, 10) * sureness.view(1, -1, 1)

    found = unmask(asked, torch.full((1, 8), MASK), mask=MASK, num_steps=8, schedule="linear", padding=0)
    assert torch.equal(found.words, words)
    order = [int((later != earlier)[0].nonzero()) for earlier, later in pairwise(oracle.shown)]
    assert order[:5] == [1, 2, 0, 3, 4]
    logp = (F.one_hot(words, 10) * sureness.view(1, -1, 1)).log_softmax(-1).amax(-1)
    torch.testing.assert_close(found.scores, logp[:, :4].mean(1))


@torch.no_grad()
def test_every_position_sees_every_other() -> None:
    decoder = lively(masked()).decoder
    context = decoder.context(torch.randn(1, 16, 8))
    words = torch.randint(0, 30, (1, 8))
    changed = words.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 30
    one, other = decoder(words, context)[0], decoder(changed, context)[0]
    assert all(not torch.allclose(one[place], other[place]) for place in range(8))


def test_it_learns_to_say_what_it_is_shown() -> None:
    captioner = masked(num_steps=4)
    taught(captioner, 180, lr=3e-3)
    output = captioner.predict_step(pictures(captioner), 0)
    assert output["captions"] == CAPTIONS
    assert output["nfe"] == [4] * 4
    captioner.num_steps = 1
    assert captioner.predict_step(pictures(captioner), 0)["nfe"] == [1] * 4


@torch.no_grad()
def test_a_caption_is_the_same_in_every_batch() -> None:
    captioner = lively(masked(num_steps=5))
    tokens = torch.randn(5, 16, 8)
    together = captioner.candidates({"image_tokens": tokens, "image_id": [0, 1, 2, 3, 4]})
    for row in range(5):
        alone = captioner.candidates({"image_tokens": tokens[row : row + 1], "image_id": [row]})
        assert alone.captions[0] == together.captions[row]


def test_a_checkpoint_comes_back_from_the_file_alone(tmp_path: Path) -> None:
    captioner = masked(num_steps=3, mask_schedule="linear", seed=5)
    fit(captioner, tmp_path, max_steps=3).save_checkpoint(tmp_path / "model.ckpt")
    json.dumps(torch.load(tmp_path / "model.ckpt", weights_only=True)["ladic"])
    again = Captioner.load_from_checkpoint(tmp_path / "model.ckpt")
    assert type(again) is MaskedDiffusionCaptioner
    captioner.eval()
    batch = evaluation_batch(captioner)
    assert again.predict_step(batch, 0) == captioner.predict_step(batch, 0)
    assert again.description() == captioner.description()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"num_steps": 0}, "num_steps=0: need at least 1"), ({"mask_schedule": "sine"}, "accepted are cosine, linear")],
)
def test_what_can_not_be_is_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        masked(**settings)


@pytest.mark.parametrize("option", ["guidance_scale", "seed", "min_length"])
def test_zero_is_an_option_that_was_given(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: not for MaskedDiffusionCaptioner"):
        refuse_foreign(SimpleNamespace(**{option: 0}), masked())
    refuse_foreign(SimpleNamespace(num_steps=4, back_and_refine=False, seed=None), masked())


def test_compiled_parts_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, real = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: real(function, backend=counter))
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: name)
    torch._dynamo.reset()
    plain, compiled = lively(masked(num_steps=5)), lively(masked(num_steps=5)).accelerate("fp32", compile=True)
    batch = pictures(plain)
    with torch.no_grad():
        first = compiled.candidates(batch)
        frames = counter.frame_count
        assert frames > 0
        assert compiled.candidates(batch).captions == first.captions == plain.candidates(batch).captions
    assert counter.frame_count == frames, "every step has the shapes of the first"
    torch._dynamo.reset()


def test_it_has_one_caption_as_long_as_it_finds_it() -> None:
    captioner = masked().eval()
    with pytest.raises(UsageError, match="num_candidates=2: MaskedDiffusionCaptioner says one caption"):
        captioner.candidates(pictures(captioner), 2)
    with pytest.raises(UsageError, match="length of 3 to 5 tokens: Masked"):
        captioner.candidates(pictures(captioner), length=LengthRange(3, 5))
