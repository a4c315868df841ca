"""One line of the doctor's."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "note", "bad"]


class Finding(NamedTuple):
    """What was looked at, how it is, and in words.

    Attributes:
        name: what was looked at.
        verdict: "note" is something that a run can do without; "bad" will stop one.
        text: what was found, and after "note" and "bad" what would help.
    """

    name: str
    verdict: Verdict
    text: str
