"""Discrete diffusion with an absorbing state: how many words are hidden when, and how they come to light."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MaskSchedule = Literal["cosine", "linear"]


def hidden_share(kind: MaskSchedule, progress: Tensor) -> Tensor:
    """Share of the words that is hidden, of any shape, from 1 at progress 0 to 0 at progress 1.

    "cosine" is cos(pi/2 progress) (MaskGIT, Chang et al. 2022, §3.3): few words come first, many at the end. "linear"
    is 1 - progress, the log-linear schedule of MDLM (Sahoo et al. 2024).

    Example:
        >>> hidden_share("cosine", torch.tensor([0.0, 0.5, 1.0])).round(decimals=3).tolist()
        [1.0, 0.707..., 0.0]
    """
    return torch.cos(math.pi / 2 * progress).clamp_min(0) if kind == "cosine" else 1 - progress


@dataclass(frozen=True)
class Unmasked:
    """Captions that came to light.

    Attributes:
        words: (B, L), none of them hidden.
        scores: (B,) mean log-probability of the words that were hidden, each when it was taken; padding is no word.
        steps: how often the model was asked.
    """

    words: Tensor
    scores: Tensor
    steps: int


def unmask(
    predict: Callable[[Tensor], Tensor],
    words: Tensor,
    *,
    mask: int,
    num_steps: int,
    schedule: MaskSchedule = "cosine",
    padding: int | None = None,
    banned: Tensor | None = None,
) -> Unmasked:
    """Fills hidden words in, the surest first; what is known or was once taken stays (MaskGIT, §3.2; DDCap).

    Every step takes at least one word of each caption, so that fewer steps may do. Padding is the surest of all and
    says nothing: it is taken when no words are left to take, so that the steps are spent on words.

    Args:
        predict: logits (B, L, V) of words (B, L) of which some are hidden.
        words: (B, L), ``mask`` where a word is to be found.
        mask: the hidden word.
        num_steps: evaluations at most.
        schedule: how many words are still hidden after each.
        padding: the word that is taken last and not scored; None means there is none.
        banned: (V,) bool, words that are never said.
    """
    hidden = words == mask
    count, total = hidden.sum(1), torch.zeros(len(words), device=words.device)
    said = torch.zeros_like(count)
    steps = 0
    for step in range(1, num_steps + 1):
        if not bool(hidden.any()):
            break
        logp = predict(words).float().log_softmax(-1)
        if banned is not None:
            logp = logp.masked_fill(banned, -torch.inf)
        sureness, choice = logp.max(-1)
        share = hidden_share(schedule, torch.tensor(step / num_steps))
        left = (count * float(share)).floor() if step < num_steps else torch.zeros_like(count)
        taken = (hidden.sum(1) - left).clamp_min(1)
        pads = torch.zeros_like(hidden) if padding is None else choice == padding
        first = (sureness.exp() - pads.float()).masked_fill(~hidden, -torch.inf)  # words above 0, padding below
        order = first.argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1)  # of each position
        now = hidden & (rank < taken.unsqueeze(1))
        words = torch.where(now, choice, words)
        total += sureness.masked_fill(~now | pads, 0).sum(1)
        said += (now & ~pads).sum(1)
        hidden = hidden & ~now
        steps += 1
    return Unmasked(words, total / said.clamp_min(1), steps)
