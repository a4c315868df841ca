"""A blinded human evaluation as in LaDiC's appendix B.2: what raters are shown, and what their ratings say.

Raters give each caption 1 to 5 for fluency, accuracy and conciseness. They see captions under random tokens; which
system a token belongs to stands in the key, which stays with whoever runs the study.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladic.errors import UsageError
from ladic.metrics.functional.agreement import krippendorff_alpha, pair_correlations
from ladic.metrics.functional.ngrams import FloatArray

ASPECTS = {
    "fluency": "Is it good English, easy to read?",
    "accuracy": "Are the main objects and actions those of the picture?",
    "conciseness": "Does it say what matters, and nothing needless?",
}
LOWEST, HIGHEST = 1, 5
_DRAWS = 2000


@dataclass(frozen=True)
class Item:
    """A caption to be rated.

    Attributes:
        token: what it is called on the page and in the ratings.
        image_id: of its picture.
        caption: the text.
        systems: those that wrote it; identical captions of one picture are shown once.
    """

    token: str
    image_id: str
    caption: str
    systems: tuple[str, ...]


def draw_items(systems: Mapping[str, Mapping[Any, str]], count: int, seed: int) -> list[Item]:
    """Items for ``count`` pictures that all systems captioned, drawn at random.

    Raises:
        UsageError: if they have fewer pictures in common.
    """
    first, *others = systems.values()
    common = [i for i in first if all(i in other for other in others)]
    if len(common) < count:
        raise UsageError(f"--count {count}: the systems have {len(common)} pictures in common")
    chosen = random.Random(seed).sample(sorted(common, key=str), count)
    items = []
    for image_id in chosen:
        by_caption: dict[str, list[str]] = {}
        for name, captions in systems.items():
            by_caption.setdefault(captions[image_id].strip(), []).append(name)
        for caption, names in by_caption.items():
            items.append(Item(_token(seed, image_id, caption), str(image_id), caption, tuple(names)))
    return items


def make_key(items: Sequence[Item], seed: int) -> dict[str, Any]:
    """What turns tokens back into systems."""
    rows = {item.token: {"image_id": item.image_id, "systems": list(item.systems)} for item in items}
    return {"study": study_id(items), "seed": seed, "items": rows}


def check_key(key: Any, file: str) -> dict[str, Any]:
    """A key as ``make_key`` made it.

    Raises:
        UsageError: if it is something else.
    """
    items = key.get("items") if isinstance(key, dict) else None
    if not isinstance(items, dict) or not items or "study" not in key:
        raise UsageError(f"--key {file}: not a key that `ladic human export` wrote")
    for token, item in items.items():
        image_id, systems = (item.get("image_id"), item.get("systems")) if isinstance(item, dict) else (None, None)
        named = isinstance(systems, list) and systems and all(isinstance(name, str) for name in systems)
        if not isinstance(image_id, str) or not named:
            raise UsageError(
                f"--key {file}: its item '{token}' has no image_id or no systems; give the file that "
                "`ladic human export` wrote"
            )
    return dict(key)


def study_id(items: Sequence[Item]) -> str:
    """Short hash by which ratings and key find each other."""
    return hashlib.blake2b("".join(sorted(item.token for item in items)).encode(), digest_size=6).hexdigest()


def check_ratings(ratings: Any, key: Mapping[str, Any], file: str) -> dict[str, dict[str, float]]:
    """Token -> aspect -> rating of one rater.

    Raises:
        UsageError: if the file is of another study, or rates what isn't there or beyond the scale.
    """
    if not isinstance(ratings, dict) or not isinstance(ratings.get("ratings"), dict):
        raise UsageError(f"{file}: not a file of ratings; the study's page saves them")
    if ratings.get("study") != key["study"]:
        raise UsageError(f"{file}: belongs to study {ratings.get('study')!r}, the key to {key['study']!r}")
    for token, given in ratings["ratings"].items():
        if token not in key["items"]:
            raise UsageError(f"{file}: rates '{token}', which the key doesn't have")
        if not isinstance(given, dict):
            raise UsageError(f"{file}: {given!r} for '{token}'; accepted are {', '.join(ASPECTS)} from 1 to 5")
        for aspect, value in given.items():
            good = isinstance(value, int) and not isinstance(value, bool) and LOWEST <= value <= HIGHEST
            if aspect not in ASPECTS or not good:
                raise UsageError(
                    f"{file}: {aspect}={value!r} for '{token}'; accepted are {', '.join(ASPECTS)} from 1 to 5"
                )
    return ratings["ratings"]


@dataclass(frozen=True)
class Opinion:
    """Mean opinion score of a system in one aspect, with the middle 95 % of the bootstrap's draws."""

    mean: float
    low: float
    high: float
    ratings: int


