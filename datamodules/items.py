"""What a loader loads: items of a split, and batches of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ladic.datamodules.images import BrokenImageError
from ladic.datamodules.order import Draw
from ladic.datamodules.source import CaptionSource
from ladic.datamodules.token_table import TokenTable
from ladic.datamodules.transforms import Augment, augmented, tells_sides, to_tensor
from ladic.features import FeatureCache
from ladic.seeds import mixed_seed
from ladic.types import CaptionBatch, CaptionerLike


class EvaluationItems(Dataset[dict[str, Any]]):
    """Pictures (or their cached tokens), each with all references to be scored with.

    Args:
        source: the split.
        captioner: says how pictures are prepared.
        cache: where image tokens come from instead.
    """

    def __init__(self, source: CaptionSource, captioner: CaptionerLike, cache: FeatureCache | None = None) -> None:
        self.source, self.preprocess, self.cache = source, captioner.preprocess, cache

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_id, captions = self.source.image_id(index), self.source.captions(index)
        texts = {"caption": captions[0], "references": self.source.references(index)} if captions else {}
        if self.cache is not None:
            return {"image_tokens": self.cache.tokens(image_id), "image_id": image_id, **texts}
        return {"image": to_tensor(self.source.image(index), self.preprocess), "image_id": image_id, **texts}


class TrainingItems(Dataset[dict[str, Any]]):
    """Pictures (or their cached tokens), each with one caption.

    Args:
        source: the split.
        captioner: says how pictures are prepared and captions tokenised.
        by_caption: whether every caption is an item, or every picture with a caption drawn for it.
        cache: where image tokens come from instead.
        augment: what is done to pictures at random; in a cache, which of its views are drawn.
    """

    def __init__(
        self,
        source: CaptionSource,
        captioner: CaptionerLike,
        by_caption: bool,
        cache: FeatureCache | None = None,
        augment: Augment = "none",
    ) -> None:
        self.source, self.preprocess, self.cache, self.augment = source, captioner.preprocess, cache, augment
        self.tokens: TokenTable | None = None
        self.starts: Tensor | None = None  # of each picture, the number of its first caption
        self.picture: Tensor | None = None  # of each caption, the picture; where captions are the items
        if by_caption or source.stored:
            captions = [source.captions(index) for index in range(len(source))]
            counts = torch.tensor([len(own) for own in captions])
            self.starts = counts.cumsum(0) - counts
            if by_caption:
                self.picture = torch.repeat_interleave(torch.arange(len(source)), counts)
            if source.stored:
                self.tokens = TokenTable([caption for own in captions for caption in own], captioner)

    def __len__(self) -> int:
        return len(self.source) if self.picture is None else len(self.picture)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        """An item; the draw's number says which caption and which crop of the picture it gets."""
        draw = item if isinstance(item, Draw) else Draw(item, 0)
        index = draw.item if self.picture is None else int(self.picture[draw.item])
        loaded = {**self._picture(index, draw.number), "image_id": self.source.image_id(index)}
        if self.picture is not None and self.tokens is not None:
            return {**loaded, "row": draw.item}
        captions, first = self.source.captions(index), 0 if self.starts is None else int(self.starts[index])
        which = draw.number % len(captions) if self.picture is None else draw.item - first
        return {**loaded, "caption": captions[which]} if self.tokens is None else {**loaded, "row": first + which}

    def _picture(self, index: int, number: int) -> dict[str, Any]:
        if self.cache is not None:
            view = 0 if self.augment == "none" else 1 + mixed_seed(number, 1) % (self.cache.views - 1)
            return {"image_tokens": self.cache.tokens(self.source.image_id(index), view)}
        try:
            image = self.source.image(index)
        except BrokenImageError as error:
            raise BrokenImageError(f"{error}; --data.skip_broken=SHARE leaves broken training pictures out") from error
        if self.augment == "none":
            return {"image": to_tensor(image, self.preprocess)}
        flip = not tells_sides(self.source.captions(index))
        return {"image": augmented(image, self.preprocess, self.augment, mixed_seed(number, 2), flip)}


class Collate:
    """Items to a ``CaptionBatch``: token ids in training, references in evaluation (which must not see the target)."""

    def __init__(self, captioner: CaptionerLike, tokens: TokenTable | None = None) -> None:
        self.captioner, self.tokens = captioner, tokens

    def __call__(self, items: list[dict[str, Any]]) -> CaptionBatch:
        batch: CaptionBatch = {"image_id": [item["image_id"] for item in items]}
        if "image" in items[0]:
            batch["image"] = torch.stack([item["image"] for item in items])
        else:
            batch["image_tokens"] = torch.stack([item["image_tokens"] for item in items])
        if "references" in items[0]:
            batch["references"] = [item["references"] for item in items]
            batch["caption"] = [item["caption"] for item in items]
        elif "row" in items[0] or "caption" in items[0]:
            tokens = (
                self.captioner.tokenize([item["caption"] for item in items])
                if self.tokens is None
                else self.tokens.rows([item["row"] for item in items])
            )
            batch["input_ids"], batch["attention_mask"] = tokens.input_ids, tokens.attention_mask
        return batch
