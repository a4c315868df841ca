"""Signals that are noted now and obeyed when the time is right."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class NotedSignals:
    """Notes signals instead of dying of them, for as long as its block lasts.

    Example:
        ``with NotedSignals((signal.SIGTERM,)) as noted: work(); print(noted.numbers)``

    Attributes:
        numbers: the signals so far, in order.
    """

    def __init__(self, wanted: tuple[signal.Signals, ...]) -> None:
        self.wanted = wanted
        self.numbers: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> NotedSignals:
        for number in self.wanted:
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.numbers.append(number)
