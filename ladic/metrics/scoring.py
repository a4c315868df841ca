"""All scores of a set of captions at once: what the evaluation callback and ``ladic score`` call. Free of torch.

Captions are tokenised once, n-grams are counted once, and images are taken in the order of their ids, so that the
scores are the same to the last bit whatever the order or the number of processes the captions came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from ladic.errors import UsageError
from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.ngrams import NgramTable
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize
from ladic.metrics.functional.rouge import rouge_l

ImageId = int | str


@dataclass(frozen=True)
class Scores:
    """The scores of one set of captions.

    Attributes:
        corpus: name -> score of the whole set, None where the metric could not be had; "BLEU-1", "CIDEr-D", ...
        per_image: image id -> name -> score of that image, for the metrics that have one.
        unavailable: name -> why it is None.
        tokenizer: the tokenizer the captions went through.
    """

    corpus: dict[str, float | None]
    per_image: dict[ImageId, dict[str, float]]
    unavailable: dict[str, str] = field(default_factory=dict)
    tokenizer: str = "ptb"


def score_captions(
    captions: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    metrics: Sequence[str] = ("bleu", "cider"),
    *,
    partial: bool = False,
    document_frequencies: DocumentFrequencies | None = None,
) -> Scores:
    """Score one caption per image against its references.

    Args:
        captions: image id -> caption, as the model wrote it.
        references: image id -> references, as people wrote them.
        metrics: any of ``METRICS``.
        partial: score the images that have a caption and leave the other references aside.
        document_frequencies: for CIDEr-D, those of a stored corpus; of ``references`` if None.

    Raises:
        UsageError: for an unknown metric, no caption at all, a caption without references, or, unless ``partial``,
            references without a caption.

    Example:
        >>> scores = score_captions({1: "A dog runs."}, {1: ["A dog runs!", "Dogs."]}, metrics=["bleu", "rouge"])
        >>> round(scores.corpus["BLEU-2"], 4), scores.per_image[1]["ROUGE-L"]
        (1.0, 1.0)
    """
    for name in metrics:
        if name not in _SCORERS:
            raise UsageError(f"no metric called '{name}'; there are {', '.join(METRICS)}")
    check_ids(captions, references, partial=partial)
    ids = sorted(captions, key=id_order)
    texts = _Texts([captions[i] for i in ids], [list(references[i]) for i in ids], document_frequencies)
    corpus: dict[str, float | None] = {}
    per_image: dict[ImageId, dict[str, float]] = {i: {} for i in ids}
    unavailable: dict[str, str] = {}
    for metric in dict.fromkeys(metrics):
        for name, score in _SCORERS[metric](texts).items():
            corpus[name] = score.corpus
            if score.why_not:
                unavailable[name] = score.why_not
            for i, value in zip(ids, score.per_image, strict=bool(len(score.per_image))):
                per_image[i][name] = float(value)
    return Scores(corpus, per_image, unavailable)


def check_ids(captions: Mapping[Any, str], references: Mapping[Any, Sequence[str]], *, partial: bool = False) -> None:
    """Raise UsageError unless the captions and the references are of the same images.

    Example:
        >>> check_ids({1: "a dog", 2: "a cat"}, {1: ["a dog"]})
        Traceback (most recent call last):
        ladic.errors.UsageError: 1 of 2 captions are for an image id that the references don't have: 2
    """
    if not captions:
        raise UsageError("there is no caption to score")
    unknown = [i for i in captions if i not in references]
    if unknown:
        hint = ""
        if {type(i) for i in captions} != {type(i) for i in references} and len(unknown) == len(captions):
            hint = f"; the captions' ids look like {next(iter(captions))!r}, the references' like "
            hint += f"{next(iter(references))!r}" if references else "nothing: there are none"
        raise UsageError(
            f"{len(unknown)} of {len(captions)} captions are for an image id that the references don't have: "
            f"{_some(unknown)}{hint}"
        )
    bare = [i for i in captions if isinstance(references[i], str) or not len(references[i])]
    if bare:
        raise UsageError(f"{len(bare)} of {len(captions)} images have no list of references: {_some(bare)}")
    missing = [i for i in references if i not in captions]
    if missing and not partial:
        raise UsageError(
            f"{len(missing)} of {len(references)} images have references but no caption: {_some(missing)}; "
            "to score the others alone, say --partial (partial=True from Python)"
        )


def id_order(image_id: ImageId) -> tuple[bool, ImageId]:
    """A sort key for image ids of either kind: numbers first, by value.

    Example:
        >>> sorted(["b", 10, 9, "a"], key=id_order)
        [9, 10, 'a', 'b']
    """
    return isinstance(image_id, str), image_id


def _some(ids: list[ImageId]) -> str:
    return ", ".join(str(i) for i in ids[:5]) + (", ..." if len(ids) > 5 else "")


class Score(NamedTuple):
    """One number for the set and, where the metric has them, one per image."""

    corpus: float | None
    per_image: Sequence[float] = ()
    why_not: str = ""


@dataclass(frozen=True)
class _Texts:
    """The captions in each of the forms that metrics read, made when first needed."""

    raw: list[str]
    raw_references: list[list[str]]
    document_frequencies: DocumentFrequencies | None

    @cached_property
    def candidates(self) -> list[str]:
        return [ptb_tokenize(caption) for caption in self.raw]

    @cached_property
    def references(self) -> list[list[str]]:
        return [[ptb_tokenize(caption) for caption in captions] for captions in self.raw_references]

    @cached_property
    def ngrams(self) -> NgramTable:
        return NgramTable.build(self.candidates, self.references)


def _bleu(texts: _Texts) -> dict[str, Score]:
    result = bleu(texts.candidates, texts.references, ngrams=texts.ngrams)
    return {f"BLEU-{n + 1}": Score(float(result.corpus[n]), result.per_image[:, n].tolist()) for n in range(4)}


def _rouge(texts: _Texts) -> dict[str, Score]:
    result = rouge_l(texts.candidates, texts.references)
    return {"ROUGE-L": Score(result.corpus, result.per_image.tolist())}


def _cider(texts: _Texts) -> dict[str, Score]:
    result = cider_d(texts.candidates, texts.references, texts.document_frequencies, ngrams=texts.ngrams)
    return {"CIDEr-D": Score(result.corpus, result.per_image.tolist())}


_SCORERS: dict[str, Callable[[_Texts], dict[str, Score]]] = {"bleu": _bleu, "rouge": _rouge, "cider": _cider}
METRICS = tuple(_SCORERS)
