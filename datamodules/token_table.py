"""The token ids of all captions of a split, made once and kept in little memory."""

from __future__ import annotations

import torch

from ladic.types import CaptionerLike, TokenBatch

CHUNK = 8192


class TokenTable:
    """Token ids of captions, as the model's tokenizer gives them, by row.

    Padding is left out and put back when rows are asked for, so that half a million captions take some 30 MB; tensors
    are shared with worker processes instead of copied.

    Args:
        captions: the captions in order.
        captioner: whose tokenizer is used.

    Attributes:
        lengths: (R,) tokens of each caption after cutting.
        cut: how many captions are longer than the latent space.
        longest: tokens of the longest caption before cutting.
    """

    def __init__(self, captions: list[str], captioner: CaptionerLike) -> None:
        kept, lengths, self.cut, self.longest = [], [], 0, 0
        self.length, self.padding = 0, 0
        for start in range(0, len(captions), CHUNK):
            some = captions[start : start + CHUNK]
            batch = captioner.tokenize(some)
            ids, mask = batch.input_ids.int(), batch.attention_mask.bool()
            sizes = mask.sum(1)
            assert bool((mask == (torch.arange(mask.shape[1]) < sizes.unsqueeze(1))).all()), "padding comes last"
            self.length = mask.shape[1]
            if not bool(mask.all()):
                self.padding = int(ids[~mask][0])
            kept.append(ids[mask])
            lengths.append(sizes.int())
            full = (sizes == self.length).nonzero().flatten().tolist()
            before = captioner.token_lengths([some[row] for row in full]) if full else []
            self.cut += sum(size > self.length for size in before)
            self.longest = max(self.longest, int(sizes.max()), *before)
        self.ids, self.lengths = torch.cat(kept), torch.cat(lengths)
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), self.lengths.long().cumsum(0)])

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, rows: list[int]) -> TokenBatch:
        """What the tokenizer gives for these captions."""
        ids = torch.full((len(rows), self.length), self.padding)
        mask = torch.zeros(len(rows), self.length, dtype=torch.int64)
        for place, row in enumerate(rows):
            own = self.ids[self.starts[row] : self.starts[row + 1]]
            ids[place, : len(own)] = own
            mask[place, : len(own)] = 1
        return TokenBatch(ids, mask)
