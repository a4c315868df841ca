"""A trace as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ladic.trace import Trace, TraceStep

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def trace_table(trace: Trace) -> Table:
    """A row for each evaluation: time, distances, the caption coloured by confidence, and each word's in percent.

    Where Back&Refine went back, a second row shows what it kept (green) and, in brackets, what it dropped (red).
    """
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{trace.image}: {trace.caption}", style="table.title")  # a name may have brackets in it
    table = Table(title=title, title_justify="left", show_lines=False)
    table.add_column("step", justify="right")
    table.add_column("t", justify="right")
    table.add_column("to final", justify="right")
    if trace.reference is not None:
        table.add_column("to true", justify="right")
    table.add_column("caption", overflow="fold", ratio=3)
    table.add_column("confidence, %", overflow="fold", ratio=2)
    for step in trace.steps:
        numbers = [str(step.index + 1), f"{step.t:.3f}", f"{step.to_final:.4f}"]
        if step.to_true is not None:
            numbers.append(f"{step.to_true:.4f}")
        table.add_row(*numbers, sentence(step), confidences(step))
        if step.kept is not None:
            blank = [""] * (len(numbers) - 1)
            table.add_row("back", *blank, kept_and_dropped(step), f"{sum(step.kept)} of {len(step.kept)} kept")
    return table


def sentence(step: TraceStep) -> Text:
    """The words, from red (unsure) to green."""
    from rich.text import Text

    text = Text()
    for word, sure in zip(step.tokens, step.confidence, strict=True):
        if word:
            _append(text, word, f"rgb({round(200 * (1 - sure))},{round(150 * sure)},0)")
    return text


def confidences(step: TraceStep) -> str:
    """Percent of each word that is shown."""
    pairs = zip(step.tokens, step.confidence, strict=True)
    return " ".join(f"{100 * sure:.0f}" for word, sure in pairs if word)


def kept_and_dropped(step: TraceStep) -> Text:
    """Words kept, and words dropped in brackets; positions without a word are left out."""
    from rich.text import Text

    assert step.kept is not None
    text = Text()
    for word, kept in zip(step.tokens, step.kept, strict=True):
        if word:
            _append(text, word, "green" if kept else "red", "{}" if kept else "[{}]")
    return text


def _append(text: Text, word: str, style: str, form: str = "{}") -> None:
    apart = "" if word.startswith("##") or not len(text) else " "
    text.append(apart + form.format(word.removeprefix("##")), style=style)
