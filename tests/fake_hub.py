"""A Hub of one process: what huggingface_hub's own client asks of a server to make, fill and read a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(BaseHTTPRequestHandler):
    """Keeps repositories in memory; every commit has the same hash."""

    repositories: dict[str, dict[str, bytes]]
    refuse: bool

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.refuse:
            self._json({"error": "you may not"}, 403)
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories.setdefault(name, {})
            self._json({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        elif parts[-1] == "validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif parts[4] == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            self._json({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in files]})
        elif parts[4] == "commit":
            name = "/".join(parts[2:4])
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json({"commitUrl": f"http://{self.headers['Host']}/{name}/commit/{SHA}", "commitOid": SHA})
        else:
            self._json({"error": self.path}, 404)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0].strip("/")
        parts = path.split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.repositories.get(name)
        if files is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif parts[0] == "api" and "tree" in parts:
            oid = "0" * 40
            self._json([{"type": "file", "path": p, "size": len(c), "oid": oid} for p, c in files.items()])
        elif parts[0] == "api":
            self._json({"id": name, "sha": SHA, "siblings": [{"rfilename": p} for p in files]})
        elif "/".join(parts[4:]) in files:
            content = files["/".join(parts[4:])]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", SHA)
            self.end_headers()
            if body:
                self.wfile.write(content)
        else:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing: a test's output is its own."""


@contextmanager
def fake_hub(refuse: bool = False) -> Iterator[tuple[str, dict[str, dict[str, bytes]]]]:
    """Address of a running server and its repositories: name -> path -> content."""
    handler = type("Handler", (FakeHub,), {"repositories": {}, "refuse": refuse})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.repositories  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub_in_place(monkeypatch: Any, cache: Path) -> Iterator[dict[str, dict[str, bytes]]]:
    """The server in the Hub's place, asked by huggingface_hub's real client; gives its repositories."""
    from huggingface_hub import constants

    with fake_hub() as (address, repositories):
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("{")[2]
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{{template}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        yield repositories