@dataclass(frozen=True)
class Analysis:
    """What a study found.

    Attributes:
        opinions: aspect -> system -> score; table 2 of the paper.
        alpha: aspect -> Krippendorff's alpha (interval) over all raters.
        correlations: aspect -> mean Pearson correlation over pairs of raters, and the number of pairs.
        raters, pictures: how many there were.
    """

    opinions: dict[str, dict[str, Opinion]]
    alpha: dict[str, float]
    correlations: dict[str, tuple[float, int]]
    raters: int
    pictures: int


def analyse(raters: Sequence[Mapping[str, Mapping[str, float]]], key: Mapping[str, Any], seed: int = 0) -> Analysis:
    """Scores and agreement of the ratings of several raters.

    Intervals come from a bootstrap that draws raters and pictures with replacement, both, because neither the raters
    nor the pictures are all there are.
    """
    tokens = list(key["items"])
    pictures = list(dict.fromkeys(key["items"][token]["image_id"] for token in tokens))
    systems = list(dict.fromkeys(name for token in tokens for name in key["items"][token]["systems"]))
    opinions: dict[str, dict[str, Opinion]] = {}
    alpha, correlations = {}, {}
    for aspect in ASPECTS:
        table = np.array(
            [[rater.get(token, {}).get(aspect, np.nan) for token in tokens] for rater in raters], np.float64
        )
        alpha[aspect] = krippendorff_alpha(table)
        pairs = pair_correlations(table)
        correlations[aspect] = (float(np.mean(pairs)) if pairs else float("nan"), len(pairs))
        opinions[aspect] = {}
        for system in systems:
            grid = np.full((len(raters), len(pictures)), np.nan)
            for column, token in enumerate(tokens):
                if system in key["items"][token]["systems"]:
                    grid[:, pictures.index(key["items"][token]["image_id"])] = table[:, column]
            opinions[aspect][system] = _opinion(grid, seed)
    return Analysis(opinions, alpha, correlations, len(raters), len(pictures))


def _opinion(grid: FloatArray, seed: int) -> Opinion:
    """Mean of (raters, pictures) with its interval."""
    rated = ~np.isnan(grid)
    if not rated.any():
        return Opinion(float("nan"), float("nan"), float("nan"), 0)
    generator = np.random.default_rng(seed)
    rows, columns = grid.shape
    values = np.nan_to_num(grid)
    by_rater = generator.multinomial(rows, np.full(rows, 1 / rows), size=_DRAWS)
    by_picture = generator.multinomial(columns, np.full(columns, 1 / columns), size=_DRAWS)
    total = ((by_rater @ values) * by_picture).sum(1)
    weight = ((by_rater @ rated.astype(float)) * by_picture).sum(1)
    drawn = total[weight > 0] / weight[weight > 0]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Opinion(float(grid[rated].mean()), float(low), float(high), int(rated.sum()))


def _token(seed: int, image_id: object, caption: str) -> str:
    """A name that says nothing of the system."""
    return hashlib.blake2b(f"{seed}/{image_id}/{caption}".encode(), digest_size=6).hexdigest()
