"""The report of a run as one self-contained HTML page: scores, curves, pictures with captions."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field

from PIL import Image

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem;color:#1c2330;background:#fff}
h1{font-size:1.5rem}table{border-collapse:collapse}td,th{padding:.2rem .9rem .2rem 0;text-align:left}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:1rem}
.card{border:1px solid #d8dde6;border-radius:8px;padding:.8rem}.card img{width:100%;border-radius:4px;display:block}
.small img{width:160px;image-rendering:pixelated}.caption{font-weight:600;margin:.5rem 0}
ul{margin:.3rem 0;padding-left:1.1rem;color:#5a6475;font-size:.9rem}.ok{color:#0a7d33}.no{color:#b3261e}
img.figure{max-width:100%}.note{color:#5a6475}
"""


@dataclass(frozen=True)
class Example:
    """A picture with what was said of it.

    Attributes:
        image_id: of the data set.
        image: the picture.
        caption: what the model said.
        references: what people said.
        claims: (text, holds) for each claim of the caption, where the data can tell.
        missing: descriptions of objects the caption leaves out, likewise.
    """

    image_id: str
    image: Image.Image
    caption: str
    references: list[str]
    claims: list[tuple[str, bool]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def page(title: str, facts: dict[str, str], scores: dict[str, float], examples: list[Example], figure: bytes) -> str:
    """The page.

    Args:
        title: heading.
        facts: lines about the run.
        scores: name to value.
        examples: pictures to show.
        figure: PNG of the training curves.
    """
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value:.4f}</td></tr>" for name, value in scores.items())
    lines = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    cards = "".join(_card(example) for example in examples)
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
        f"<h1>{name}</h1><table>{lines}</table><h2>Scores</h2><table>{rows}</table>"
        f'<h2>Training</h2><img class="figure" alt="training curves" src="{_data(figure)}">'
        f'<h2>Captions</h2><div class="cards">{cards}</div></html>\n'
    )


def _card(example: Example) -> str:
    small = max(example.image.size) <= 128
    buffer = io.BytesIO()
    example.image.save(buffer, "PNG")
    marks = "".join(
        f'<span class="{"ok" if holds else "no"}">{"✓" if holds else "✗"} {html.escape(text)}</span><br>'
        for text, holds in example.claims
    )
    left_out = "".join(f'<span class="no">not named: {html.escape(text)}</span><br>' for text in example.missing)
    references = "".join(f"<li>{html.escape(reference)}</li>" for reference in example.references)
    return (
        f'<div class="card{" small" if small else ""}"><img alt="{html.escape(example.image_id)}" '
        f'src="{_data(buffer.getvalue())}"><div class="caption">{html.escape(example.caption) or "(empty)"}</div>'
        f"<div>{marks}{left_out}</div><ul>{references}</ul></div>"
    )


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
