"""The HTTP API: the bytes of a picture in the body, settings in the address, JSON back.

    curl --data-binary @photo.jpg 'http://127.0.0.1:7860/api/caption?num_candidates=5'

Nothing that is sent names a file: there is no path to give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ladic import __version__
from ladic.errors import UsageError
from ladic.serve.service import CaptionService, Settings, TooLarge
from ladic.trace_pictures import trace_gif

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def settings_of_one(
    num_steps: int | None = None, guidance_scale: float | None = None, seed: int | None = None
) -> Settings:
    """Settings where a single caption is drawn."""
    return Settings(num_steps, guidance_scale, None, seed)


Asked = Annotated[Settings, Depends()]
AskedOfOne = Annotated[Settings, Depends(settings_of_one)]
"""Settings from the address, of several candidates and of one."""


def build_api(service: CaptionService, host: str = "127.0.0.1") -> FastAPI:
    """An application with the API's routes.

    Args:
        service: does the work.
        host: address that the server listens on. On the machine's own, only requests for its own names are answered: a
            web page elsewhere can't reach it through a name that it made point here.
    """
    app = FastAPI(title="LaDiC", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])

    @app.get("/api")
    def about() -> dict[str, Any]:
        """Models, their settings, and limits."""
        return {
            "version": __version__,
            "models": {name: service.defaults(name) for name in service.models},
            "limits": dataclasses.asdict(service.limits),
            "routes": ["/api/caption", "/api/infill?template=…", "/api/trace", "/api/trace.gif"],
        }

    @app.exception_handler(UsageError)
    async def refused(request: Request, error: UsageError) -> JSONResponse:
        """What is wrong with a request, as one line of JSON."""
        return JSONResponse({"error": str(error)}, 413 if isinstance(error, TooLarge) else 400)

    @app.post("/api/caption")
    async def caption(request: Request, settings: Asked, model: str | None = None) -> Response:
        """A caption of the picture in the body, and all candidates."""
        return await answered(request, lambda image: as_json(service.caption(image, settings, model)))

    @app.post("/api/infill")
    async def infill(request: Request, template: str, settings: Asked, model: str | None = None) -> Response:
        """The template, with its blanks filled for the picture in the body."""
        return await answered(request, lambda image: as_json(service.infill(image, template, settings, model)))

    @app.post("/api/trace")
    async def trace(request: Request, settings: AskedOfOne, model: str | None = None) -> Response:
        """What the caption was at every step."""
        return await answered(request, lambda image: as_json(service.trace(image, settings, model)))

    @app.post("/api/trace.gif")
    async def animation(request: Request, settings: AskedOfOne, model: str | None = None) -> Response:
        """The same as a picture that moves."""

        def draw(image: Image.Image) -> Response:
            return Response(trace_gif(service.trace(image, settings, model)), media_type="image/gif")

        return await answered(request, draw)

    async def answered(request: Request, work: Callable[[Image.Image], Response]) -> Response:
        """Reads the picture, and works in a thread."""
        data = await limited_body(request, service.limits.bytes)

        def run() -> Response:
            with service.opened(data) as image:
                return work(image)

        return await run_in_threadpool(run)

    return app


async def limited_body(request: Request, most: int) -> bytes:
    """The body, read no further than the limit.

    Raises:
        TooLarge: as soon as it is longer.
        UsageError: if it is empty.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise TooLarge(f"image: larger than the {most / 2**20:g} MiB that are accepted")
    if not data:
        raise UsageError("image: the body is empty; send the bytes of a picture (curl --data-binary @photo.jpg …)")
    return bytes(data)


def as_json(found: Any) -> JSONResponse:
    """A result as JSON; the picture has no name here."""
    values = dataclasses.asdict(found)
    values.pop("image", None)
    return JSONResponse(values)
