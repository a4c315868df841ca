"""Captions with what `ladic export` wrote: NumPy, Pillow, tokenizers and onnxruntime, without torch.

    python examples/onnx_caption.py EXPORTED photo.jpg [MORE.jpg …] [--seed 0]

The loop is deterministic DDIM (Song et al. 2020) with classifier-free guidance and self-conditioning, at the times and
with the alpha_bar of the model that was exported; each position gets its likeliest word. A model's own sampler,
rounding, candidates and selector are not in the files, so that `ladic caption` says something else, and better where
they help.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class OnnxCaptioner:
    """The four graphs of a folder, and the loop around them."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.sessions = {
            name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
            for name in ("encoder", "context", "denoiser", "decoder")
        }
        self.null = self.context(np.load(folder / "null_tokens.npy"))

    def run(self, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        return self.sessions[name].run(None, inputs)

    def context(self, image_tokens: np.ndarray) -> dict[str, np.ndarray]:
        found = self.run("context", image_tokens=image_tokens)
        return {f"context_{number}": value for number, value in enumerate(found)}

    def pixels(self, file: str | Path) -> np.ndarray:
        """(3, size, size) as the encoder wants them: squashed to a square or cut out of the middle, standardised."""
        wanted = self.facts["image"]
        picture, size = Image.open(file).convert("RGB"), wanted["size"]
        sides = (size, size)
        if wanted["resize"] == "crop":  # scaled to a little more than that, of which the middle is taken
            least = int(size / wanted["crop_share"])
            sides = tuple(int(least * side / min(picture.size)) for side in picture.size)
        picture = picture.resize(sides, RESAMPLING[wanted["interpolation"]])
        left, top = (round((side - size) / 2) for side in sides)
        picture = picture.crop((left, top, left + size, top + size))
        values = np.asarray(picture, np.float32).transpose(2, 0, 1) / 255
        mean, std = (np.asarray(wanted[key], np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
        return (values - mean) / std

    def latents(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Clean latents (B, L, D) of images (B, 3, H, W), from noise (B, L, D)."""
        context = self.context(self.run("encoder", images=images)[0])
        guidance = self.facts["guidance"]
        x_t, x0 = noise, np.zeros_like(noise)
        steps = list(zip(self.facts["times"], self.facts["alpha_bar"], strict=True))
        for (t, alpha_bar), (s, next_alpha_bar) in itertools.pairwise(steps):
            times = np.full(len(noise), t, np.float32)
            before = x0 if self.facts["self_conditioning"] else np.zeros_like(x0)
            x0 = self.run("denoiser", x_t=x_t, t=times, x0_prev=before, **context)[0]
            if guidance["scale"] != 1 and guidance["stop"] - 1e-6 <= t <= guidance["start"] + 1e-6:
                null = {name: np.repeat(value, len(noise), axis=0) for name, value in self.null.items()}
                without = self.run("denoiser", x_t=x_t, t=times, x0_prev=before, **null)[0]
                guided = without + np.float32(guidance["scale"]) * (x0 - without)
                spread = x0.std((1, 2), ddof=1, keepdims=True) / guided.std((1, 2), ddof=1, keepdims=True).clip(1e-6)
                x0 = guided * (guidance["rescale"] * spread + 1 - guidance["rescale"]).astype(np.float32)
            if s > 0:
                direction = (x_t - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
                x_t = (next_alpha_bar**0.5 * x0 + (1 - next_alpha_bar) ** 0.5 * direction).astype(np.float32)
        return x0

    def captions(self, latents: np.ndarray) -> list[str]:
        """Words of latents (B, L, D)."""
        best = self.run("decoder", x0=latents)[0].argmax(-1)
        ids = np.asarray(self.facts["vocabulary"])[best]
        return [text.strip() for text in self.tokenizer.decode_batch(ids.tolist(), skip_special_tokens=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("exported", type=Path, help="folder that `ladic export` wrote")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = OnnxCaptioner(options.exported)
    latent = model.facts["latent"]
    shape = (len(options.images), latent["length"], latent["width"])
    noise = np.random.default_rng(options.seed).standard_normal(shape, np.float32)
    images = np.stack([model.pixels(file) for file in options.images])
    for file, caption in zip(options.images, model.captions(model.latents(images, noise)), strict=True):
        print(f"{file}: {caption}")


if __name__ == "__main__":
    main()
