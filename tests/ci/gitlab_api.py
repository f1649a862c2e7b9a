"""A server that answers as GitLab's notes API does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from goldenami.ci import note

TOKEN = "glpat-not-a-real-one"
ME, OTHER = 7, 8


@dataclass
class GitLab:
    """The notes of the merge request 12 of the project 34 ("Notes API", GitLab)."""

    notes: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    redirect: str = ""
    url: str = ""

    def add(self, body: str, author: int) -> dict[str, Any]:
        self.notes.append({"id": 100 + len(self.notes), "body": body, "author": {"id": author}})
        return self.notes[-1]

    def answer(self, method: str, url: str, token: str | None, values: Any) -> tuple[int, Any]:
        address = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.asked.append(f"{method} {address.path}")
        if self.redirect:
            return 302, None
        if token != TOKEN:
            return 401, {"message": "401 Unauthorized"}
        notes = "/api/v4/projects/34/merge_requests/12/notes"
        match (method, address.path):
            case "GET", "/api/v4/user":
                return 200, {"id": ME}
            case "GET", path if path == notes:
                size, page = min(int(query.get("per_page", 20)), 100), int(query.get("page", 1))
                return 200, self.notes[size * (page - 1) : size * page]
            case "POST", path if path == notes:
                if not values["body"] or len(values["body"]) > 1_000_000:
                    return 400, {"message": "body is invalid"}
                return 201, self.add(values["body"], ME)
            case "PUT", path if path.startswith(f"{notes}/"):
                found = next(one for one in self.notes if str(one["id"]) == path.rpartition("/")[2])
                if found["author"]["id"] != ME:
                    return 403, {"message": "403 Forbidden"}
                found["body"] = values["body"]
                return 200, found
        return 404, {"message": "404 Not found"}

    @property
    def variables(self) -> dict[str, str]:
        """The variables of a job in the pipeline of the merge request."""
        return {
            "CI_API_V4_URL": self.url,
            "CI_PROJECT_ID": "34",
            "CI_MERGE_REQUEST_IID": "12",
            note.TOKEN: TOKEN,
        }


@contextmanager
def serving() -> Iterator[GitLab]:
    """Yield a GitLab that listens on loopback."""
    fake = GitLab()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            values = json.loads(self.rfile.read(length)) if length else None
            status, answer = fake.answer(self.command, self.path, self.headers.get("PRIVATE-TOKEN"), values)
            self.send_response(status)
            if fake.redirect:
                self.send_header("Location", fake.redirect)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/api/v4"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
