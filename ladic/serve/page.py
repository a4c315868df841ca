"""The page: drop a picture, get captions; fill in blanks; watch a caption being made; compare two checkpoints."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from ladic.errors import UsageError
from ladic.serve.service import MOST_CANDIDATES, MOST_GUIDANCE, MOST_STEPS, CaptionService, Settings
from ladic.trace import TraceStep
from ladic.trace_pictures import DROPPED, KEPT

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: nothing is told to anybody

import gradio as gr

KEPT_FOR = 3600
"""Seconds after which an upload is removed; they are looked through as often."""

CSS = """
.ladic-caption{font-size:1.35rem;font-weight:600;line-height:1.35;margin:.2rem 0 .4rem}
.ladic-note{opacity:.75;font-size:.85rem}
.ladic-others{margin:.4rem 0;padding-left:1.2rem}.ladic-others li{margin:.1rem 0}
.ladic-fill{background:rgba(60,90,255,.16);border-radius:.3rem;padding:0 .25rem}
.ladic-steps{list-style:none;margin:0;padding:0}
.ladic-steps li{animation:ladic-appear .25s both;display:flex;flex-wrap:wrap;gap:.15rem;align-items:baseline;
margin:.35rem 0}
.ladic-steps small{width:2.4rem;opacity:.6}
.ladic-steps span{padding:0 .25rem;border-radius:.3rem;border:2px solid transparent}
@keyframes ladic-appear{from{opacity:0}}
"""


def build_page(service: CaptionService) -> gr.Blocks:
    """The page of a service; with two models everything stands side by side."""
    names = list(service.models)
    own = service.defaults()
    with gr.Blocks(title="LaDiC", analytics_enabled=False, delete_cache=(KEPT_FOR, KEPT_FOR)) as page:
        gr.Markdown("# Captions by latent diffusion")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                # As a file: the service reads it, within its limits and as the API does, not gradio.
                picture = gr.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=320
                )
                steps = gr.Slider(1, MOST_STEPS, own["num_steps"], step=1, label="Steps")
                guidance = gr.Slider(0, MOST_GUIDANCE, own["guidance_scale"], step=0.1, label="Guidance (1 is none)")
                candidates = gr.Slider(1, MOST_CANDIDATES, own["num_candidates"], step=1, label="Candidates")
                seed = gr.Number(own["seed"], precision=0, minimum=0, label="Seed")
            with gr.Column(scale=3, min_width=320):
                with gr.Tab("Caption"):
                    write = gr.Button("Caption", variant="primary", elem_id="write")
                    captions = _columns(names, "caption")
                with gr.Tab("Fill in"):
                    template = gr.Textbox("a ___ in the picture", label="Template: ___ is a blank", max_length=500)
                    fill = gr.Button("Fill in", variant="primary", elem_id="fill")
                    fillings = _columns(names, "filling")
                with gr.Tab("Watch"):
                    watch = gr.Button("Watch it being made", variant="primary", elem_id="watch")
                    films = _columns(names, "film")
        settings = [steps, guidance, candidates, seed]

        def for_each(show: Callable[..., str]) -> Callable[..., list[str]]:
            def run(file: str | None, *values: Any) -> list[str]:
                if file is None:
                    raise gr.Error("Drop a picture first.")
                try:
                    with service.opened(Path(file)) as image:
                        return [show(service, name, image, *values) for name in names]
                except UsageError as error:
                    raise gr.Error(str(error)) from error

            return run

        hidden: Any = {"api_visibility": "private"}  # programs use /api, which takes no paths
        write.click(for_each(show_caption), [picture, *settings], captions, **hidden)
        picture.upload(for_each(show_caption), [picture, *settings], captions, **hidden)
        fill.click(for_each(show_filling), [picture, *settings, template], fillings, **hidden)
        template.submit(for_each(show_filling), [picture, *settings, template], fillings, **hidden)
        watch.click(for_each(show_film), [picture, *settings], films, **hidden)
    return page


def theme() -> gr.themes.Base:
    """Gradio's own look with the system's letters: nothing is loaded from elsewhere."""
    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def show_caption(service: CaptionService, model: str, image: Image.Image, *settings: Any) -> str:
    """The caption, the other candidates from best to worst, and what it cost."""
    found = service.caption(image, _settings(*settings), model)
    ranked = sorted(zip(found.scores, found.candidates, strict=True), key=lambda pair: -pair[0])
    others = list(dict.fromkeys(text for _, text in ranked if text != found.caption))
    items = "".join(f"<li>{html.escape(text) or '(empty)'}</li>" for text in others)
    spent = f"{found.nfe} network evaluations a candidate, {found.selection_nfe} for choosing"
    return (
        f'<p class="ladic-caption">{html.escape(found.caption) or "(empty)"}</p>'
        + (
            f'<p class="ladic-note">other candidates, best first</p><ul class="ladic-others">{items}</ul>'
            if items
            else ""
        )
        + f'<p class="ladic-note">{spent}</p>'
    )


def show_filling(
    service: CaptionService,
    model: str,
    image: Image.Image,
    steps: float,
    guidance: float,
    candidates: float,
    seed: float | None,
    template: str,
) -> str:
    """The template with what was filled in marked."""
    found = service.infill(image, template, _settings(steps, guidance, candidates, seed), model)
    marked, rest = "", found.caption
    for text in found.fills:
        before, hit, rest = rest.partition(text) if text else ("", "", rest)
        marked += html.escape(before) + (f'<span class="ladic-fill">{html.escape(hit)}</span>' if hit else "")
    return (
        f'<p class="ladic-caption">{marked}{html.escape(rest)}</p>'
        f'<p class="ladic-note">{found.nfe} network evaluations a candidate, {found.selection_nfe} for choosing</p>'
    )


def show_film(service: CaptionService, model: str, image: Image.Image, *settings: Any) -> str:
    """The making of a caption: its steps appear one after the other, words darker where the model is surer."""
    found = service.trace(image, _settings(*settings), model)
    rows = "".join(_step(step, number) for number, step in enumerate(found.steps))
    return (
        f'<p class="ladic-caption">{html.escape(found.caption) or "(empty)"}</p><ol class="ladic-steps">{rows}</ol>'
        f'<p class="ladic-note">one candidate, {found.nfe} network evaluations; darker is surer</p>'
    )


def _step(step: TraceStep, number: int) -> str:
    """A row: the time, and the words up to the last; what Back&Refine kept is green, what it dropped red."""
    last = max((place for place, word in enumerate(step.tokens) if word), default=-1)
    cells = []
    for place, word in enumerate(step.tokens[: last + 1]):
        edge = "" if step.kept is None else f";border-color:{KEPT if step.kept[place] else DROPPED}"
        shade = f"background:rgba(60,90,255,{0.06 + 0.5 * step.confidence[place]:.2f}){edge}"
        cells.append(f'<span style="{shade}">{html.escape(word) or "·"}</span>')
    return f'<li style="animation-delay:{0.3 * number:.1f}s"><small>{step.t:.2f}</small>{"".join(cells)}</li>'


def _settings(steps: float, guidance: float, candidates: float, seed: float | None) -> Settings:
    """Of the page's fields; a seed that was cleared is the checkpoint's own."""
    return Settings(int(steps), float(guidance), int(candidates), None if seed is None else int(seed))


def _columns(names: list[str], kind: str) -> list[gr.HTML]:
    """A place for each model's answer, under its name where there are several."""
    places = []
    with gr.Row():
        for number, name in enumerate(names):
            with gr.Column(min_width=200):
                if len(names) > 1:
                    gr.Markdown(f"**{name}**")
                places.append(gr.HTML(elem_id=f"{kind}-{number}"))
    return places
