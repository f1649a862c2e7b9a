"""One note in a merge request of GitLab, which later runs update instead of adding another one.

The note has one mark (``marks``) in its first line. Only notes of the owner of the token are updated.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import goldenami
from goldenami.ci import marks
from goldenami.errors import AccessError, GoldenAmiError, NotFound, UsageError
from goldenami.nextstep import step
from goldenami.redirects import NoRedirects

TOKEN: Final = "GOLDENAMI_GITLAB_TOKEN"  # the name of a variable
_LONGEST: Final = 900_000  # characters; GitLab allows 1,000,000 in a note
_PAGE: Final = 100
_MOST_PAGES: Final = 100
_PATIENCE: Final = 30.0  # seconds without an answer
_PLAIN: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9 ._/:-]{0,199}")

Posted = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """A merge request. ``api``: the address of GitLab's API, such as https://gitlab.example.com/api/v4."""

    api: str
    project: str
    iid: str
    token: str = field(repr=False)

    @classmethod
    def of_job(cls, variables: Mapping[str, str]) -> MergeRequest | None:
        """Return the merge request of the pipeline of a job; None if the pipeline has none, or there is no token.

        Raises UsageError outside of a job, and for a token that cannot be in a header: http.client would quote it.
        """
        api, project = variables.get("CI_API_V4_URL", ""), variables.get("CI_PROJECT_ID", "")
        if not api or not project:
            raise UsageError(
                "CI_API_V4_URL and CI_PROJECT_ID are missing, expected a job of GitLab",
                hint="Run this command in a job of a pipeline; GitLab sets these variables.",
            )
        if urlsplit(api).scheme not in ("http", "https"):
            raise UsageError(f"CI_API_V4_URL is {api}, expected an address with https://")
        iid, token = variables.get("CI_MERGE_REQUEST_IID", ""), variables.get(TOKEN, "")
        if not (token.isascii() and token.isprintable()):
            raise UsageError(
                f"{TOKEN} has a line break or another character that is not printable ASCII",
                hint="Set the variable again, without a line break at its end. Its value is not shown here.",
            )
        return cls(api.rstrip("/"), project, iid, token) if iid and token else None


def post(where: MergeRequest, text: str, mark: str | None = None) -> Posted:
    """Write a note, or update the one with the same mark. A second call with the same text changes nothing.

    ``mark``: takes the place of the mark in the first line of the text, as the Markdown of plans has one. Raises
    UsageError if there is none, AccessError if the token is refused, NotFound for an unknown merge request, and
    GoldenAmiError if GitLab does not answer. No message has the token.
    """
    found, rest = marks.split(text)
    if mark is not None:
        if not _PLAIN.fullmatch(mark):
            raise UsageError(f"the mark is {mark!r}, expected 1 to 200 letters, digits, spaces and . _ / : -")
        own = marks.mark(mark)
    elif found:
        own = found[0]
    else:
        raise UsageError(
            f"the text does not begin with a mark, as that of {step('plan', '--all', '--markdown')} does",
            hint="Give it one with --mark NAME.",
        )
    text = f"{own}\n{rest}"
    body = _shortened(text)
    notes = f"/projects/{quote(where.project, safe='')}/merge_requests/{quote(where.iid, safe='')}/notes"
    user = _call(where, "GET", "/user")["id"]
    for note in _every(where, notes):
        if note["author"]["id"] == user and own in marks.split(str(note["body"]))[0]:
            if note["body"].rstrip() == body.rstrip():
                return "unchanged"
            _call(where, "PUT", f"{notes}/{note['id']}", {"body": body})
            return "updated"
    _call(where, "POST", notes, {"body": body})
    return "created"


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST].rpartition(chr(10))[0]}\n\nThe rest is in the artifacts of the job.\n"


def _every(where: MergeRequest, notes: str) -> Iterator[dict[str, Any]]:
    for page in range(1, _MOST_PAGES + 1):
        found = _call(where, "GET", f"{notes}?sort=asc&order_by=created_at&per_page={_PAGE}&page={page}")
        yield from found
        if len(found) < _PAGE:
            return


def _call(where: MergeRequest, method: str, path: str, values: Mapping[str, Any] | None = None) -> Any:
    request = urllib.request.Request(  # of_job checks the scheme
        where.api + path,
        method=method,
        data=json.dumps(values).encode() if values is not None else None,
        headers={
            "PRIVATE-TOKEN": where.token,
            "Content-Type": "application/json",
            "User-Agent": f"goldenami/{goldenami.__version__}",
        },
    )
    try:
        # Without redirects: the token is for this address only.
        with _OPENER.open(request, timeout=_PATIENCE) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise _refused(error.code, method, path) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise GoldenAmiError(f"GitLab did not answer {method} {path}: {reason}") from None


_OPENER = urllib.request.build_opener(NoRedirects)


def _refused(status: int, method: str, path: str) -> GoldenAmiError:
    message = f"GitLab refused {method} {path.partition('?')[0]}: HTTP status {status}"
    if status in (401, 403):
        hint = f"{TOKEN} needs a project access token with the scope api and the role Reporter or higher."
        return AccessError(message, hint=hint)
    return NotFound(message) if status == 404 else GoldenAmiError(message)
