"""distinct-n (Li et al. 2016, "A diversity-promoting objective function", section 5): how varied a set of texts is."""

from __future__ import annotations

from collections.abc import Sequence


def distinct_n(captions: Sequence[str], n: int) -> float:
    """Number of different n-grams in all captions over the number of words, in [0, 1]; 0.0 when there is no word.

    As in the paper the denominator is the number of words for every n. The score falls as the set grows: compare sets
    of one size.

    Args:
        captions: tokenised captions.
        n: 1 or more.

    Example:
        >>> distinct_n(["a dog runs", "a dog sits"], 1), round(distinct_n(["a dog runs", "a dog sits"], 2), 4)
        (0.6666666666666666, 0.5)
    """
    if n < 1:
        raise ValueError(f"n={n}: n-grams have at least one word")
    seen: set[tuple[str, ...]] = set()
    words = 0
    for caption in captions:
        tokens = caption.split()
        words += len(tokens)
        seen.update(zip(*(tokens[i:] for i in range(n)), strict=False))
    return len(seen) / words if words else 0.0
