"""Several captions of one image: the best, or good ones that differ (Carbonell & Goldstein 1998)."""

from __future__ import annotations

from ladic.rerank.utilities import BleuUtility, Utility


def best(captions: list[str], scores: list[float], count: int) -> list[str]:
    """The ``count`` different captions with the highest scores, best first; fewer where there are no more.

    Example:
        >>> best(["a dog", "a cat", "a dog"], [1.0, 2.0, 3.0], 2)
        ['a dog', 'a cat']
    """
    order = sorted(range(len(captions)), key=lambda index: -scores[index])
    return list(dict.fromkeys(captions[index] for index in order))[:count]


def diverse(
    captions: list[str], scores: list[float], count: int, weight: float = 0.5, utility: Utility | None = None
) -> list[str]:
    """Maximal marginal relevance: one after the other the caption with the highest weight * r - (1 - weight) * s.

    r falls evenly from 1, for the best of the different captions by score, to 0 for the last, so that selectors of any
    scale serve; s is the highest similarity to a caption taken before.

    Args:
        captions, scores: candidates of one image.
        count: captions wanted; there are fewer where fewer are different.
        weight: 1 is ``best``; 0 looks at difference alone after the first.
        utility: similarity of two captions; BLEU of single words and pairs if not given.

    Example:
        >>> diverse(["a dog runs", "a dog runs fast", "two cats sleep"], [3.0, 2.0, 1.0], 2)
        ['a dog runs', 'two cats sleep']
    """
    ranked = best(captions, scores, len(captions))
    similar = (utility or BleuUtility(max_order=2)).pairwise(ranked)
    relevance = [1 - index / max(1, len(ranked) - 1) for index in range(len(ranked))]
    taken: list[int] = []
    while len(taken) < min(count, len(ranked)):
        left = [index for index in range(len(ranked)) if index not in taken]
        taken.append(
            max(
                left,
                key=lambda i: weight * relevance[i] - (1 - weight) * max((similar[i][j] for j in taken), default=0.0),
            )
        )
    return [ranked[index] for index in taken]
