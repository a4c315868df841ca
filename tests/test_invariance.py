"""A caption depends on its image, its seed and the options alone: not on the batch, its order, workers or ranks."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation import IDS, World
from tiny_run import tiny_config, write_config

from ladic import ClassifierFreeGuidance
from ladic.cli.words import component
from ladic.components import CosineSchedule, Sampler
from ladic.generation import Generation, generate
from ladic.length_control import LengthRange
from ladic.postprocess import CleanCaption

SAMPLERS = [
    "DDIMSampler:num_steps=4",
    "DDIMSampler:num_steps=4,eta=1,spacing=log_snr",
    "RenoiseSampler:num_steps=4",
    "RenoiseSampler:stride=250",
    "AncestralSampler:num_steps=4,variance=large",
    "DPMSolverSampler:num_steps=4",
    "HeunSampler:num_steps=3",
    "BackAndRefine:sampler=RenoiseSampler,sampler.num_steps=4",
    "BackAndRefine:sampler=DPMSolverSampler,sampler.num_steps=3,threshold=0.03,repeats=2",
    *(["DiffusersSampler:scheduler=DDPMScheduler,num_steps=4"] if find_spec("diffusers") else []),
]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@torch.no_grad()
def run(world: World, rows: list[int], word: str, **kwargs: Any) -> Generation:
    return generate(
        world.tokens[rows],
        world.denoiser.context(torch.zeros(1, 4, 6)),
        [IDS[row] for row in rows],
        denoiser=world.denoiser,
        latent_space=world.space,
        schedule=CosineSchedule(),
        sampler=component(word, "samplers", Sampler),
        **kwargs,
    )


@settings(max_examples=30)
@given(
    rows=st.permutations(range(len(IDS))).flatmap(lambda order: st.integers(1, 5).map(lambda count: order[:count])),
    word=st.sampled_from(SAMPLERS),
    scale=st.sampled_from([1.0, 2.5]),
    rescale=st.sampled_from([0.0, 0.7]),
    length=st.sampled_from([None, LengthRange(5, 5), LengthRange(3), LengthRange(0, 2)]),
    candidates=st.integers(1, 3),
    seed=st.integers(0, 3),
)
def test_a_caption_is_the_same_to_the_letter_in_every_batch(
    world: World,
    rows: list[int],
    word: str,
    scale: float,
    rescale: float,
    length: LengthRange | None,
    candidates: int,
    seed: int,
) -> None:
    options = {
        "guidance": ClassifierFreeGuidance(scale, rescale=rescale),
        "length": length,
        "num_candidates": candidates,
        "seed": seed,
        "postprocess": CleanCaption(repeats=2),
    }
    together = run(world, rows, word, **options)
    for place, row in enumerate(rows):
        alone = run(world, [row], word, **options)
        assert alone.candidates == [together.candidates[place]]
        assert alone.nfe == together.nfe


def test_workers_batches_and_ranks_don_t_matter(cli, trained: Path, tmp_path: Path) -> None:
    """One process, one batch; then two worker processes and batches of three; then two ranks."""
    captions = []
    for name, flags in {
        "one": ["--data.batch_size=8"],
        "workers": ["--data.batch_size=3", "--data.num_workers=2"],
        "ranks": ["--data.batch_size=1", "--trainer.devices=2", "--trainer.strategy=ddp"],
    }.items():
        config = tiny_config(trained.parent)
        config["trainer"]["default_root_dir"] = str(tmp_path / name)
        config["data"]["init_args"]["num_eval"] = 5  # odd: the distributed sampler pads one
        config["trainer"]["callbacks"] = [
            {"class_path": "ladic.callbacks.CaptionEvaluation", "init_args": {"test_metrics": ["length"]}}
        ]
        file = write_config(tmp_path, config, f"{name}.yaml")
        words = ["test", "-c", str(file), f"--ckpt_path={trained}", *flags]
        if name == "ranks":
            command = [sys.executable, "-m", "ladic", *words]
            done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
            assert done.returncode == 0, done.stderr[-2000:]
        else:
            done = cli(*words)
            assert done.code == 0, done.stderr
        captions.append(json.loads((tmp_path / name / "results_test.json").read_text()))
    assert len(captions[0]) == 5
    assert captions[0] == captions[1] == captions[2]
