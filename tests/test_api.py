"""``model.caption``, ``infill`` and ``trace`` from Python."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_run import picture

from ladic import LatentDiffusionCaptioner
from ladic.datamodules.images import open_image
from ladic.datamodules.transforms import to_tensor
from ladic.errors import UsageError
from ladic.length_control import LengthRange
from ladic.rerank import FirstSelector


@pytest.fixture(scope="module")
def model(trained: Path) -> LatentDiffusionCaptioner:
    return LatentDiffusionCaptioner.load_from_checkpoint(trained)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [picture(tmp_path / f"{colour}.png", colour) for colour in ("red", "green", "blue")]


def test_a_file_its_pil_image_and_its_copy_get_the_same_caption(model, files: list[Path], tmp_path: Path) -> None:
    by_path = model.caption(files, num_candidates=3)
    by_image = model.caption([Image.open(file) for file in files], num_candidates=3)
    Image.open(files[0]).save(tmp_path / "copy.bmp")
    copy = model.caption(tmp_path / "copy.bmp", num_candidates=3)
    assert [each.candidates for each in by_path] == [each.candidates for each in by_image]
    assert copy[0].candidates == by_path[0].candidates
    assert [each.image for each in by_path] == [str(file) for file in files]
    assert [each.image for each in by_image] == ["image 0", "image 1", "image 2"]
    for each in by_path:
        assert each.caption == each.captions[0] == each.candidates[each.scores.index(max(each.scores))]
        assert (len(each.candidates), each.nfe, each.selection_nfe) == (3, 4, 0)


def test_tensors_one_or_a_batch(model, files: list[Path]) -> None:
    pixels = torch.stack([to_tensor(open_image(file), model.preprocess) for file in files])
    batch, one = model.caption(pixels), model.caption(pixels[1])
    assert len(batch) == 3
    assert batch[1].candidates == one[0].candidates
    assert model.caption(pixels, batch_size=1) == batch


def test_several_captions_are_different(model, files: list[Path]) -> None:
    (result,) = model.caption(files[0], num_candidates=8, num_captions=4, diverse=True)
    assert len(set(result.captions)) == len(result.captions) == min(4, len(set(result.candidates)))


def test_infill_one_picture_with_several_templates_and_the_other_way_round(model, files: list[Path]) -> None:
    many = model.infill(files[0], ["a ___{1} Circle", "two ___{2}"])
    assert [result.template for result in many] == ["a ___{1} Circle", "two ___{2}"]
    assert many[0].caption == f"a {many[0].fills[0]} Circle"
    spread = model.infill(files, "a ___{1} Circle")
    assert [result.image for result in spread] == [str(file) for file in files]
    assert spread[0].caption == many[0].caption
    first = model.infill(files[0], "two ___{2}", num_candidates=3, selector=FirstSelector())[0]
    assert first.caption == first.candidates[0]
    assert len(first.candidates) == 3


def test_a_trace_ends_in_the_caption_of_a_single_sample(model, files: list[Path]) -> None:
    traces = model.trace(files[:2], ["a red circle", "a blue square"])
    for trace, result in zip(traces, model.caption(files[:2], num_candidates=1), strict=True):
        assert trace.caption == trace.steps[-1].caption == result.caption
        assert trace.nfe == result.nfe
        assert trace.steps[0].to_true is not None
    assert model.trace(files[0])[0].steps[0].to_true is None


def test_lengths(model, files: list[Path]) -> None:
    short = model.caption(files, length=LengthRange(0, 1))
    assert all(len(each.caption.split()) <= 1 for each in short)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, f: m.caption(torch.zeros(3, 7, 7)), r"a tensor of shape \(3, 7, 7\); accepted is \(3, 32, 32\)"),
        (lambda m, f: m.caption([3]), "image 0: a int; accepted are paths, PIL images and tensors"),
        (lambda m, f: m.caption("gone.png"), "image 'gone.png': no such file"),
        (lambda m, f: m.caption(f[0], num_captions=0), "num_captions=0, num_candidates=1: need at least 1"),
        (lambda m, f: m.caption(f[0], num_captions=2, num_candidates=1), "num_captions=2, num_candidates=1"),
        (lambda m, f: m.infill(f, ["a ___", "b ___"]), "3 images and 2 templates: need as many, or one of either"),
        (lambda m, f: m.infill(f[0], []), "templates: none given; write one such as"),
        (lambda m, f: m.trace(f, "a dog"), "3 images and 1 references: need one for each"),
    ],
)
def test_mistakes_are_named(model, files: list[Path], call, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call(model, files)


def test_no_pictures_are_no_captions_and_no_fillings(model) -> None:
    assert model.caption([]) == model.infill([], "a ___") == model.trace([]) == []
