"""Rounding with a language model: words that suit the latent and each other.

A denoiser decides on every position by itself, so an early estimate reads "a man man is a on". Here a caption w of n
words is chosen by

    sum_i log p(w_i | x0) + weight (sum_i log p_trigram(w_i | w_{i-2} w_{i-1}) + log p_trigram(end | ...)) + bonus n

where p(w_i | x0) is the head's, padding behind the end included: a hidden Markov model's path, searched by a beam. The
same sum is what phrase-based and CTC decoders maximise (Och & Ney 2002; Graves & Jaitly 2014), with the denoiser for
the acoustic or translation model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.latent_spaces.words import Words
from ladic.errors import UsageError
from ladic.rounding.base import Rounding
from ladic.rounding.trigrams import TrigramModel
from ladic.spec import absolute


class NgramRounding(Rounding):
    """The caption that suits best the estimate and a trigram model of the training captions.

    Args:
        ngrams: file of ``ladic fit-ngrams``.
        weight: of the trigram model's log-probabilities, 0 or more.
        bonus: for every word, against the short captions that a product of probabilities prefers; it goes with weight,
            about four times that.
        choices: likeliest words of a position that are looked at.
        beam_size: beginnings that are gone on with.
        no_repeat: words in a row, so many, that no caption has twice; 0 for any.
        readings: captions that a sample gives, the best of the beam in order: candidates for a selector that cost
            the sampler next to nothing, but more alike than samples are.
        clamp: put the latent of the rounded caption in the place of every estimate, so that the sampler goes on from
            words that suit each other; without, only the last estimate is rounded so.

    Raises:
        UsageError: if there is no such file, or for numbers out of range.
    """

    def __init__(
        self,
        ngrams: str,
        weight: float = 1.5,
        bonus: float = 6.0,
        choices: int = 16,
        beam_size: int = 12,
        no_repeat: int = 2,
        readings: int = 1,
        clamp: bool = True,
    ) -> None:
        if weight < 0:
            raise UsageError(f"NgramRounding.weight={weight}: need 0 or more")
        for name, value in (("choices", choices), ("beam_size", beam_size)):
            if value < 1:
                raise UsageError(f"NgramRounding.{name}={value}: need at least 1")
        if not 1 <= readings <= beam_size:
            raise UsageError(f"NgramRounding.readings={readings}: accepted are 1 to {beam_size}, the beam_size")
        if no_repeat < 0:
            raise UsageError(f"NgramRounding.no_repeat={no_repeat}: need 0 or more")
        self.model = TrigramModel.load(ngrams)
        self.weight, self.bonus, self.choices, self.beam_size = weight, bonus, choices, beam_size
        self.no_repeat, self.readings, self.clamp = no_repeat, readings, clamp

    def check(self, space: TextLatentSpace) -> None:
        if not space.reassign:
            raise UsageError("NgramRounding: needs one latent for all special positions; give the space reassign=true")

    def __call__(self, logits: Tensor, words: Words) -> Tensor:
        return self.several(logits, words)[:, 0]

    def several(self, logits: Tensor, words: Words) -> Tensor:
        # Of the likeliest the fillers go, so that no copy of all logits is made.
        most = min(self.choices + words.fillers, logits.shape[-1])
        likely, index = logits.float().topk(most, dim=-1)
        likely, kept = likely.masked_fill(words.filler[index], -torch.inf).topk(min(self.choices, most), dim=-1)
        index = index.gather(-1, kept)
        likely = torch.cat([likely, logits[..., words.end : words.end + 1]], dim=-1)
        likely = likely - logits.float().logsumexp(-1, keepdim=True)
        index = torch.cat([index, torch.full_like(index[..., :1], words.end)], dim=-1)
        return self._search(likely, index, words)

    def checkpoint_args(self) -> dict[str, object]:
        arguments = super().checkpoint_args()
        return arguments | {"ngrams": absolute(str(arguments["ngrams"]))}

    def _search(self, likely: Tensor, index: Tensor, words: Words) -> Tensor:
        """Indices (B, readings, L) of the best captions.

        Args:
            likely: (B, L, K) log-probabilities of the words looked at, the end's last.
            index: (B, L, K) which they are.
            words: of the space.
        """
        ids, stop = words.ids, words.stop_id
        self.model = self.model.to(ids.device)
        _, length, choices = likely.shape
        total = likely[:, 0, -1:]  # (B, beams); nothing stands at the place of [CLS]
        ended = torch.zeros_like(total, dtype=torch.bool)
        first = torch.full_like(index[:, 0, :1], words.begin_id)
        second = first
        path = index[:, :1, -1:]  # (B, beams, positions)
        last = torch.arange(choices, device=ids.device) == choices - 1
        for place in range(1, length):
            here = index[:, place].unsqueeze(1)  # (B, 1, K)
            token = torch.where(last, stop, ids[here])
            suits = self.weight * self.model.log_prob(first.unsqueeze(-1), second.unsqueeze(-1), token)
            suits = suits + self.bonus * ~last
            if self.no_repeat:
                _forbid_repeats(suits, path[..., 1:], ended, here, self.no_repeat)
            # Behind the end there is padding alone, of which the model of words knows nothing.
            suits = torch.where(ended.unsqueeze(-1), torch.where(last, 0.0, -torch.inf), suits)
            sums = (total.unsqueeze(-1) + likely[:, place].unsqueeze(1) + suits).flatten(1)
            total, best = sums.topk(min(self.beam_size, sums.shape[1]), dim=1)
            parent, choice = best // choices, best % choices
            word = index[:, place].gather(1, choice)
            path = torch.cat([path.gather(1, parent.unsqueeze(-1).expand(-1, -1, place)), word.unsqueeze(-1)], dim=-1)
            first, second = second.gather(1, parent), ids[word]
            ended = ended.gather(1, parent) | (choice == choices - 1)
        # One that fills all positions has no end yet.
        whole = total + torch.where(
            ended, 0.0, self.weight * self.model.log_prob(first, second, torch.full_like(second, stop))
        )
        whole, order = whole.sort(dim=1, descending=True, stable=True)
        rank = torch.arange(self.readings, device=ids.device)
        there = rank.clamp_max(whole.shape[1] - 1)
        # Where there are fewer captions than that, the best one again.
        order = torch.where((rank == there) & (whole > -torch.inf)[:, there], order[:, there], order[:, :1])
        return path.gather(1, order.unsqueeze(-1).expand(-1, -1, length))


def _forbid_repeats(suits: Tensor, path: Tensor, ended: Tensor, choices: Tensor, size: int) -> None:
    """Puts -inf where a choice would end ``size`` words in a row that the path has already.

    Args:
        suits: (B, beams, K), changed in place.
        path: (B, beams, P).
        ended: (B, beams), paths that no word is put to.
        choices: (B, 1, K), the end's last, which may always stand.
        size: of what no caption has twice.
    """
    if path.shape[-1] < size:
        return
    windows = path.unfold(-1, size, 1)  # (B, beams, W, size)
    tail = path[..., path.shape[-1] - size + 1 :].unsqueeze(2)
    begun = (windows[..., :-1] == tail).all(-1)
    if suits.is_cuda:  # every window is asked: to count those that matter a GPU would be waited for
        ends = begun.unsqueeze(-1) & (windows[..., -1:] == choices[..., :-1].unsqueeze(2))
        suits[..., :-1].masked_fill_(ends.any(2), -torch.inf)
    else:
        row, beam, window = (begun & ~ended.unsqueeze(-1)).nonzero(as_tuple=True)  # few
        hit, word = (windows[row, beam, window, -1:] == choices[row, 0, :-1]).nonzero(as_tuple=True)
        suits[row[hit], beam[hit], word] = -torch.inf
