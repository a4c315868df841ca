"""Visitors name no files: of what they send to the page's own routes, only paths of their uploads are let through.

Gradio hands files around by their paths on the server. It looks whether a path is an upload only in apps that it
launched itself, and fetches addresses; here both are settled before a request reaches it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST = 2**20  # bytes of an event: settings, and where the picture was uploaded to


class UploadsAlone:
    """ASGI middleware: refuses events of the page that name a file outside ``folder``.

    Args:
        app: what comes behind.
        folder: where uploads go.
        prefix: of the page's routes.
    """

    def __init__(self, app: ASGIApp, folder: str, prefix: str = "/gradio_api/") -> None:
        self.app, self.folder, self.prefix = app, Path(folder).resolve(), prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope.get("path", "")
        events = scope["type"] == "http" and scope["method"] == "POST" and route.startswith(self.prefix)
        if not events or route == f"{self.prefix}upload":
            await self.app(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more and len(body) <= _MOST:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > _MOST or not self.harmless(bytes(body)):
            await JSONResponse({"error": "only files that were uploaded here are accepted"}, 400)(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, replay, send)

    def harmless(self, body: bytes) -> bool:
        """Whether every path in an event is that of an upload, and no address is to be fetched or holds a picture."""
        try:
            event = json.loads(body or b"null")
        except (ValueError, RecursionError):
            return False
        held = any(str(url).startswith("data:") for url in _named(event, "url"))  # gradio decodes it, whatever its size
        return not held and all(self._uploaded(path) for path in _named(event, "path"))

    def _uploaded(self, path: Any) -> bool:
        if not isinstance(path, str):
            return path is None
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)


def _named(value: Any, name: str) -> Iterator[Any]:
    """What stands under a name anywhere in a value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if name in value:
                yield value[name]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
