"""Scores must not depend on how many processes made the captions: two and three gloo ranks against one process."""

from __future__ import annotations

import json
import multiprocessing
import random
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ladic.metrics.bleu import BLEUScore
from ladic.metrics.caption_store import CaptionStore
from ladic.metrics.cider import CIDErDScore
from ladic.metrics.scoring import score_captions

METRICS = ["bleu", "rouge", "cider"]
WORDS = "a the dog cat runs sleeps on under red big table couch grass with two".split()  # noqa: SIM905


def make_rows(count: int = 23) -> list[tuple[int | str, str, list[str]]]:
    draw = random.Random(3)

    def sentence() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(3, 12)))

    rows: list[tuple[int | str, str, list[str]]] = []
    for i in range(count):
        caption = "" if i % 7 == 0 else sentence()
        if i == 4:
            caption = 'naïve "dog"\n在 a line\u2028break'
        rows.append((i if i % 2 else f"{i:012d}", caption, [sentence() for _ in range(draw.randint(1, 4))]))
    return rows


def shares(case: str, world: int) -> list[list[int]]:
    """Which rows each rank gets."""
    rows = list(range(23))
    if case == "padded":  # as the distributed sampler does it: round robin, filled up from the start
        padded = rows + rows[: -len(rows) % world]
        return [padded[rank::world] for rank in range(world)]
    if case == "uneven":
        return [rows[:3], rows[3:], rows[5:9]][:world]
    assert case == "one rank with nothing"
    return [[], rows, rows[:1]][:world]


CASES = ["padded", "uneven", "one rank with nothing"]


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    rows, answer = make_rows(), {}
    for case in CASES:
        mine = [rows[i] for i in shares(case, world)[rank]]
        store, metrics = CaptionStore(), [BLEUScore(), CIDErDScore()]
        for start in range(0, len(mine), 4):
            batch = mine[start : start + 4]
            ids, captions, references = map(list, zip(*batch, strict=True))
            store.add(ids, captions, references)
            for metric in metrics:
                metric.update(captions, references, ids)
        everything = store.gather()
        scores = score_captions(everything.captions, everything.references, METRICS)
        computed = {name: value.item() for metric in metrics for name, value in metric.compute().items()}
        answer[case] = [scores.corpus, {str(i): s for i, s in scores.per_image.items()}, computed]
    empty = CaptionStore().gather()
    answer["nobody has any"] = len(empty)
    Path(folder, f"{rank}.json").write_text(json.dumps(answer))
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_scores_are_those_of_one_process_to_the_last_bit(world, tmp_path):
    # Forked: each fresh interpreter would import torch and torchmetrics for ten seconds.
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=work, args=(rank, world, str(tmp_path)), daemon=True) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=60)
        assert process.exitcode == 0
    rows = make_rows()
    alone = score_captions({r[0]: r[1] for r in rows}, {r[0]: r[2] for r in rows}, METRICS)
    for rank in range(world):
        answer = json.loads((tmp_path / f"{rank}.json").read_text())
        assert answer.pop("nobody has any") == 0
        for case in CASES:
            corpus, per_image, computed = answer[case]
            assert corpus == alone.corpus, case
            assert per_image == {str(i): scores for i, scores in alone.per_image.items()}, case
            assert computed == {name: alone.corpus[name] for name in computed}, case


def test_two_captions_for_one_image_are_kept_apart_and_told():
    store = CaptionStore()
    store.add([1], ["a dog"], [["dogs"]])
    store.add([1], ["a cat"], [["dogs"]])
    with pytest.warns(UserWarning, match="1 images came with two different captions \\(ids 1\\)"):
        kept = store.gather()
    assert kept.captions == {1: "a dog"}


def test_batches_of_uneven_parts_are_refused():
    with pytest.raises(ValueError, match="2 image ids, 1 captions and 1 lists of references"):
        CaptionStore().add([1, 2], ["a dog"], [["dogs"]])
    with pytest.raises(ValueError, match="one of each per image"):
        BLEUScore().update(["a dog"], [["dogs"]], [1, 2])


def test_tensor_ids_and_forward_and_reset():
    metric = BLEUScore()
    now = metric(["a dog runs fast"], [["a dog runs fast"]], torch.tensor([5]))
    assert now["BLEU-1"].item() == pytest.approx(1, abs=1e-8)
    metric.update(["a"], [["b"]], torch.tensor([6]))
    assert set(metric.store().captions) == {5, 6}
    metric.reset()
    assert len(metric.store()) == 0
