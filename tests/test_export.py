"""ladic export: the graphs give the model's numbers, for any batch, and caption without torch."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import EXAMPLES, error_line, picture

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components.samplers import DDIMSampler
from ladic.datamodules.images import open_image
from ladic.datamodules.transforms import to_tensor
from ladic.errors import UsageError
from ladic.export import export
from ladic.guidance import ClassifierFreeGuidance, GuidedDenoiser
from ladic.types import ImagePreprocess

pytest.importorskip("onnxruntime", reason="onnxruntime is absent: pip install 'ladic[export]'")
pytest.importorskip("onnxscript", reason="onnxscript is absent: pip install 'ladic[export]'")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Folder of the tiny run's graphs, written by the command."""
    from ladic.cli.main import main

    folder = tmp_path_factory.mktemp("exported")
    main(["export", str(trained), "--output", str(folder)])
    return folder


@pytest.fixture(scope="module")
def example():
    """The module examples/onnx_caption.py."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("onnx_caption", EXAMPLES / "onnx_caption.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_graph_is_there_in_both_formats(exported):
    names = {file.name for file in exported.iterdir()}
    parts = ("encoder", "context", "denoiser", "decoder")
    assert {f"{part}.{ending}" for part in parts for ending in ("onnx", "pt2")} <= names
    facts = json.loads((exported / "export.json").read_text())
    assert facts["times"] == [1.0, 0.5, 0.0]
    assert facts["latent"] == {"length": 12, "width": 32}


@pytest.mark.parametrize(("scale", "rescale"), [(1.0, 0.0), (2.0, 0.0), (3.0, 0.7)])
def test_the_loop_around_the_graphs_gives_the_models_latents(exported, example, trained, tmp_path, scale, rescale):
    """The same pictures and noise through NumPy and onnxruntime, and through the model's own sampler."""
    files = [picture(tmp_path / f"{colour}.png", colour) for colour in ("red", "green", "blue")]
    runtime = example.OnnxCaptioner(exported)
    runtime.facts["guidance"].update(scale=scale, rescale=rescale)
    images = np.stack([runtime.pixels(file) for file in files])
    noise = np.random.default_rng(0).standard_normal((3, 12, 32), np.float32)
    found = runtime.latents(images, noise)

    model = LatentDiffusionCaptioner.load_from_checkpoint(trained)
    pixels = torch.stack([to_tensor(open_image(file), model.preprocess) for file in files])
    torch.testing.assert_close(torch.from_numpy(images), pixels)
    with torch.no_grad():
        tokens = model.image_encoder(pixels)
        null = model.denoiser.context(model.null_token.expand(1, tokens.shape[1], -1))
        guidance = ClassifierFreeGuidance(scale, rescale=rescale)
        denoise = GuidedDenoiser(model.denoiser, model.denoiser.context(tokens), null, guidance)
        start = torch.from_numpy(noise)
        expected = DDIMSampler(2).sample(denoise, start, model.noise_schedule, lambda: torch.zeros_like(start))
        words = model.latent_space.to_text(model.latent_space.decode(expected).argmax(-1))
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
    assert runtime.captions(found) == words


@pytest.mark.parametrize("size", [(90, 60), (60, 101), (64, 64)])
def test_the_example_cuts_pictures_as_the_encoder_wants_them(example, tmp_path, size):
    wanted = ImagePreprocess(
        size=48, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), interpolation="bicubic", resize="crop", crop_share=0.875
    )
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    runtime = example.OnnxCaptioner.__new__(example.OnnxCaptioner)
    runtime.facts = {"image": asdict(wanted)}
    found = torch.from_numpy(runtime.pixels(tmp_path / "a.png"))
    torch.testing.assert_close(found, to_tensor(open_image(tmp_path / "a.png"), wanted))


def test_the_example_captions_without_torch(exported, tmp_path):
    script = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    script += "; assert 'torch' not in sys.modules and 'ladic' not in sys.modules"
    words = [EXAMPLES / "onnx_caption.py", exported, picture(tmp_path / "a.png"), "--seed", "3"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'a.png'}: ")


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_a_step_gives_the_clean_latent_whatever_the_network_is_asked_for(trained, tmp_path, prediction):
    """By the definition of v and epsilon (Salimans & Ho 2022), with the time that the network is told moved."""
    model = LatentDiffusionCaptioner.load_from_checkpoint(
        trained, prediction=prediction, guidance=ClassifierFreeGuidance(time_difference=0.1)
    )
    export(model, tmp_path, ["pt2"])
    step = torch.export.load(tmp_path / "denoiser.pt2").module()
    x_t, t, before = torch.randn(2, 12, 32), torch.tensor([0.5, 0.95]), torch.zeros(2, 12, 32)
    with torch.no_grad():
        context = model.denoiser.context(torch.randn(2, model.image_encoder.num_tokens, 16))
        output = model.denoiser(x_t, torch.tensor([0.6, 1.0]), context, before)
        alpha_bar = model.noise_schedule.alpha_bar(t).view(-1, 1, 1)
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        expected = signal * x_t - noise * output if prediction == "v" else (x_t - noise * output) / signal
        torch.testing.assert_close(step(x_t, t, before, *context.tensors), expected, atol=1e-4, rtol=1e-4)


def test_the_program_runs_in_torch_alone(exported):
    program = torch.export.load(exported / "decoder.pt2").module()
    assert program(torch.randn(5, 12, 32)).shape[:2] == (5, 12)


def test_numbers_that_are_not_the_models_are_refused(trained, tmp_path, monkeypatch):
    model = LatentDiffusionCaptioner.load_from_checkpoint(trained)
    monkeypatch.setattr("ladic.export._difference", lambda *_: float("nan"))
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(UsageError, match=r"encoder\.pt2: its numbers differ from the model's by nan"):
        export(model, tmp_path, ["pt2"])
    assert not (tmp_path / "export.json").exists(), "a folder that is half new doesn't pass for an export"


def test_a_part_that_no_graph_can_hold_is_named(trained, tmp_path, monkeypatch):
    model = LatentDiffusionCaptioner.load_from_checkpoint(trained)

    def encode(images):
        return torch.zeros(len(images), 2, 16) if images.sum().item() > 0 else torch.ones(len(images), 2, 16)

    monkeypatch.setattr(type(model.image_encoder), "encode", lambda self, images: encode(images))
    with pytest.raises(UsageError, match="encoder: can't be exported to pt2"):
        export(model, tmp_path, ["pt2"])


def test_wrong_words_are_one_line(cli, trained, tmp_path):
    assert "--output" in error_line(cli("export", trained).stderr)
    assert "--format" in error_line(cli("export", trained, "--output", tmp_path, "--format=tflite").stderr)
    assert "no such file" in error_line(cli("export", tmp_path / "gone", "--output", tmp_path).stderr)
