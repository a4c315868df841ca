"""The report of a run as one self-contained HTML page: scores, curves, lengths, pictures with captions."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;max-width:68rem;margin:0 auto;padding:1.2rem 1rem 3rem;color:#1c2330;
background:#fff;overflow-wrap:break-word}
h1{font-size:1.5rem;margin:.6rem 0 1rem}h2{font-size:1.15rem;margin:2rem 0 .6rem;padding-top:.8rem;
border-top:1px solid #e3e7ee}
table{border-collapse:collapse;max-width:100%}td,th{padding:.2rem 1rem .2rem 0;text-align:left;vertical-align:top}
table.scores td:nth-child(n+2),table.scores th:nth-child(n+2){text-align:right;font-variant-numeric:tabular-nums}
table.scores td:first-child{white-space:nowrap}table.scores tr+tr td{border-top:1px solid #eef1f5}th{font-weight:600}
td.key{color:#5a6475;white-space:nowrap}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr));gap:1rem}
.card{border:1px solid #d8dde6;border-radius:8px;padding:.8rem;min-width:0}
.card img{width:100%;max-height:18rem;object-fit:contain;background:#f4f6f9;border-radius:4px;display:block}
.small img{width:160px;image-rendering:pixelated}.caption{font-weight:600;margin:.5rem 0 .2rem}
.card .numbers{color:#5a6475;font-size:.85rem;font-variant-numeric:tabular-nums;margin:.2rem 0}
ul{margin:.3rem 0;padding-left:1.1rem;color:#5a6475;font-size:.9rem}.ok{color:#0a7d33}.no{color:#b3261e}
.wide{overflow-x:auto}img.figure{width:100%;max-width:1100px;min-width:40rem;height:auto;display:block}
.note{color:#5a6475;margin:.4rem 0 .8rem}
@media(max-width:36rem){td.key{white-space:normal}td,th{padding-right:.7rem}}
"""
_SMALL = 128  # pixels; smaller pictures are drawings, shown dot by dot
_WIDEST = 640  # pixels of a photograph; more would only make the file large


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
        scores: (name, value as shown) of this image.
    """

    image_id: str
    image: Image.Image
    caption: str
    references: list[str]
    claims: list[tuple[str, bool]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    scores: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class ScoreRow:
    """A line of the table of scores: values as shown, the reason where there is none."""

    name: str
    score: str
    control: str = ""
    why_not: str = ""


def page(
    title: str,
    facts: dict[str, str],
    scores: Sequence[ScoreRow],
    sections: Sequence[tuple[str, Sequence[Example]]],
    figures: Sequence[tuple[str, bytes]],
) -> str:
    """The page.

    Args:
        title: heading.
        facts: lines about the run.
        scores: lines of the table.
        sections: heading and pictures, in their order; empty ones are left out.
        figures: heading and PNG.
    """
    lines = "".join(
        f'<tr><td class="key">{html.escape(k)}</td><td>{html.escape(v)}</td></tr>' for k, v in facts.items()
    )
    drawn = "".join(
        f'<h2>{html.escape(heading)}</h2><div class="wide"><img class="figure" '
        f'alt="{html.escape(heading)}" src="{_data(png, "png")}"></div>'
        for heading, png in figures
    )
    shown = "".join(
        f'<h2>{html.escape(heading)}</h2><div class="cards">{"".join(map(_card, examples))}</div>'
        for heading, examples in sections
        if examples
    )
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}</title><style>{STYLE}</style><h1>{name}</h1><table>{lines}</table>"
        f"<h2>Scores</h2>{_score_table(scores)}{drawn}{shown}</html>\n"
    )


def _score_table(scores: Sequence[ScoreRow]) -> str:
    controlled = any(row.control for row in scores)
    head = "<th></th><th>score</th>" + ("<th>other image's caption</th>" if controlled else "")
    rows = []
    missing: dict[str, list[str]] = {}
    for row in scores:
        if row.why_not:
            missing.setdefault(row.why_not, []).append(row.name)
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in (row.name, row.score))
        rows.append(f"<tr>{cells}{f'<td>{html.escape(row.control)}</td>' if controlled else ''}</tr>")
    note = "Times 100, as papers print them; lengths, shares of repeated words and distinct-n as they are."
    reasons = "".join(
        f'<p class="note">{html.escape(", ".join(names))}: null, because {html.escape(reason)}</p>'
        for reason, names in missing.items()
    )
    return f'<p class="note">{note}</p><table class="scores"><tr>{head}</tr>{"".join(rows)}</table>{reasons}'


def _card(example: Example) -> str:
    small = max(example.image.size) <= _SMALL
    marks = "".join(
        f'<span class="{"ok" if holds else "no"}">{"✓" if holds else "✗"} {html.escape(text)}</span><br>'
        for text, holds in example.claims
    )
    left_out = "".join(f'<span class="no">not named: {html.escape(text)}</span><br>' for text in example.missing)
    references = "".join(f"<li>{html.escape(reference)}</li>" for reference in example.references)
    numbers = " · ".join(f"{html.escape(name)} {html.escape(value)}" for name, value in example.scores)
    return (
        f'<div class="card{" small" if small else ""}"><img alt="{html.escape(example.image_id)}" '
        f'src="{_picture(example.image, small)}"><div class="caption">{html.escape(example.caption) or "(empty)"}</div>'
        f'<div class="numbers">{html.escape(example.image_id)}{" · " if numbers else ""}{numbers}</div>'
        f"<div>{marks}{left_out}</div><ul>{references}</ul></div>"
    )


def _picture(image: Image.Image, small: bool) -> str:
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG")
        return _data(buffer.getvalue(), "png")
    copy = image.convert("RGB")
    copy.thumbnail((_WIDEST, _WIDEST))
    copy.save(buffer, "JPEG", quality=85)
    return _data(buffer.getvalue(), "jpeg")


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
