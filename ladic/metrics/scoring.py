"""All scores of a set of captions at once: what the evaluation callback and ``ladic score`` call. Free of torch.

Captions are tokenised once, n-grams are counted once, and images are taken in the order of their ids, so that the
scores are the same to the last bit whatever the order or the number of processes the captions came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ladic.errors import UsageError
from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.distinct import distinct_n
from ladic.metrics.functional.jars import Unavailable
from ladic.metrics.functional.java_tokenizer import java_tokenize_all
from ladic.metrics.functional.length import length_ratio
from ladic.metrics.functional.mean import mean
from ladic.metrics.functional.meteor import meteor
from ladic.metrics.functional.ngrams import NgramTable
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.metrics.functional.repetition import repetition, stutter
from ladic.metrics.functional.rouge import rouge_l
from ladic.metrics.functional.spice import spice

ImageId = int | str


@dataclass(frozen=True)
class Scores:
    """The scores of one set of captions.

    Attributes:
        corpus: name -> score of the whole set, None where the metric could not be had; "BLEU-1", "CIDEr-D", ...
        per_image: image id -> name -> score of that image, for the metrics that have one.
        unavailable: name -> why it is None.
        tokenizer: the tokenizer the captions went through.
        candidates: the tokenised captions, in the order of ``per_image``.
        references: for each image its tokenised references.
    """

    corpus: dict[str, float | None]
    per_image: dict[ImageId, dict[str, float]]
    unavailable: dict[str, str] = field(default_factory=dict)
    tokenizer: str = "ptb"
    candidates: list[str] = field(default_factory=list, repr=False)
    references: list[list[str]] = field(default_factory=list, repr=False)


class Score(NamedTuple):
    """One number for the set and, where the metric has them, one per image."""

    corpus: float | None
    per_image: Sequence[float] = ()
    why_not: str = ""


def score_captions(
    captions: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    metrics: Sequence[str] = ("bleu", "cider"),
    *,
    partial: bool = False,
    document_frequencies: DocumentFrequencies | None = None,
    tokenizer: str = "ptb",
    java_package: str | Path | None = None,
    bert_model: str | Path = "roberta-large",
    bert_layers: int | None = None,
) -> Scores:
    """Score one caption per image against its references.

    Args:
        captions: image id -> caption, as the model wrote it.
        references: image id -> references, as people wrote them.
        metrics: any of ``METRICS``.
        partial: score the images that have a caption and leave the other references aside.
        document_frequencies: for CIDEr-D, those of a stored corpus; of ``references`` if None.
        tokenizer: "ptb", or "java" to check it against COCO's own, which needs Java and pycocoevalcap.
        java_package: for METEOR, SPICE and the Java tokenizer, the folder of pycocoevalcap; the importable one if None.
        bert_model: for BERTScore, a name on the Hugging Face hub or a local folder.
        bert_layers: for BERTScore, the layer compared; 17 for roberta-large if None.

    A metric that can't be had on this machine scores None, with the reason in ``Scores.unavailable``.

    Raises:
        Unavailable: when the Java tokenizer is asked for and can't be had.
        UsageError: for an unknown metric or tokenizer, no caption at all, a caption without references, or, unless
            ``partial``, references without a caption.

    Example:
        >>> scores = score_captions({1: "A dog runs."}, {1: ["A dog runs!", "Dogs."]}, metrics=["bleu", "rouge"])
        >>> round(scores.corpus["BLEU-2"], 4), scores.per_image[1].get("ROUGE-L")
        (1.0, 1.0)
    """
    for name in metrics:
        if name not in _SCORERS:
            raise UsageError(f"no metric called '{name}'; there are {', '.join(METRICS)}")
    if tokenizer not in TOKENIZERS:
        raise UsageError(f"no tokenizer called '{tokenizer}'; there are {', '.join(TOKENIZERS)}")
    check_ids(captions, references, partial=partial)
    ids = sorted(captions, key=id_order)
    texts = _Texts(
        raw=[captions[i] for i in ids],
        raw_references=[list(references[i]) for i in ids],
        document_frequencies=document_frequencies,
        tokenizer=tokenizer,
        java_package=java_package,
        bert_model=bert_model,
        bert_layers=bert_layers,
    )
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
    return Scores(corpus, per_image, unavailable, tokenizer, texts.candidates, texts.references)


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


@dataclass(frozen=True)
class _Texts:
    """The captions in each of the forms that metrics read, made when first needed."""

    raw: list[str]
    raw_references: list[list[str]]
    document_frequencies: DocumentFrequencies | None
    tokenizer: str
    java_package: str | Path | None
    bert_model: str | Path
    bert_layers: int | None

    @cached_property
    def candidates(self) -> list[str]:
        return self._tokenize(self.raw)

    @cached_property
    def references(self) -> list[list[str]]:
        flat = iter(self._tokenize([text for texts in self.raw_references for text in texts]))
        return [[next(flat) for _ in texts] for texts in self.raw_references]

    @cached_property
    def ngrams(self) -> NgramTable:
        return NgramTable.build(self.candidates, self.references)

    def _tokenize(self, captions: list[str]) -> list[str]:
        if self.tokenizer == "java":
            return java_tokenize_all(captions, package=self.java_package)
        return ptb_tokenize_all(captions)


def _bleu(texts: _Texts) -> dict[str, Score]:
    result = bleu(texts.candidates, texts.references, ngrams=texts.ngrams)
    return {f"BLEU-{n + 1}": Score(float(result.corpus[n]), result.per_image[:, n].tolist()) for n in range(4)}


def _rouge(texts: _Texts) -> dict[str, Score]:
    result = rouge_l(texts.candidates, texts.references)
    return {"ROUGE-L": Score(result.corpus, result.per_image.tolist())}


def _cider(texts: _Texts) -> dict[str, Score]:
    result = cider_d(texts.candidates, texts.references, texts.document_frequencies, ngrams=texts.ngrams)
    return {"CIDEr-D": Score(result.corpus, result.per_image.tolist())}


def _meteor(texts: _Texts) -> dict[str, Score]:
    try:
        result = meteor(texts.candidates, texts.references, package=texts.java_package)
    except Unavailable as error:
        return {"METEOR": Score(None, why_not=str(error))}
    return {"METEOR": Score(result.corpus, result.per_image.tolist())}


def _spice(texts: _Texts) -> dict[str, Score]:
    try:
        result = spice(texts.candidates, texts.references, package=texts.java_package)
    except Unavailable as error:
        return {"SPICE": Score(None, why_not=str(error))}
    return {"SPICE": Score(result.corpus, result.per_image.tolist())}


def _bert_score(texts: _Texts) -> dict[str, Score]:
    from ladic.metrics.bert_embedder import BertEmbedder  # torch and transformers, only when asked for

    names = ["BERTScore-P", "BERTScore-R", "BERTScore-F"]
    try:
        scores = BertEmbedder(texts.bert_model, texts.bert_layers).score(texts.raw, texts.raw_references)
    except Unavailable as error:
        return {name: Score(None, why_not=str(error)) for name in names}
    return {name: Score(mean(scores[:, i]), scores[:, i].tolist()) for i, name in enumerate(names)}


def _length(texts: _Texts) -> dict[str, Score]:
    result = length_ratio(texts.candidates, texts.references, ngrams=texts.ngrams)
    return {
        "Length ratio": Score(result.ratio, result.per_image.tolist()),
        "Brevity penalty": Score(result.brevity_penalty),
        "Mean length": Score(result.mean_length),
    }


def _distinct(texts: _Texts) -> dict[str, Score]:
    return {f"distinct-{n}": Score(distinct_n(texts.candidates, n)) for n in (1, 2, 3)}


def _repetition(texts: _Texts) -> dict[str, Score]:
    kinds = {
        "Repetition-2": repetition(texts.candidates, 2),
        "Repetition-4": repetition(texts.candidates, 4),
        "Stutter": stutter(texts.candidates),
    }
    return {name: Score(mean(values), values.tolist()) for name, values in kinds.items()}


_SCORERS: dict[str, Callable[[_Texts], dict[str, Score]]] = {
    "bleu": _bleu,
    "meteor": _meteor,
    "rouge": _rouge,
    "cider": _cider,
    "spice": _spice,
    "bertscore": _bert_score,
    "length": _length,
    "distinct": _distinct,
    "repetition": _repetition,
}
METRICS = tuple(_SCORERS)
TOKENIZERS = ("ptb", "java")
