"""Beam search: the likeliest captions of a model that predicts one word after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ladic.errors import UsageError


class NextWord(Protocol):
    """Scores of the next word, for rows that each go on an earlier one."""

    def __call__(self, words: Tensor, rows: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Hypotheses:
    """What was found for one image; of a beam, best first.

    Attributes:
        words: of each caption, start and end left out.
        scores: log-probability of the words and the end over their number to the power of the length penalty.
        steps: how often the model was asked.
    """

    words: list[list[int]]
    scores: list[float]
    steps: int


def beam_search(
    next_word: NextWord,
    images: int,
    *,
    start: int,
    end: int,
    beam_size: int,
    max_length: int,
    min_length: int = 0,
    length_penalty: float = 1.0,
    banned: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> list[Hypotheses]:
    """The likeliest captions of each image; greedy with a beam of 1.

    At every step the ``beam_size`` likeliest beginnings of an image go on. One that ends among them is a caption, and
    an image is done when it has that many, as with ``early_stopping=True`` in transformers. After ``max_length`` words
    nothing but the end is left to say, in a step of its own, so that all captions have paid for their end; transformers
    lets those that are cut go without. An image of which nothing can be said has one empty caption, at -infinity.

    Args:
        next_word: asked with ``images * beam_size`` rows, those of an image in a row; logits (rows, V).
        images: how many.
        start: word that all captions begin with.
        end: word that ends them.
        beam_size: K.
        max_length: most words, start and end not counted.
        min_length: fewest.
        length_penalty: the power; above 0 longer captions win more often, with 0 the likeliest wins.
        banned: (V,) bool, words that are never said.
        device: of the words.

    Raises:
        UsageError: if the model's logits aren't finite.
    """
    scores = torch.full((images, beam_size), -torch.inf, device=device)
    scores[:, 0] = 0.0  # at first all rows of an image are the same
    said = torch.zeros(images, beam_size, 0, dtype=torch.long, device=device)
    last, rows = torch.full((images * beam_size,), start, device=device), None
    first_row = torch.arange(images, device=device).unsqueeze(1) * beam_size
    found: list[list[tuple[float, list[int]]]] = [[] for _ in range(images)]
    steps = [0] * images
    going = set(range(images))
    for step in range(max_length + 1):
        logp = next_words(next_word(last, rows), step, end, max_length, min_length, banned)
        logp = logp.view(images, beam_size, -1)
        vocabulary = logp.shape[-1]
        # Each row ends in one way at most, so among twice as many there are enough that go on.
        totals, places = (scores.unsqueeze(-1) + logp).flatten(1).topk(min(2 * beam_size, beam_size * vocabulary))
        parents, words = places // vocabulary, places % vocabulary
        ends = words == end
        for image in going:
            steps[image] = step + 1
        ended = ends[:, :beam_size] & (totals[:, :beam_size] > -torch.inf)
        for image, rank in ended.nonzero().tolist():
            if image in going:
                text = said[image, parents[image, rank]].tolist()
                found[image].append((normalised(float(totals[image, rank]), len(text) + 1, length_penalty), text))
        on = ends.int().argsort(dim=1, stable=True)[:, :beam_size]  # those that don't end, in their order
        scores, parents, words = (values.gather(1, on) for values in (totals, parents, words))
        scores = scores.masked_fill(ends.gather(1, on), -torch.inf)
        said = torch.cat([said.gather(1, parents.unsqueeze(-1).expand(-1, -1, step)), words.unsqueeze(-1)], dim=-1)
        last = words.flatten()
        rows = (first_row + parents).flatten() if beam_size > 1 else None
        dead = (scores == -torch.inf).all(1).tolist()
        going = {image for image in going if len(found[image]) < beam_size and not dead[image]}
        if not going:
            break
    return [_best(captions, beam_size, count) for captions, count in zip(found, steps, strict=True)]


def next_words(
    logits: Tensor, step: int, end: int, max_length: int, min_length: int = 0, banned: Tensor | None = None
) -> Tensor:
    """Log-probabilities (R, V) of the next word, -infinity for those that may not be said after ``step`` words.

    Args:
        logits: (R, V).
        step: words so far.
        end, max_length, min_length, banned: as in ``beam_search``.

    Raises:
        UsageError: if the logits aren't finite.
    """
    logp = logits.float().log_softmax(-1)
    if bool(logp[:, end].isnan().any()):  # a single one that isn't makes its whole row so
        raise UsageError(
            "the scores of the next word aren't finite: the weights are damaged, or their training went astray; "
            "take an earlier checkpoint, or --precision fp32 where it was fp16"
        )
    if banned is not None:
        logp = logp.masked_fill(banned, -torch.inf)
    if step < min_length:
        logp[:, end] = -torch.inf
    if step == max_length:
        logp = logp.masked_fill(torch.arange(logp.shape[1], device=logp.device) != end, -torch.inf)
    return logp


def normalised(score: float, words: int, length_penalty: float) -> float:
    """A log-probability over a number of words to the power of the penalty."""
    return score / words**length_penalty


def _best(captions: list[tuple[float, list[int]]], number: int, steps: int) -> Hypotheses:
    chosen = sorted(captions, key=lambda caption: -caption[0])[:number] or [(-torch.inf, [])]
    return Hypotheses([text for _, text in chosen], [score for score, _ in chosen], steps)
