"""Which of a head's words are words, which one ends a caption, and the latent of a caption given in words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.errors import UsageError


@dataclass(frozen=True)
class Words:
    """Of a latent space, looked up once: asking a GPU for it at every step would wait for it.

    Attributes:
        ids: (V,) token id of each.
        filler: (V,) bool, special tokens and the end: no words of a caption.
        fillers: how many they are.
        end: index of what stands at special positions.
        begin_id, stop_id: token ids that captions begin and end with, [CLS] and [SEP].
    """

    ids: Tensor
    filler: Tensor
    fillers: int
    end: int
    begin_id: int
    stop_id: int

    @classmethod
    def of(cls, space: TextLatentSpace) -> Words:
        tokenizer, ids = space.tokenizer, space.head.vocabulary
        fillers = torch.tensor([*tokenizer.all_special_ids, space.filler_id], device=ids.device)
        place = int(torch.searchsorted(ids, fillers[-1]))
        if place == len(ids) or int(ids[place]) != space.filler_id:
            raise UsageError(
                f"latent space: its head has no word '{tokenizer.convert_ids_to_tokens(space.filler_id)}', which ends "
                "its captions; fit it again with `ladic fit-space`"
            )
        filler = torch.isin(ids, fillers)
        return cls(ids, filler, int(filler.sum()), place, tokenizer.cls_token_id, tokenizer.sep_token_id)

    def ends(self, indices: Tensor) -> Tensor:
        """(B,) last position with a word, of indices into the logits (B, L); 0 where there is none."""
        word = ~self.filler[indices]
        word[:, 0] = False
        return (word * torch.arange(word.shape[1], device=word.device)).amax(1)

    def encode(self, space: TextLatentSpace, indices: Tensor, ends: Tensor | None = None) -> Tensor:
        """Latents (B, L, D) of captions as indices into the logits (B, L).

        Args:
            space: that they are of.
            indices: words; what stands at the place of [CLS] and behind the end is of no matter.
            ends: (B,) last position of each caption; that of its last word if None. The last position is for [SEP].
        """
        length = indices.shape[1]
        stop = (self.ends(indices) if ends is None else ends).clamp_max(length - 2).unsqueeze(1) + 1
        place = torch.arange(length, device=indices.device).unsqueeze(0)
        ids = torch.where(place > stop, self.ids[self.end], self.ids[indices])  # padding, as captions have it there
        ids = ids.masked_fill(place == 0, self.begin_id).masked_fill(place == stop, self.stop_id)
        return space.encode(ids, (place <= stop).long())
