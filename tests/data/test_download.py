"""A download ends with the right bytes in place, or with an error and nothing in place."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import data.download
from data.download import download
from data.errors import DownloadError, HdacError, InputError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A loopback file server with the faults that a test asks for."""

    content = CONTENT
    etag: str | None = '"v1"'
    ranges = True
    drop_after: int | None = None
    """Each connection breaks off after so many bytes."""
    status: int | None = None
    location = ""
    announce = True
    """Whether answers carry a Content-Length."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        """The Range header of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, range_header = self.server, self.headers.get("Range")
        server.asked.append(range_header)
        if server.status:
            self.send_response(server.status)
            if server.location:
                self.send_header("Location", server.location)
            self.end_headers()
            return
        start = 0
        if range_header and server.ranges and self.headers.get("If-Range") in (None, server.etag):
            start = int(range_header.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.announce:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body[: server.drop_after])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(data.download, "PAUSE_SECONDS", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    path = download(server.url, tmp_path / "sub" / "file.bin", SHA256.upper())
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_file_in_place_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    for sha256 in (SHA256, SHA256, None):
        download(server.url, tmp_path / "file.bin", sha256)
    assert len(server.asked) == 1


def test_a_file_with_the_wrong_contents_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"old version")
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT


def test_broken_connections_are_resumed(server: Server, tmp_path: Path) -> None:
    server.drop_after = 100_000
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_call_goes_on_where_an_earlier_one_stopped(server: Server, tmp_path: Path) -> None:
    server.drop_after = 100_000
    server.ranges = False
    with pytest.raises(DownloadError, match="broke off"):
        download(server.url, tmp_path / "file.bin")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.bin.part", "file.bin.part.origin"]
    server.drop_after, server.ranges = None, True
    server.asked.clear()
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == ["bytes=100000-"]


def test_a_changed_file_is_never_joined_to_the_old_part(server: Server, tmp_path: Path) -> None:
    server.drop_after, server.ranges = 100_000, False
    with pytest.raises(DownloadError):
        download(server.url, tmp_path / "file.bin")
    server.drop_after, server.ranges = None, True
    server.etag, server.content = '"v2"', CONTENT[::-1]
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT[::-1]


def test_without_a_version_a_part_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.etag = None
    (tmp_path / "file.bin.part").write_bytes(b"from somewhere else")
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_server_that_ignores_ranges_sends_all_of_it(server: Server, tmp_path: Path) -> None:
    server.ranges, server.drop_after = False, 100_000
    with pytest.raises(DownloadError):
        download(server.url, tmp_path / "file.bin", SHA256)
    server.drop_after = None
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT


def test_a_complete_part_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.origin").write_text(f'{{"url": "{server.url}", "version": "\\"v1\\""}}')
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_server_without_content_length_is_read_to_its_end(server: Server, tmp_path: Path) -> None:
    server.announce = False
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"SHA-256 is {SHA256}, expected 00"):
        download(server.url, tmp_path / "file.bin", "00" * 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (503, data.download.ATTEMPTS)])
def test_refusals_name_the_status(server: Server, tmp_path: Path, status: int, asked: int) -> None:
    server.status = status
    with pytest.raises(DownloadError, match=str(status)):
        download(server.url, tmp_path / "file.bin")
    assert len(server.asked) == asked


def test_offline_is_said_in_one_clear_line(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"offline\? .* by hand: .*file\.bin$") as caught:
        download(url, tmp_path / "file.bin")
    assert url in str(caught.value)
    assert isinstance(caught.value, HdacError)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "file:///etc/hostname", "data:,x", "/etc/hostname"])
def test_only_http_is_followed(server: Server, tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="only http and https"):
        download(url, tmp_path / "a")
    server.status, server.location = 302, url
    if "://" in url:
        with pytest.raises(HdacError):
            download(server.url, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    with Server() as first:
        first.status, first.location = 302, server.url
        thread = threading.Thread(target=first.serve_forever, args=(0.01,))
        thread.start()
        assert download(first.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT
        first.shutdown()
        thread.join()
