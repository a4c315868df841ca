"""Which words, and words in a row, a picture's captions would have: ridge regression on the mean of its image tokens.

    features:  f = (r - mean) / deviation,    r = sign(m) sqrt(|m|),    m = mean of the tokens over the picture
    vectors:   v_g(caption) = count_g rarity_g / |those of g's length|,    rarity_g = log(pictures / pictures with g)
    expected:  u(picture) = p + f W,    W = (F'F + ridge n I)^-1 F'(V - p)

for n pictures with features F (n, C) and vectors V (n, G): a picture's is the mean of its captions', p the mean of all.
``v`` is CIDEr's vector of n-grams (Vedantam et al. 2015), so that v(c) u(picture) estimates the CIDEr of a caption c,
but for n-grams too rare to be known. It is linear in the features and solved in closed form (Hoerl & Kennard 1970): it
is there in seconds, and overfits less than a network does. The signed root evens out what few channels shout (Perronnin
et al. 2010, "Improving the Fisher Kernel"). Fang et al. 2015 ("From Captions to Visual Concepts and Back") choose
captions by detected words, Devlin et al. 2015 ("Exploring Nearest Neighbor Approaches for Image Captioning") by their
CIDEr with captions of pictures that are alike.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ladic.errors import UsageError
from ladic.json_files import write_whole
from ladic.metrics.functional.cider import SIGMA

PICTURES = 1024
"""Whose vectors are in memory at a time."""


class ExpectedNgrams(nn.Module):
    """The mean CIDEr vector of a picture's captions.

    Args:
        ngrams: that it knows, words with spaces between them.
        width: C of the image tokens.
        pictures: that it was fitted on.
        longest: words of the longest n-gram; each length has a unit vector of its own.
        lengths: how many captions had so many words, by number of words from 0 on.

    Attributes:
        rarity: (G,) log of pictures over those with the n-gram, CIDEr's inverse document frequency.
        prior: (G,) mean vector of all captions.
    """

    def __init__(self, ngrams: Sequence[str], width: int, pictures: int, longest: int, lengths: Sequence[int]) -> None:
        super().__init__()
        self.ngrams, self.pictures, self.longest, self.lengths = list(ngrams), pictures, longest, list(lengths)
        self.index = {ngram: number for number, ngram in enumerate(ngrams)}
        for name, shape in {"mean": (width,), "deviation": (width,), "weight": (width, len(ngrams))}.items():
            self.register_buffer(name, torch.zeros(shape))
        for name in ("prior", "rarity"):
            self.register_buffer(name, torch.zeros(len(ngrams)))
        self.mean: Tensor
        self.deviation: Tensor
        self.weight: Tensor
        self.prior: Tensor
        self.rarity: Tensor
        self._rarity: list[float] = []

    @property
    def width(self) -> int:
        """C of the image tokens."""
        return len(self.mean)

    @property
    def unknown(self) -> float:
        """Rarity of an n-gram that it doesn't know: as if a single picture had it."""
        return math.log(max(2, self.pictures))

    def vector(self, caption: str) -> dict[int, float]:
        """What of a caption's unit vectors it knows, by number of the n-gram.

        Args:
            caption: tokens with spaces between them.
        """
        if not self._rarity:
            self._rarity = self.rarity.tolist()
        known: dict[int, float] = {}
        for length in range(1, self.longest + 1):
            values, square = {}, 0.0
            for ngram, count in _ngrams(caption, length).items():
                number = self.index.get(ngram)
                value = count * (self.unknown if number is None else self._rarity[number])
                square += value**2
                if number is not None:
                    values[number] = value
            known |= {number: value / (math.sqrt(square) or 1.0) for number, value in values.items()}
        return known

    def score(self, expected: Sequence[float], caption: str) -> float:
        """Expected CIDEr-D of a caption, times ten as always.

        CIDEr-D's penalty of other lengths than the reference's is that of the captions of all pictures; its clipping of
        counts is left out.

        Args:
            expected: (G,) of ``forward``.
            caption: tokens with spaces between them.
        """
        alike = sum(value * expected[number] for number, value in self.vector(caption).items())
        # A regression knows no bounds: where it is below 0, the penalty would be a reward.
        return 10 / self.longest * (alike * self.length_share(caption) if alike > 0 else alike)

    def length_share(self, caption: str) -> float:
        """What CIDEr-D's penalty leaves of a score: the mean over captions, a Gaussian of the difference in words."""
        words = len(caption.split())
        left = sum(n * math.exp(-((words - length) ** 2) / (2 * SIGMA**2)) for length, n in enumerate(self.lengths))
        return left / max(1, sum(self.lengths))

    def vectors(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Mean vectors (n, G) of the captions of n pictures, each some texts of tokens with spaces between them."""
        means = torch.zeros(len(captions), len(self.ngrams))
        for row, texts in enumerate(captions):
            for text in texts:
                vector = self.vector(text)
                means[row, list(vector)] += torch.tensor(list(vector.values())) / len(texts)
        return means

    def explained(self, pooled: Tensor, captions: Sequence[Sequence[str]]) -> float:
        """Of what the vectors vary by, how much is told by the pictures: R squared over all n-grams, at most 1."""
        left = total = 0.0
        for rows in _parts(len(captions)):
            true = self.vectors(captions[rows])
            left += float((self.expected(pooled[rows]) - true).square().sum())
            total += float((self.prior - true).square().sum())
        return 1 - left / total if total else 0.0

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Expected vectors (B, G) from image tokens (B, N, C)."""
        return self.expected(pooled(image_tokens))

    def expected(self, pooled: Tensor) -> Tensor:
        """Expected vectors (B, G) from what ``pooled`` makes of the tokens, (B, C)."""
        return self.prior + (pooled - self.mean) / self.deviation @ self.weight

    @classmethod
    def fit(
        cls,
        pooled: Tensor,
        captions: Sequence[Sequence[str]],
        least: int,
        ridge: float,
        longest: int = 2,
        most: int = 10_000,
    ) -> ExpectedNgrams:
        """Solves for the weights.

        Args:
            pooled: (n, C), ``pooled`` of every picture.
            captions: of each, as tokens with spaces between them.
            least: pictures that an n-gram must be in.
            ridge: strength of the regularisation, as a part of n.
            longest: words of the longest n-gram.
            most: n-grams, the most frequent.

        Raises:
            UsageError: if no word is in so many pictures.
        """
        counts: Counter[str] = Counter()
        for texts in captions:
            counts.update({ngram for text in texts for size in range(1, longest + 1) for ngram in _ngrams(text, size)})
        frequent = sorted(ngram for ngram, count in counts.items() if count >= least)  # the order of sets is by chance
        ngrams = sorted(sorted(frequent, key=lambda ngram: -counts[ngram])[:most])
        if not ngrams:
            raise UsageError(f"--least {least}: no word is in the captions of so many pictures; give fewer")
        lengths = Counter(len(text.split()) for texts in captions for text in texts)
        histogram = [lengths[words] for words in range(max(lengths) + 1)]
        model = cls(ngrams, pooled.shape[1], len(pooled), longest, histogram)
        model.mean, model.deviation = pooled.mean(0), pooled.std(0, correction=0) + 1e-3
        model.rarity = torch.log(len(pooled) / torch.tensor([float(counts[ngram]) for ngram in ngrams]))
        features = ((pooled - model.mean) / model.deviation).double()
        together, total = torch.zeros(len(model.mean), len(ngrams)).double(), torch.zeros(len(ngrams)).double()
        for rows in _parts(len(captions)):
            vectors = model.vectors(captions[rows]).double()
            together += features[rows].T @ vectors
            total += vectors.sum(0)
        # The features' mean is 0, so that F'(V - p) is F'V.
        gram = features.T @ features
        gram.diagonal().add_(ridge * len(pooled))
        model.prior = (total / len(pooled)).float()
        model.weight = torch.linalg.solve(gram, together).float()
        return model

    def save(self, file: Path) -> None:
        """Writes weights (float16, the rest float32) and n-grams as one safetensors file."""
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        tensors["weight"] = tensors["weight"].half()
        told = {"ngrams": self.ngrams, "pictures": self.pictures, "longest": self.longest, "lengths": self.lengths}
        write_whole(file, save(tensors, {name: json.dumps(value) for name, value in told.items()}))

    @classmethod
    def load(cls, file: Path) -> ExpectedNgrams:
        """Reads what ``save`` wrote.

        Raises:
            UsageError: if the file is missing or is none of ours.
        """
        again = "make it with `ladic fit-words`"
        try:
            with safe_open(file, "pt") as stored:
                told = {name: json.loads(value) for name, value in (stored.metadata() or {}).items()}
                tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
            model = cls(told["ngrams"], len(tensors["mean"]), told["pictures"], told["longest"], told["lengths"])
        except FileNotFoundError as error:
            raise UsageError(f"words '{file}': no such file; {again}") from error
        except (SafetensorError, KeyError, ValueError) as error:
            raise UsageError(f"words '{file}': not written by this version's `ladic fit-words`; {again}") from error
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


def _ngrams(text: str, size: int) -> Counter[str]:
    """So many words in a row, and how often they occur."""
    words = text.split()
    return Counter(" ".join(words[place : place + size]) for place in range(len(words) - size + 1))


def _parts(total: int) -> Iterator[slice]:
    return (slice(start, start + PICTURES) for start in range(0, total, PICTURES))
