"""Captions drawn at random from a model that predicts one word after another, each from an image's own numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.baselines.beam import Hypotheses, NextWord, next_words, normalised


def sample_words(
    next_word: NextWord,
    seeds: list[list[int]],
    *,
    start: int,
    end: int,
    max_length: int,
    min_length: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    length_penalty: float = 1.0,
    banned: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> list[Hypotheses]:
    """Captions of each image, in the order of its seeds.

    A word is drawn from the softmax of logits / temperature, cut to its nucleus: the likeliest words that together have
    at least ``top_p`` of the probability (Holtzman et al. 2020, §3.1). Scores are log-probabilities without both, so
    that they compare with those of ``beam_search``, whose lengths, too, mean the same.

    Args:
        next_word: asked with a row for each seed, those of an image in a row; logits (rows, V).
        seeds: of each image's captions, as many of each image.
        start, end, max_length, min_length, length_penalty, banned, device: as in ``beam_search``.
        temperature: above 0; below 1 likely words become likelier.
        top_p: in (0, 1]; 1 is all words.

    Raises:
        UsageError: if the model's logits aren't finite.
    """
    number, flat = len(seeds[0]), [seed for own in seeds for seed in own]
    uniform = _uniform(flat, max_length + 1).to(device)
    scores = torch.zeros(len(flat), device=device)
    last = torch.full((len(flat),), start, device=device)
    said = torch.zeros(len(flat), 0, dtype=torch.long, device=device)
    going = torch.ones(len(flat), dtype=torch.bool, device=device)
    lengths = torch.zeros(len(flat), dtype=torch.long, device=device)
    for step in range(max_length + 1):
        logp = next_words(next_word(last, None), step, end, max_length, min_length, banned)
        nothing = (logp == -torch.inf).all(1)  # an empty caption then, as from a beam
        words = torch.where(nothing | ~going, end, drawn(logp / temperature, uniform[:, step], top_p))
        scores += torch.where(going, logp.gather(1, words.unsqueeze(1)).squeeze(1), 0.0)
        lengths += going  # words and the end
        going &= words != end
        said, last = torch.cat([said, words.unsqueeze(1)], dim=1), words
        if not bool(going.any()):
            break
    captions = [row[: length - 1] for row, length in zip(said.tolist(), lengths.tolist(), strict=True)]
    values = [
        normalised(score, length, length_penalty)
        for score, length in zip(scores.tolist(), lengths.tolist(), strict=True)
    ]
    return [
        Hypotheses(captions[i : i + number], values[i : i + number], int(lengths[i : i + number].max()))
        for i in range(0, len(flat), number)
    ]


def drawn(logits: Tensor, uniform: Tensor, top_p: float = 1.0) -> Tensor:
    """A word (R,) of each row's nucleus, by inverting its distribution at a uniform number.

    Args:
        logits: (R, V).
        uniform: (R,) in [0, 1).
        top_p: share of the probability that the nucleus has at least.

    Example:
        >>> logits = torch.tensor([0.3, 0.5, 0.2]).log().expand(3, 3)
        >>> drawn(logits, torch.tensor([0.0, 0.6, 0.9])).tolist(), drawn(logits, torch.full((3,), 0.9), 0.7).tolist()
        ([0, 1, 2], [0, 0, 0])
    """
    if top_p == 1:  # in any order: sorting a vocabulary takes longer than all the rest
        below = logits.float().softmax(-1).cumsum(-1)
        most = torch.nextafter(below[:, -1:], torch.zeros_like(below[:, -1:]))  # a product may round up to the whole
        place = torch.searchsorted(below, torch.minimum(uniform.unsqueeze(1) * below[:, -1:], most), right=True)
        return place.squeeze(1)
    shares, words = logits.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
    shares = shares.masked_fill(shares.cumsum(-1) - shares >= top_p, 0.0)  # those before have enough already
    below = shares.cumsum(-1)
    place = (below <= uniform.unsqueeze(1) * below[:, -1:]).sum(1)
    place = place.minimum((shares > 0).sum(1) - 1).clamp_min(0)  # a product may round up to the whole
    return words.gather(1, place.unsqueeze(1)).squeeze(1)


def _uniform(seeds: list[int], number: int) -> Tensor:
    """(R, number) in [0, 1), each row from a generator of its own; on the CPU, so that seeds mean the same anywhere."""
    rows = [torch.rand(number, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)
