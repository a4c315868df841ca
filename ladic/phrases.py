"""Phrases of captions and a linear detector of them on image tokens.

A phrase is a run of one to three words. A picture has it if some token says so: weak supervision from captions alone,
after Fang et al. 2015 ("From Captions to Visual Concepts and Back", §3), with a log-sum-exp over the tokens instead of
their noisy-or.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ladic.errors import UsageError
from ladic.json_files import write_whole


class PhraseDetector(nn.Module):
    """Which phrases the captions of a picture have, from its tokens.

    Args:
        phrases: each with the share of pictures that have it.
        width: C of the image tokens.
        num_tokens: N of them; with the shares it sets where the detector starts, at every phrase's own frequency.
    """

    def __init__(self, phrases: dict[str, float], width: int, num_tokens: int = 1) -> None:
        super().__init__()
        self.phrases = dict(phrases)
        self.index = {phrase: number for number, phrase in enumerate(phrases)}
        self.longest = max((len(phrase.split()) for phrase in phrases), default=1)
        self.linear = nn.Linear(width, len(phrases))
        share = torch.tensor(list(phrases.values())).clamp(1e-3, 1 - 1e-3)
        with torch.no_grad():
            self.linear.weight.mul_(0.1)
            self.linear.bias.copy_(torch.logit(share) - torch.log(torch.tensor(float(num_tokens))))

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Logits of presence (B, N, P), token by token; ``torch.logsumexp`` over N gives the picture's."""
        return self.linear(image_tokens)

    def present(self, captions: list[str]) -> Tensor:
        """Indices of the phrases that occur in the captions, ascending."""
        found = phrases_of(captions, self.longest) & self.index.keys()
        return torch.tensor(sorted(self.index[phrase] for phrase in found), dtype=torch.long)

    def save(self, file: Path) -> None:
        """Writes weights (float16) and phrases as one safetensors file."""
        tensors = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        write_whole(file, save(tensors, {"phrases": json.dumps(self.phrases)}))

    @classmethod
    def load(cls, file: Path) -> PhraseDetector:
        """The detector of a file, frozen.

        Raises:
            UsageError: if the file is missing or is none of ours.
        """
        try:
            with safe_open(file, "pt") as stored:
                phrases = json.loads((stored.metadata() or {})["phrases"])
                tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise UsageError(f"phrases '{file}': no such file; make it with `ladic fit-phrases`") from error
        except (SafetensorError, KeyError) as error:
            raise UsageError(f"phrases '{file}': not written by `ladic fit-phrases`; make it with that") from error
        detector = cls(phrases, tensors["linear.weight"].shape[1])
        detector.load_state_dict(tensors)
        return detector.requires_grad_(False).eval()


def frequent_phrases(captions: Iterable[list[str]], longest: int, least: float) -> dict[str, float]:
    """Phrases that at least ``least`` of the pictures have, and not nearly all, each with its share.

    Args:
        captions: of each picture.
        longest: words in a phrase.
        least: share of the pictures.
    """
    counts: Counter[str] = Counter()
    pictures = 0
    for pictures, texts in enumerate(captions, 1):  # noqa: B007
        counts.update(phrases_of(texts, longest))
    shares = {phrase: count / max(1, pictures) for phrase, count in sorted(counts.items())}
    return {phrase: share for phrase, share in shares.items() if least <= share <= 0.995}


def phrases_of(captions: list[str], longest: int) -> set[str]:
    """Runs of one to ``longest`` words that occur in the captions.

    Example:
        >>> sorted(phrases_of(["a red dog"], 2))
        ['a', 'a red', 'dog', 'red', 'red dog']
    """
    found = set()
    for caption in captions:
        words = caption.replace(",", " ").split()
        found |= {
            " ".join(words[start : start + size])
            for size in range(1, longest + 1)
            for start in range(len(words) - size + 1)
        }
    return found
