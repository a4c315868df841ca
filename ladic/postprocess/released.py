"""Post-processing of the released LaDiC code (shared/reference/released_code.md, E5), its batch-wide bug included."""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.postprocess.base import PostProcessor


class ReleasedPostProcessor(PostProcessor):
    """Equal neighbours dropped among tokens and then among words; full stops stripped at both ends and one put back.

    The released code drops equal neighbours of the whole batch's matrix at once: a column goes only where every caption
    repeats itself there, so that captions depend on the batch they were in. Made to compare with its published numbers.

    Args:
        batch_wide: as released; False does it for each caption by itself.

    Example:
        >>> ReleasedPostProcessor().text("a dog dog runs . . .")
        'a dog runs.'
    """

    def __init__(self, batch_wide: bool = False) -> None:
        self.batch_wide = batch_wide

    def __call__(self, indices: Tensor, space: TextLatentSpace) -> list[str]:
        ids = space.head.vocabulary[indices]
        if self.batch_wide:
            rows = torch.unique_consecutive(ids, dim=-1).tolist()
        else:
            rows = [torch.unique_consecutive(row).tolist() for row in ids]
        # Special tokens are not skipped: its model is trained to say "." in their place.
        return [self.text(space.tokenizer.decode(row, clean_up_tokenization_spaces=True)) for row in rows]

    def text(self, caption: str) -> str:
        words = caption.split()
        kept = [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]
        return " ".join(kept).strip(".").strip() + "."
