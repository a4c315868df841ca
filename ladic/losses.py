"""The paper's loss on latents (§3.3, eq. 2), its weights, and a loss for image encoders.

That on the words read from latents is the head's: ``WordHead.losses``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LatentLoss = Literal["l2", "mse"]


def latent_loss(predicted: Tensor, x0: Tensor, kind: LatentLoss = "l2") -> Tensor:
    """Distance of predicted and clean latents, both (B, L, D), as one number per sample (B,).

    "l2" is the mean over positions of the un-squared norm over D, what eq. 2 writes and the released code does;
    "mse" the mean square over positions and features.
    """
    error = (predicted - x0).float()
    if kind == "l2":
        return error.norm(dim=-1).mean(-1)
    return error.square().mean((-2, -1))


LossWeight = Literal["none", "min_snr", "truncated_snr", "snr"]


def loss_weight(kind: LossWeight, log_snr: Tensor, prediction: str = "x0", gamma: float = 5.0) -> Tensor:
    """Factor of the latent loss at each noise level, like ``log_snr``, for a network that is asked for ``prediction``.

    For x0: "min_snr" is min(SNR, gamma) (Hang et al. 2023, eq. 7); "truncated_snr" max(SNR, 1) (Salimans & Ho 2022,
    §4); "snr" SNR, the plain loss of DDPM's epsilon. The same weights on the errors of epsilon or v are these over SNR
    or over SNR + 1. They are meant for squared losses; "l2" norms get them as they are.

    Example:
        >>> loss_weight("min_snr", torch.tensor([-1.0, 4.0]).exp().log(), "epsilon").tolist()
        [1.0, 0.0915...]
    """
    if kind == "none":
        return torch.ones_like(log_snr)
    snr = log_snr.clamp(-20, 20).exp()
    weight = {"min_snr": snr.clamp_max(gamma), "truncated_snr": snr.clamp_min(1.0), "snr": snr}[kind]
    return weight / {"x0": torch.ones_like(snr), "epsilon": snr, "v": snr + 1}[prediction]


def phrase_presence_loss(token_logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of which phrases a picture's captions have, from its tokens, (B,).

    A phrase is in the picture if some token says so: the picture's logit is the log-sum-exp of its tokens', a soft
    form of the maximum of Fang et al. 2015 ("From Captions to Visual Concepts and Back", §3).

    Args:
        token_logits: (B, N, P), of every image token and phrase.
        present: (B, P), 1 where the phrase occurs.
    """
    logits = torch.logsumexp(token_logits.float(), dim=1)
    return F.binary_cross_entropy_with_logits(logits, present, reduction="none").sum(-1)
