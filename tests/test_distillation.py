"""Distillation: the teacher's lessons are what its own steps say, and a student of few steps comes nearer to it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_captioner import evaluation_batch, fit, model, training_batch
from tiny_run import error_line

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import ConvEncoder, CosineSchedule, DDIMSampler, ShiftedSchedule
from ladic.components.samplers.ddim import deterministic_step
from ladic.distillation import Teacher, walked
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance
from ladic.testing import tiny_text_space
from ladic.time_sampling import LogitNormalTimes


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True), st.integers(0, 2**20 - 1))
def test_intervals_are_those_of_the_grids(steps, draw):
    t, s = Teacher("run", steps=steps).intervals(torch.tensor([draw / 2**20]))
    assert 0 <= s < t <= 1
    grids = [n for n in steps if abs(n * float(t - s) - 1) < 1e-5]
    assert grids, "as long as one step of one of the grids"
    assert any(abs(n * float(t) - round(n * float(t))) < 1e-4 for n in grids)


def test_every_interval_of_every_grid_is_visited_as_often_as_its_fellows():
    t, s = Teacher("run").intervals(torch.arange(12000) / 12000)
    pairs, counts = torch.stack([t, s], 1).unique(dim=0, return_counts=True)
    found = {(float(a), float(b)): int(count) for (a, b), count in zip(pairs, counts, strict=True)}
    quarters = {(0.25 * i, 0.25 * i - 0.25): 1000 for i in range(1, 5)}
    assert found == pytest.approx({(1.0, 0.0): 4000, (1.0, 0.5): 2000, (0.5, 0.0): 2000, **quarters}, abs=16)


def test_one_step_with_the_answer_ends_where_the_teachers_steps_do():
    schedule, generator = CosineSchedule(), torch.Generator().manual_seed(0)
    x_t = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    t, s = torch.tensor([1.0, 0.75, 0.5]).double(), torch.tensor([0.5, 0.5, 0.0]).double()

    def denoise(x, now, earlier):
        return torch.tanh(x) * (1 - now.view(-1, 1, 1) / 2) + (0 if earlier is None else 0.1 * earlier)

    answer = walked(denoise, x_t, t, s, 5, schedule)
    x, x0 = x_t, None
    for step in range(5):
        now, then = t + (s - t) * step / 5, t + (s - t) * (step + 1) / 5
        x0 = denoise(x, now, x0)
        x = deterministic_step(x, x0, now, then, schedule)
    reached = deterministic_step(x_t, answer, t, s, schedule)
    assert torch.allclose(reached[:2], x[:2], atol=1e-9)
    assert torch.equal(answer[2], x0[2]), "at the end of the way the answer is the teacher's own"


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The folder of a trained and guided teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    fit(
        model(guidance=ClassifierFreeGuidance(2.0), drop_image=0.2), folder, max_steps=150, max_epochs=-1
    ).save_checkpoint(folder / "last.ckpt")
    return folder


def student(teacher, **settings):
    options = {"drop_image": 0.0, "self_conditioning": 0.0, "guidance": ClassifierFreeGuidance(1.0)}
    return model(teacher=teacher, sampler=DDIMSampler(1), **{**options, **settings})


def distance(captioner, target):
    latents = captioner.eval().generate(evaluation_batch(captioner)).latents
    return float((latents - target).norm(dim=-1).mean())


def test_a_student_of_one_step_comes_nearer_to_its_teacher(taught, tmp_path):
    teacher = LatentDiffusionCaptioner.load_from_checkpoint(taught, sampler=DDIMSampler(8))
    batch = evaluation_batch(teacher)
    target = teacher.generate(batch).latents
    unguided = {"sampler": DDIMSampler(1), "guidance": ClassifierFreeGuidance(1.0)}
    before = distance(LatentDiffusionCaptioner.load_from_checkpoint(taught, **unguided), target)
    captioner = student(Teacher(str(taught), steps=[1], substeps=8))
    fit(captioner, tmp_path, max_steps=150, max_epochs=-1).save_checkpoint(tmp_path / "student.ckpt")
    after = distance(captioner, target)
    assert after < 0.7 * before
    assert captioner.generate(batch).nfe == 1
    again = LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "student.ckpt")
    assert torch.equal(again.generate(batch).latents, captioner.generate(batch).latents)


def test_a_student_begins_with_what_fits_of_the_teachers_weights(taught):
    teacher = LatentDiffusionCaptioner.load_from_checkpoint(taught)
    same = student(Teacher(str(taught)))
    assert Teacher(str(taught)).prepare(same) == []
    for (name, ours), theirs in zip(same.denoiser.named_parameters(), teacher.denoiser.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_lesson_leaves_the_teacher_as_it_is(taught):
    captioner = student(Teacher(str(taught))).train()
    captioner.teacher.prepare(captioner)
    before = {name: value.clone() for name, value in captioner.teacher.load().state_dict().items()}
    captioner.losses(training_batch(captioner))["loss"].backward()
    after = captioner.teacher.load().state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(name.startswith("teacher") for name in captioner.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_sampling": LogitNormalTimes()}, "time_sampling: not with a teacher"),
        ({"prediction": "v"}, "prediction='v': not with a teacher.*--model.prediction=x0"),
        ({"drop_image": 0.1}, "drop_image=0.1: not with a teacher.*--model.drop_image=0"),
        ({"loss_weight": "min_snr"}, "loss_weight='min_snr': not with a teacher"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_a_student_can_not_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        student(Teacher("run"), **settings)


@pytest.mark.parametrize("wrong", [{"steps": []}, {"steps": [0]}, {"substeps": 0}], ids=str)
def test_numbers_without_sense_are_refused(wrong):
    with pytest.raises(UsageError, match="teacher "):
        Teacher("run", **wrong)


def test_a_teacher_of_other_latents_is_refused(taught):
    space = tiny_text_space()
    space.normalizer.set(torch.ones(space.width), torch.ones(space.width))
    with pytest.raises(UsageError, match="other statistics than the student's; give the student the teacher's"):
        Teacher(str(taught)).prepare(student(None, latent_space=space))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"special_at": "apart"}, "has special_at=mean, the student's apart; give the student .*special_at=mean"),
        ({"length": 10}, "has length=12, the student's 10"),
        ({"reassign": False}, "has reassign=True, the student's False"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_teacher_whose_latents_are_arranged_otherwise_is_refused(taught, settings, message):
    theirs = LatentDiffusionCaptioner.load_from_checkpoint(taught).latent_space.normalizer
    space = tiny_text_space(**settings)
    space.normalizer.set(theirs.mean, theirs.std)
    with pytest.raises(UsageError, match=message):
        Teacher(str(taught)).prepare(student(None, latent_space=space))


def test_a_teacher_of_other_words_is_refused(taught):
    captioner = student(None)
    head = captioner.latent_space.head
    head.restrict(head.vocabulary[:-3])
    with pytest.raises(UsageError, match=r"its head says \d+ words and the student's \d+, or others; give the student"):
        Teacher(str(taught)).prepare(captioner)


def test_a_teacher_is_guided_as_it_samples(taught, monkeypatch):
    teacher, captioner = Teacher(str(taught), scale=3.0), student(None)
    x0, draws = torch.randn(4, captioner.latent_space.length, captioner.latent_space.width), torch.full((4,), 0.9)
    tokens = captioner.image_tokens(training_batch(captioner))

    def lesson(**guidance):
        monkeypatch.setattr(teacher.load(), "guidance", ClassifierFreeGuidance(**guidance))
        return teacher.lesson(tokens, x0, torch.zeros_like(x0), draws).x0

    assert torch.equal(lesson(scale=2.0), lesson(scale=5.0)), "the scale is the one asked for"
    assert not torch.equal(lesson(rescale=0.7), lesson()), "the rest is the teacher's"
    monkeypatch.setattr(teacher.load(), "guidance", ClassifierFreeGuidance(start=0.6))
    with pytest.raises(UsageError, match=r"its guidance acts from t = 0\.6 to 0\.0; a teacher's has to"):
        teacher.prepare(captioner)


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("image_encoder", ConvEncoder(image_size=16, channels=(8, 8)), "its image encoder is another one"),
        ("noise_schedule", ShiftedSchedule(), "its noise schedule is another one"),
    ],
    ids=["encoder", "schedule"],
)
def test_a_teacher_of_other_parts_is_refused(taught, name, part, message):
    captioner = student(None)
    setattr(captioner, name, part)
    with pytest.raises(UsageError, match=message):
        Teacher(str(taught)).prepare(captioner)


def test_the_second_stage_from_the_command_line(cli, trained, tmp_path):
    second = [
        "-c",
        trained.parent / "tiny.yaml",
        "-c",
        "configs/experiment/distill.yaml",
        f"--model.teacher.checkpoint={trained}",
    ]
    second += [f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=2", "--trainer.callbacks=null"]
    done = cli("fit", *second)
    assert done.code == 0, done.stderr
    loaded = LatentDiffusionCaptioner.load_from_checkpoint(tmp_path)
    assert (loaded.teacher, loaded.sampler.num_steps, loaded.guidance.scale) == (None, 4, 1.0)
    absent = tmp_path / "absent"
    done = cli("fit", *second, f"--model.teacher.checkpoint={absent}")
    assert done.code == 2
    assert str(absent) in error_line(done.stderr)
