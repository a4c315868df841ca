"""A caption at every step of its making: what is recorded, and how it is shown."""

import io
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from test_generation import IDS, World
from tiny_run import error_line, picture

from ladic import ClassifierFreeGuidance
from ladic.components import BackAndRefine, CosineSchedule, DDIMSampler, HeunSampler, Sampler
from ladic.generation import generate
from ladic.trace import Recorder, Trace, TraceStep
from ladic.trace_pictures import trace_gif, trace_html, trace_png
from ladic.trace_text import trace_table

STEPS = [
    TraceStep(0, 1.0, "a red", ["", "a", "red", "dog", "##s"], [0.9, 0.5, 0.2, 0.1, 0.3], 0.5, 0.6),
    TraceStep(1, 0.5, "a dogs", ["", "a", "dog", "##s", ""], [0.9, 0.99, 0.7, 0.6, 0.8], 0.25, 0.3,
              [True, True, False, False, True]),
    TraceStep(2, 0.25, "two dogs", ["", "two", "dog", "##s", ""], [0.9, 0.95, 0.9, 0.8, 1.0], 0.0, 0.1),
]  # fmt: skip
TRACE = Trace("a.png", "two <dogs>", STEPS, 6, "two dogs run")


def recorded(world: World, sampler: Sampler, rows: int = 2) -> tuple[Recorder, torch.Tensor, list[list[str]]]:
    recorder = Recorder()
    with torch.no_grad():
        out = generate(
            world.tokens[:rows],
            None,
            IDS[:rows],
            denoiser=world.denoiser,
            latent_space=world.space,
            schedule=CosineSchedule(),
            sampler=sampler,
            guidance=ClassifierFreeGuidance(1.0),
            on_step=recorder,
        )
    return recorder, out.latents, out.candidates


def test_every_evaluation_is_recorded_and_the_last_is_the_caption() -> None:
    world = World()
    for sampler, count in ((DDIMSampler(4), 4), (HeunSampler(3), 5), (BackAndRefine(DDIMSampler(4)), 7)):
        recorder, latents, candidates = recorded(world, sampler)
        true = torch.randn(12, 32)
        for row in range(2):
            steps = recorder.read(row, world.space, true)
            assert [step.index for step in steps] == list(range(count))
            assert steps[-1].caption == candidates[row][0]
            assert steps[-1].to_final == 0
            for step, said in zip(recorder.steps, steps, strict=True):
                x0 = step.x0[row]
                assert said.to_final == pytest.approx(float(((x0 - latents[row]) ** 2).mean()), rel=1e-5)
                assert said.to_true == pytest.approx(float(((x0 - true) ** 2).mean()), rel=1e-5)
                probabilities = torch.softmax(world.space.decode(x0[None])[0], -1).amax(-1)
                torch.testing.assert_close(torch.tensor(said.confidence), probabilities)
            turned = [step.index for step in steps if step.kept is not None]
            assert turned == ([2] if isinstance(sampler, BackAndRefine) else [])
            assert all(sum(step.kept) == 6 for step in steps if step.kept is not None)


def test_the_table_shows_times_words_confidence_and_what_was_kept() -> None:
    console = Console(width=120, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(trace_table(TRACE))
    coloured = console.export_text(styles=True, clear=False)
    plain = console.export_text()
    lines = plain.splitlines()
    assert lines[0].startswith("a.png: two <dogs>")
    assert "to true" in plain
    first = next(line for line in lines if "1.000" in line)
    assert all(part in first for part in ("0.5000", "0.6000", "a red dogs", "50 20 10 30"))
    back = next(line for line in lines if "back" in line)
    assert "a [dog][s]" in back
    assert "3 of 5 kept" in back
    assert re.search(r"\x1b\[32ma\x1b", coloured), "kept is green"
    assert re.search(r"\x1b\[31m \[dog\]", coloured), "dropped is red"


def test_brackets_in_a_name_are_no_markup() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(trace_table(Trace("d[/x].png", "a :smile: [b]dog", STEPS[:1], 1)))
    assert console.export_text().startswith("d[/x].png: a :smile: [b]dog")


def test_pictures_and_the_page() -> None:
    png = Image.open(io.BytesIO(trace_png(TRACE))).convert("RGB")
    colours = {colour for _, colour in png.getcolors(1 << 24) or []}
    assert (0x0A, 0x7D, 0x33) in colours, "kept is framed in green"
    assert (0xB3, 0x26, 0x1E) in colours, "dropped in red"
    gif = Image.open(io.BytesIO(trace_gif(TRACE, milliseconds=100)))
    assert gif.n_frames == 3  # type: ignore[attr-defined]
    page = trace_html(TRACE)
    assert "<h1>two &lt;dogs&gt;</h1>" in page
    assert '"kept": [true, true, false, false, true]' in page
    assert "http" not in page, "nothing is loaded from elsewhere"


def test_a_caption_that_closes_the_script_stays_text() -> None:
    evil = Trace("x", "</script><script>alert(1)</script>", STEPS[:1], 1)
    assert trace_html(evil).count("</script>") == 1


def test_the_command(cli, trained: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    outputs = [tmp_path / name for name in ("t.png", "t.gif", "t.html")]
    words = [word for output in outputs for word in ("-o", output)]
    done = cli(
        "trace", file, f"--checkpoint={trained}", "--num-steps=4", "--reference=a red circle", "--back-and-refine",
        "--guidance-scale=1", *words,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert "7 network evaluations" in done.stdout  # 3 down to t = 0.5, then 4
    assert "of 12 kept" in done.stdout
    assert [output.read_bytes()[:4] for output in outputs] == [b"\x89PNG", b"GIF8", b"<!do"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "x.jpg"], "--output x.jpg: accepted are names that end in .png, .gif, .html"),
        (["-o", "gone/x.png"], "no folder"),
        (["--num-steps=0"], "--num-steps 0: need at least 1"),
        (["--sampler=DDIM"], "no sampler called 'DDIM'; did you mean DDIMSampler?"),
        (["--sampler=DDIMSampler:eta=2"], "'DDIMSampler:eta=2': eta=2: need 0 <= eta <= 1"),
        (["--sampler=DDIMSampler:speed=2"], "unexpected keyword argument 'speed'"),
        (["--sampler=DDIMSampler:eta"], "'eta' has no value; write DDIMSampler:argument=value"),
        (["--sampler=BackAndRefine:sampler.eta=1"], "'sampler.eta' comes before 'sampler=NAME'"),
        (["--sampler=BackAndRefine", "--back-and-refine"], "the sampler does it already"),
        (["--length=3", "--max-length=4"], "--length: says all; leave out --min-length and --max-length"),
        (["--length=0"], "--length 0: need at least 1"),
        (["--length=11"], "length of 11 tokens: the model's length is 12, which holds 10"),
        (["--min-length=4", "--max-length=3"], "--min-length 4, --max-length 3"),
    ],
)
def test_mistakes_are_one_line(cli, trained: Path, tmp_path: Path, words: list[str], message: str) -> None:
    done = cli("trace", picture(tmp_path / "a.png"), f"--checkpoint={trained}", *words)
    assert (done.code, done.stdout) == (2, "")
    assert message in error_line(done.stderr)
