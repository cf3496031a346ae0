"""Fetching one file over HTTP: resumed after a break, checked against its SHA-256, whole or not at all.

While it is incomplete the file is called NAME.part; NAME.part.origin holds its URL and the server's version of it
(ETag or date), so that a later run goes on where this one stopped and never joins two versions.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data.errors import DownloadError, InputError
from data.files import file_sha256, write_atomic

ATTEMPTS = 4
"""How often in a row a download may break without a new byte before it is given up."""
PAUSE_SECONDS = 1.0
"""Before the second attempt; doubled before each further one."""
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 16


def download(url: str, path: str | os.PathLike[str], sha256: str | None = None) -> Path:
    """Fetches `url` to `path` and returns the path; a file that is there already (and matches `sha256`) is kept.

    sha256: of the whole file, in hexadecimal; without it only the length that the server announced is checked.

    Raises InputError for a URL that is not http or https, DownloadError for everything else. A broken download stays
    beside `path` as .part for the next call; a complete one with the wrong checksum is removed.
    """
    path = Path(path)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"cannot download {url!r}: only http and https addresses")
    if path.is_file() and (sha256 is None or file_sha256(path) == sha256.lower()):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    origin = path.with_name(f"{path.name}.part.origin")
    _fetch(url, part, origin)
    if sha256 is not None and (found := file_sha256(part)) != sha256.lower():
        part.unlink()
        origin.unlink(missing_ok=True)
        raise DownloadError(f"{url}: SHA-256 is {found}, expected {sha256.lower()}; the file was thrown away")
    os.replace(part, path)
    origin.unlink(missing_ok=True)
    return path


def _fetch(url: str, part: Path, origin: Path) -> None:
    """Completes `part`, over as many connections as it takes while each brings something."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _continue(url, part, origin):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DownloadError(f"{url}: the server says {error.code} {error.reason}") from error
            reason = f"the server says {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise DownloadError(
                f"cannot download {url}: {reason}. Is this machine offline? The file can also be put in place by hand: "
                f"{part.with_suffix('')}"
            )
        time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def _continue(url: str, part: Path, origin: Path) -> bool:
    """One connection, from where `part` ends; whether the file is complete after it."""
    have = _size(part)
    version = _version_of(url, origin)
    headers = {"User-Agent": "hdac", "Accept-Encoding": "identity"}
    if have and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    else:
        have = 0
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing follows the bytes that are here: they are all of it, or of something else.
        complete = error.headers.get("Content-Range") == f"bytes */{have}"
        error.close()
        if not complete:
            part.unlink()
        return complete
    with response:
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not span or int(span[1]) != have:
                raise DownloadError(f"{url}: the server answered with another part of the file than asked for")
            total: int | None = int(span[2])
        else:  # the server does not resume, or the file has changed
            have = 0
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            if version.startswith("W/"):
                version = ""  # a weak tag does not promise equal bytes
            write_atomic(origin, json.dumps({"url": url, "version": version}))
        with part.open("ab" if have else "wb") as file, _progress(part, have, total) as bar:
            while block := response.read(CHUNK_BYTES):
                file.write(block)
                bar.update(len(block))
    return total is None or _size(part) == total


def _opener() -> urllib.request.OpenerDirector:
    """As urllib's own, but a redirection leads to http or https only."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler, _HttpRedirects,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request: Any, fp: Any, code: int, message: str, headers: Any, url: str) -> Any:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"{request.full_url}: redirects to {url}, which is not http or https")
        return super().redirect_request(request, fp, code, message, headers, url)


def _version_of(url: str, origin: Path) -> str:
    """ETag or date of the version that the part is of; empty where it cannot be continued."""
    try:
        noted = json.loads(origin.read_text())
        return str(noted["version"]) if noted["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _progress(part: Path, have: int, total: int | None) -> Any:
    """A bar on a terminal, nothing in a log."""
    return tqdm(initial=have, total=total, unit="B", unit_scale=True, desc=part.with_suffix("").name, disable=None)
