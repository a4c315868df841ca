"""A trace as a PNG, an animated GIF, or a page of HTML that plays it."""

from __future__ import annotations

import dataclasses
import html
import io
import json
from typing import TYPE_CHECKING

from ladic.trace import Trace, TraceStep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

KEPT, DROPPED = "#0a7d33", "#b3261e"


def trace_png(trace: Trace) -> bytes:
    """All evaluations below each other: a cell for each position, dark where the model is sure.

    Where Back&Refine went back, what it kept is framed in green and what it dropped in red.
    """
    from matplotlib.figure import Figure

    columns = shown(trace)
    figure = Figure(figsize=(1.6 + 0.75 * columns, 0.9 + 0.3 * len(trace.steps)), layout="constrained")
    axes = figure.subplots()
    draw(axes, trace, trace.steps, columns)
    axes.set_title(trace.caption, fontsize=10, loc="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def trace_gif(trace: Trace, milliseconds: int = 500) -> bytes:
    """The rows of the PNG appearing one after the other; the last stays four times as long."""
    frames = [_frame(trace, count) for count in range(1, len(trace.steps) + 1)]
    buffer = io.BytesIO()
    durations = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _frame(trace: Trace, count: int) -> Image:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    columns = shown(trace)
    figure = Figure(figsize=(1.6 + 0.75 * columns, 0.9 + 0.3 * len(trace.steps)), dpi=80, layout="constrained")
    axes = figure.subplots()
    draw(axes, trace, trace.steps[:count], columns)
    axes.set_title(trace.steps[count - 1].caption or " ", fontsize=10, loc="left")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE)


def draw(axes: Axes, trace: Trace, steps: list[TraceStep], columns: int) -> None:
    """Some of the steps, in a frame that has room for all."""
    from matplotlib.patches import Rectangle

    for row, step in enumerate(steps):
        for column in range(columns):
            word, sure = step.tokens[column], step.confidence[column]
            edge, width = "white", 1.0
            if step.kept is not None:
                edge, width = (KEPT if step.kept[column] else DROPPED), 2.0
            shade = 1 - 0.65 * sure
            axes.add_patch(
                Rectangle(
                    (column + 0.03, row + 0.06), 0.94, 0.88, facecolor=(shade, shade, 1.0), edgecolor=edge, lw=width
                )
            )
            text = f"{word[:9]} {100 * sure:.0f}" if word else f"· {100 * sure:.0f}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7)
    labels = []
    for step in trace.steps:
        true = "" if step.to_true is None else f", {step.to_true:.3f}"
        labels.append(f"t {step.t:.2f}  mse {step.to_final:.3f}{true}")
    axes.set(xlim=(0, columns), ylim=(len(trace.steps), 0), xticks=[])
    axes.set_yticks([row + 0.5 for row in range(len(labels))], labels, fontsize=7)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def shown(trace: Trace) -> int:
    """Positions up to the last that ever has a word, and one more."""
    last = max((i for step in trace.steps for i, word in enumerate(step.tokens) if word), default=0)
    return min(last + 2, len(trace.steps[0].tokens))


def trace_html(trace: Trace) -> str:
    """A page by itself, nothing loaded from elsewhere: buttons and a slider walk through the steps."""
    data = json.dumps(dataclasses.asdict(trace), ensure_ascii=False).replace("</", "<\\/")
    reference = f"<p>Reference: {html.escape(trace.reference)}</p>" if trace.reference is not None else ""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(trace.image)}</title>
<style>
body {{ font: 16px sans-serif; margin: 2em; max-width: 60em }}
#words span {{ display: inline-block; padding: .25em .4em; margin: .15em }}
#words span {{ border: 2px solid transparent; border-radius: .3em }}
#words small {{ display: block; text-align: center; color: #555 }}
.kept {{ border-color: {KEPT} !important }} .dropped {{ border-color: {DROPPED} !important }}
</style>
<h1>{html.escape(trace.caption)}</h1><p>{html.escape(trace.image)}, {trace.nfe} network evaluations</p>{reference}
<p><button id="play">play</button> <input id="step" type="range" min="0" max="{len(trace.steps) - 1}" value="0"></p>
<p id="numbers"></p><p id="words"></p>
<p>Darker is surer; the number is the word's probability in percent.
Where Back&amp;Refine went back, green was kept and red dropped.</p>
<script>
const trace = {data};
const slider = document.getElementById("step");
function show() {{
  const step = trace.steps[slider.value];
  const toTrue = step.to_true === null ? "" : `, to the true latent ${{step.to_true.toFixed(4)}}`;
  document.getElementById("numbers").textContent = `step ${{step.index + 1}}, t = ${{step.t.toFixed(3)}}, ` +
    `distance to the final latent ${{step.to_final.toFixed(4)}}` + toTrue;
  const words = document.getElementById("words");
  words.replaceChildren(...step.tokens.map((word, i) => {{
    const cell = document.createElement("span");
    cell.textContent = word || "·";
    cell.style.background = `rgba(60, 90, 255, ${{0.5 * step.confidence[i]}})`;
    if (step.kept !== null) cell.className = step.kept[i] ? "kept" : "dropped";
    const percent = document.createElement("small");
    percent.textContent = Math.round(100 * step.confidence[i]);
    cell.append(percent);
    return cell;
  }}));
}}
let timer = null;
document.getElementById("play").onclick = () => {{
  clearInterval(timer);
  slider.value = 0; show();
  timer = setInterval(() => {{
    slider.value++; show();
    if (slider.value == slider.max) clearInterval(timer);
  }}, 500);
}};
slider.oninput = () => {{ clearInterval(timer); show(); }};
show();
</script></html>
"""
