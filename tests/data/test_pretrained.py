"""Pretrained weights: found in the given folder before the cache, missing with a usable reason, downloads checked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from data import pretrained
from data.errors import InputError, WeightsUnavailable
from rd.columns import METRICS
from rd.metrics import compute, version
from tests.clips import moving_clip
from tests.paths import METRIC_WEIGHTS, needs_shared


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Empty folders in the places of the real ones, and no leave to download."""
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(given))
    monkeypatch.setenv("HDAC_CACHE", str(cache))
    monkeypatch.delenv("HDAC_DOWNLOAD", raising=False)
    return SimpleNamespace(given=given, cache=cache / "weights")


def serve(monkeypatch: pytest.MonkeyPatch, contents: bytes) -> list[str]:
    """Replaces the network by `contents` for any address, and returns the list that collects the addresses."""
    asked: list[str] = []

    def download(url: str, path: Path, sha256: str | None = None) -> Path:
        asked.append(url)
        path.write_bytes(contents)
        return path

    monkeypatch.setattr(pretrained, "download", download)
    return asked


def put(folder: Path, path: str, contents: bytes = b"weights") -> Path:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(contents)
    return folder / path


def test_missing_weights_say_which_file_where_and_how_to_get_it(folders: SimpleNamespace) -> None:
    with pytest.raises(WeightsUnavailable) as reason:
        pretrained.find("vgg19")
    for part in ("vgg19-dcbb9e9d.pth", str(folders.given), str(folders.cache), "data.pretrained fetch vgg19", "pytorch.org"):
        assert part in str(reason.value)


def test_missing_weights_without_an_address_say_where_they_come_from(folders: SimpleNamespace) -> None:
    with pytest.raises(WeightsUnavailable, match=r"mobilefacenet_ms1m_112x112\.onnx.*put the file there.*github\.com"):
        pretrained.find("mobilefacenet")


def test_the_given_folder_comes_before_the_cache(folders: SimpleNamespace) -> None:
    cached = put(folders.cache, "vgg16-397923af.pth")
    assert pretrained.find("vgg16") == cached
    given = put(folders.given, "vgg16-397923af.pth")
    assert pretrained.find("vgg16") == given


def test_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, b"")
    with pytest.raises(WeightsUnavailable):
        pretrained.find("alexnet")
    assert asked == []


def test_a_permitted_download_lands_in_the_cache_once(
    folders: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = b"a network"
    digest = hashlib.sha256(contents).hexdigest()
    file = pretrained.WeightsFile(("net.pth",), "a test", "https://example.org/net.pth", digest[:8], metrics=("lpips",))
    monkeypatch.setitem(pretrained.FILES, "net", file)
    monkeypatch.setenv("HDAC_DOWNLOAD", "1")
    asked = serve(monkeypatch, contents)
    assert pretrained.find("net") == pretrained.find("net") == folders.cache / "net.pth"
    assert asked == ["https://example.org/net.pth"]
    assert pretrained.checksums("lpips")["net"] == digest


def test_a_download_with_a_wrong_checksum_is_refused_and_removed(
    folders: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, b"not AlexNet")
    with pytest.raises(InputError, match="7be5be79"):
        pretrained.fetch("alexnet")
    assert list(folders.cache.iterdir()) == []
    monkeypatch.setenv("HDAC_DOWNLOAD", "1")
    with pytest.raises(WeightsUnavailable, match="download failed"):
        pretrained.find("alexnet")


def test_checksums_follow_a_replaced_file(folders: SimpleNamespace) -> None:
    put(folders.given, "vgg16-397923af.pth", b"one")
    before = pretrained.checksums("lpips_vgg")["vgg16"]
    put(folders.given, "vgg16-397923af.pth", b"another")
    assert pretrained.checksums("lpips_vgg")["vgg16"] != before


def test_weights_belong_to_columns_and_a_column_s_version_is_of_its_own_weights_alone(folders: SimpleNamespace) -> None:
    assert {column for file in pretrained.FILES.values() for column in file.metrics} <= set(METRICS)
    put(folders.given, "vgg16-397923af.pth", b"one")
    before = {column: version(column) for column in ("dists", "lpips", "nme", "psnr_y")}
    put(folders.given, "alexnet-owt-7be5be79.pth", b"of LPIPS with AlexNet")
    assert {column: version(column) for column in before} == before
    put(folders.given, "vgg16-397923af.pth", b"another")
    assert {column for column in before if version(column) != before[column]} == {"dists"}


@needs_shared
def test_every_weights_file_that_a_metric_opens_is_part_of_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(METRIC_WEIGHTS))
    opened: set[str] = set()
    find = pretrained.find

    def noted(name: str) -> Path:
        opened.add(name)
        return find(name)

    monkeypatch.setattr(pretrained, "find", noted)
    clip = moving_clip(2, 64, 64)
    for column in METRICS:
        opened.clear()
        compute(clip, clip, [column])
        asked = {name for name, file in pretrained.FILES.items() if column in file.metrics}
        assert opened <= asked, column


def test_fetch_refuses_unknown_names_and_files_without_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="'vgg17'"):
        pretrained.fetch("vgg17")
    with pytest.raises(InputError, match="no official address"):
        pretrained.fetch("iris")


def test_list_names_every_file_and_says_what_is_missing(
    folders: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(folders.given, "vgg16-397923af.pth")
    assert pretrained.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(pretrained.FILES)
    assert f"vgg16            {path}" in lines
    assert any(line.startswith("yunet") and "missing" in line for line in lines)


@needs_shared
def test_pinned_checksums_are_those_of_the_published_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(METRIC_WEIGHTS))
    found = pretrained.checksums("nme") | pretrained.checksums("pose_deg")
    for name in ("yunet", "pfld_68", "fsanet_1x1", "fsanet_var"):
        assert found[name] == pretrained.FILES[name].sha256
