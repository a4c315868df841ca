"""Order of training samples and random numbers of a step: functions of seed, epoch and step, on any number of ranks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ladic.datamodules.order import Draw, TrainingOrder
from ladic.draws import BatchDraws
from ladic.seeds import mixed_seed


def items(order):
    return [draw.item for draw in order]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 5), st.integers(0, 3))
def test_ranks_see_together_what_one_process_sees(num_items, batch_size, world, seed, epoch):
    alone = TrainingOrder(num_items, batch_size * world, seed)
    ranks = [TrainingOrder(num_items, batch_size, seed, rank, world) for rank in range(world)]
    for order in (alone, *ranks):
        order.set_epoch(epoch)
    streams, whole = [items(order) for order in ranks], items(alone)
    assert len({len(stream) for stream in streams}) == 1
    assert [len(stream) for stream in streams] == [len(order) for order in ranks]
    for start in range(0, len(streams[0]), batch_size):
        batch = [item for stream in streams for item in stream[start : start + batch_size]]
        if num_items >= batch_size * world:
            assert sorted(batch) == sorted(whole[start * world : (start + batch_size) * world])
    if num_items >= batch_size * world:
        assert len(set(whole)) == len(whole) == num_items // (batch_size * world) * batch_size * world
    else:
        assert set(range(num_items)) == {item for stream in streams for item in stream}


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 9), st.integers(0, 3))
def test_going_on_leaves_out_what_was_seen(num_items, batch_size, batches, epoch):
    order = TrainingOrder(num_items, batch_size, seed=3)
    order.set_epoch(epoch)
    whole = list(order)
    order.start_at(epoch, batches)
    order.set_epoch(epoch)  # as Lightning does before it asks
    assert list(order) == whole[batches * batch_size :]
    order.set_epoch(epoch)
    assert list(order) == whole  # the next time from the start


def test_epochs_and_seeds_differ_and_another_epoch_starts_at_its_beginning():
    order = TrainingOrder(50, 5, seed=0)
    first, second = list(order), list(order)
    assert first != second
    assert sorted(items(first)) == sorted(items(second)) == list(range(50))
    assert list(TrainingOrder(50, 5, seed=1)) != first
    order.start_at(epoch=0, batches=3)
    order.set_epoch(1)
    assert list(order) == second


def test_an_arrangement_is_the_same_on_every_rank_and_keeps_the_captions_drawn():
    def by_size(order, global_batch, generator):
        return order.view(-1, 2 * global_batch).sort(dim=1).values.flatten()

    ranks = [TrainingOrder(16, 2, 0, rank, 2, arrange=by_size) for rank in range(2)]
    streams = [list(order) for order in ranks]
    assert sorted(draw.item for stream in streams for draw in stream) == list(range(16))
    for window in range(2):
        together = sorted(draw.item for stream in streams for draw in stream[window * 4 : window * 4 + 4])
        assert [draw.item for pair in zip(*streams, strict=True) for draw in pair][window * 8 :][:8] == together
    plain = {draw.item: draw.number for draw in TrainingOrder(16, 2, 0)}
    assert {draw.item: draw.number for stream in streams for draw in stream} == plain


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_rows_of_ranks_are_those_of_one_process(repeats):
    def draws(rank, world, rows):
        return BatchDraws(rows, "cpu", torch.Generator().manual_seed(5), rank, world)

    alone, ranks = draws(0, 1, 6), [draws(rank, 3, 2) for rank in range(3)]
    for draw in ("uniform", "normal"):
        whole = getattr(alone, draw)(repeats, 4)
        for rank, mine in enumerate(ranks):
            assert torch.equal(getattr(mine, draw)(repeats, 4), whole[rank::3])
    chosen = alone.subset(0.5, repeats).tolist()
    assert len(chosen) == 3 * repeats
    for rank, mine in enumerate(ranks):
        rows = [(row // repeats * 3 + rank) * repeats + row % repeats for row in mine.subset(0.5, repeats).tolist()]
        assert rows == [row for row in chosen if row // repeats % 3 == rank]


def test_seeds_mix():
    seeds = {mixed_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(seeds) == 512
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed(1, 2) == mixed_seed(1, 2)


def test_a_draw_says_which_caption():
    assert Draw(3, 7)._asdict() == {"item": 3, "number": 7}
