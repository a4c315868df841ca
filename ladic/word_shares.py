"""Which words the captions of a picture would have: ridge regression on the mean of its image tokens.

    features:  f = (r - mean) / deviation,    r = sign(m) sqrt(|m|),    m = mean of the tokens over the picture
    shares:    p(w | picture) = p(w) + f W_w,    W = (F'F + ridge n I)^-1 F'(Y - p)

for n pictures with features F (n, C) and shares Y (n, W): of a picture's captions, how many have the word. Closed form
(Hoerl & Kennard 1970), so that it is there in seconds, and it overfits less than a network does. The signed root evens
out what few channels shout (Perronnin et al. 2010, "Improving the Fisher Kernel"). Fang et al. 2015 ("From Captions to
Visual Concepts and Back") choose captions by detected words, too.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ladic.errors import UsageError

FLOOR = 0.02
"""Least share, as a part of the word's own: a regression knows no bounds."""


class WordShares(nn.Module):
    """The share of a picture's captions that have each word.

    Args:
        words: that it knows.
        width: C of the image tokens.
        pictures: that it was fitted on.

    Attributes:
        rarity: (W,) log of how many pictures there are for each that has the word, CIDEr's inverse document frequency.
        prior: (W,) share of all captions.
    """

    def __init__(self, words: Sequence[str], width: int, pictures: int) -> None:
        super().__init__()
        self.words, self.pictures = list(words), pictures
        self.index = {word: number for number, word in enumerate(words)}
        for name, shape in {"mean": (width,), "deviation": (width,), "weight": (width, len(words))}.items():
            self.register_buffer(name, torch.zeros(shape))
        for name in ("prior", "rarity"):
            self.register_buffer(name, torch.zeros(len(words)))
        self.mean: Tensor
        self.deviation: Tensor
        self.weight: Tensor
        self.prior: Tensor
        self.rarity: Tensor

    @property
    def width(self) -> int:
        """C of the image tokens."""
        return len(self.mean)

    @property
    def unknown(self) -> float:
        """Rarity of a word that it doesn't know: as if a single picture had it."""
        return math.log(max(2, self.pictures))

    def counted(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Shares (n, W) of the captions of n pictures, each some texts of tokens with spaces between them."""
        shares = torch.zeros(len(captions), len(self.words))
        for row, texts in enumerate(captions):
            for text in texts:
                shares[row, [self.index[word] for word in set(text.split()) if word in self.index]] += 1 / len(texts)
        return shares

    def explained(self, pooled: Tensor, captions: Sequence[Sequence[str]]) -> float:
        """Of what the shares vary by, how much is told by the pictures: R squared over all words, at most 1."""
        true = self.counted(captions)
        return 1 - float((self.expected(pooled) - true).square().sum() / (self.prior - true).square().sum())

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Shares (B, W) in (0, 1] from image tokens (B, N, C)."""
        return self.expected(pooled(image_tokens))

    def expected(self, pooled: Tensor) -> Tensor:
        """Shares (B, W) in (0, 1] from what ``pooled`` makes of the tokens, (B, C)."""
        features = (pooled - self.mean) / self.deviation
        return (self.prior + features @ self.weight).clamp_max(1.0).maximum(FLOOR * self.prior)

    @classmethod
    def fit(cls, pooled: Tensor, captions: Sequence[Sequence[str]], least: int, ridge: float) -> WordShares:
        """Solves for the weights.

        Args:
            pooled: (n, C), ``pooled`` of every picture.
            captions: of each, as tokens with spaces between them.
            least: pictures that a word must be in.
            ridge: strength of the regularisation, as a part of n.

        Raises:
            UsageError: if no word is in so many pictures.
        """
        counts = Counter(word for texts in captions for word in set().union(*(text.split() for text in texts)))
        words = sorted(word for word, count in counts.items() if count >= least)
        if not words:
            raise UsageError(f"--least {least}: no word is in the captions of so many pictures; give fewer")
        model = cls(words, pooled.shape[1], len(pooled))
        shares = model.counted(captions)
        model.mean, model.deviation = pooled.mean(0), pooled.std(0, correction=0) + 1e-3
        model.prior = shares.mean(0)
        model.rarity = torch.log(len(pooled) / torch.tensor([float(counts[word]) for word in words]))
        features = ((pooled - model.mean) / model.deviation).double()
        gram = features.T @ features
        gram.diagonal().add_(ridge * len(pooled))
        model.weight = torch.linalg.solve(gram, features.T @ (shares - model.prior).double()).float()
        return model

    def save(self, file: Path) -> None:
        """Writes weights (float16, the rest float32) and words as one safetensors file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        tensors["weight"] = tensors["weight"].half()
        save_file(tensors, file, {"words": json.dumps(self.words), "pictures": str(self.pictures)})

    @classmethod
    def load(cls, file: Path) -> WordShares:
        """Reads what ``save`` wrote.

        Raises:
            UsageError: if the file is missing or is none of ours.
        """
        again = "make it with `ladic fit-words`"
        try:
            with safe_open(file, "pt") as stored:
                told = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
            model = cls(json.loads(told["words"]), len(tensors["mean"]), int(told["pictures"]))
        except FileNotFoundError as error:
            raise UsageError(f"words '{file}': no such file; {again}") from error
        except (SafetensorError, KeyError) as error:
            raise UsageError(f"words '{file}': not written by `ladic fit-words`; {again}") from error
        model.load_state_dict(tensors)
        return model.eval()


def pooled(image_tokens: Tensor) -> Tensor:
    """Signed roots (B, C) of the means of image tokens (B, N, C).

    Example:
        >>> pooled(torch.tensor([[[4.0, -9.0], [4.0, -9.0]]]))
        tensor([[ 2., -3.]])
    """
    means = image_tokens.float().mean(1)
    return means.sign() * means.abs().sqrt()
