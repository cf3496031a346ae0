"""CompressAI's result files: what we write is read back, by us and by its own plot tools, and published ones read."""

from __future__ import annotations

import importlib.util
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import InputError
from rd.compressai_json import export, main, read_compressai, write_compressai
from rd.curve import MEAN_CURVE
from rd.table import write_points
from tests.rd.synthetic import sweep_points

# From https://github.com/InterDigitalInc/CompressAI results/video/UVG-1080p/ssf2020-from-authors.json
PUBLISHED = {
    "name": "ssf2020-from-authors",
    "description": "Numbers reported in [Agustsson2020]",
    "results": {
        "q": [1, 2, 3],
        "psnr-rgb": [31.8495, 33.0860, 34.4086],
        "bitrate": [5011.502627, 7495.464799, 11809.71489],
    },
}


def test_a_curve_comes_back_as_it_was(tmp_path: Path) -> None:
    curve = sweep_points(1, ["hevc"]).sample(frac=1, random_state=1)
    write_compressai(curve, tmp_path / "hevc.json", "hevc", "x265 lean and base")
    back = read_compressai(tmp_path / "hevc.json")
    columns = ["kbps", "bpp", "psnr_y", "psnr_rgb", "ms_ssim_y", "vmaf", "lpips"]
    assert np.array_equal(back[columns], curve.sort_values("kbps")[columns])
    assert set(back["codec"]) == {"hevc"} and set(back["sequence"]) == {MEAN_CURVE} and set(back["regime"]) == {""}
    content = json.loads((tmp_path / "hevc.json").read_text())
    assert list(content) == ["name", "description", "results"]
    assert {"bpp", "bitrate", "psnr-rgb", "psnr-y", "ms-ssim-y"} <= set(content["results"])


def test_a_metric_with_gaps_is_left_out(tmp_path: Path) -> None:
    curve = sweep_points(1, ["hevc"])
    curve.loc[2, "vmaf"] = np.nan
    write_compressai(curve, tmp_path / "hevc.json", "hevc")
    assert "vmaf" not in read_compressai(tmp_path / "hevc.json")
    with pytest.raises(InputError, match="no points to write"):
        write_compressai(curve.iloc[:0], tmp_path / "none.json", "hevc")


def test_a_published_video_curve_is_read(tmp_path: Path) -> None:
    (tmp_path / "ssf.json").write_text(json.dumps(PUBLISHED))
    curve = read_compressai(tmp_path / "ssf.json")
    assert list(curve["psnr_rgb"]) == [31.8495, 33.0860, 34.4086]
    assert list(curve["kbps"]) == [5011.502627, 7495.464799, 11809.71489]
    assert curve["bpp"].isna().all()
    assert curve["codec"][0] == "ssf2020-from-authors"
    sized = read_compressai(tmp_path / "ssf.json", 1920, 1080, Fraction(120))
    assert sized["bpp"][0] == pytest.approx(5011502.627 / (1920 * 1080 * 120))


def test_bits_per_pixel_become_kbit_per_second_where_the_size_is_known(tmp_path: Path) -> None:
    (tmp_path / "bare.json").write_text(json.dumps({"bpp": [0.01, 0.02], "psnr": [30, 33], "encoding_time": [1, 2]}))
    curve = read_compressai(tmp_path / "bare.json", 256, 256, Fraction(30000, 1001))
    assert curve["kbps"].tolist() == pytest.approx([19.64, 39.28], abs=0.01)
    assert curve["psnr_rgb"].tolist() == [30, 33]
    assert curve["codec"][0] == "bare"
    assert read_compressai(tmp_path / "bare.json")["kbps"].isna().all()


def test_their_yuv_psnr_is_not_ours(tmp_path: Path) -> None:
    """4:1:1 against 6:1:1: reading one as the other would be wrong by tenths of a dB."""
    (tmp_path / "a.json").write_text(json.dumps({"results": {"bitrate": [1.0], "psnr-yuv": [30.0], "psnr-y": [29.0]}}))
    assert "psnr_yuv" not in read_compressai(tmp_path / "a.json")
    curve = sweep_points(1, ["hevc"]).assign(psnr_yuv=33.0)
    write_compressai(curve, tmp_path / "b.json", "hevc")
    assert read_compressai(tmp_path / "b.json")["psnr_yuv"].eq(33.0).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "a list where an object belongs"),
        ('{"results": {"psnr-rgb": [1]}}', 'no list "bpp" or "bitrate"'),
        ('{"results": [1]}', 'no list "bpp" or "bitrate"'),
        ('{"results": {"bpp": [1, 2], "psnr-rgb": [1]}}', r"different lengths: \[1, 2\]"),
        ('{"results": {"bpp": [1, "x"]}}', "'bpp' is not a list of numbers"),
        ('{"results": {"bpp": 1}}', "'bpp' is not a list of numbers"),
        ('{"results": {"bpp": []}}', "'bpp' is empty"),
    ],
)
def test_what_is_no_result_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=rf"bad\.json.*{message}"):
        read_compressai(tmp_path / "bad.json")
    with pytest.raises(InputError, match="does not exist"):
        read_compressai(tmp_path / "nowhere.json")


def test_a_sweep_is_written_by_sequence_and_as_a_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = sweep_points(3, ["hevc", "vvc"])
    write_points(points, tmp_path / "points.csv")
    assert main([str(tmp_path), str(tmp_path / "json")]) == 0
    assert capsys.readouterr().out.startswith("8 curves written")
    mean = read_compressai(tmp_path / "json" / "one-intra" / "vvc.json")
    one = read_compressai(tmp_path / "json" / "one-intra" / "seq_02" / "vvc.json")
    assert len(one) == 7 and len(mean) == 9
    assert mean["bpp"].tolist() == pytest.approx(mean["kbps"] * 1000 / (256 * 256 * 25))
    curves = [points[(points["codec"] == "vvc") & (points["sequence"] == s)] for s in ("seq_00", "seq_01", "seq_02")]
    for metric in ("psnr_y", "lpips"):
        middle = mean.iloc[4]
        at_rate = [np.interp(np.log(middle["kbps"]), np.log(c["kbps"]), c[metric]) for c in curves]
        assert middle[metric] == pytest.approx(np.mean(at_rate), rel=0.02)


def test_sequences_without_common_rates_have_no_mean(tmp_path: Path) -> None:
    points = sweep_points(2, ["hevc"])
    points.loc[points["sequence"] == "seq_01", "kbps"] *= 100
    with pytest.raises(InputError, match="'hevc' share no range of rates"):
        export(points, tmp_path)


def plot_tool(folder: str) -> Any:
    """A plot script of the installed CompressAI, loaded by itself: the package around it would load torch."""
    package = importlib.util.find_spec("compressai")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("CompressAI is not installed")
    file = Path(package.submodule_search_locations[0]) / folder / "__main__.py"
    spec = importlib.util.spec_from_file_location(f"compressai_{folder.replace('/', '_')}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plot_tools_of_compressai_read_our_files(tmp_path: Path) -> None:
    image, video = plot_tool("utils/plot"), plot_tool("utils/video/plot")
    curve = sweep_points(1, ["vvc"])
    write_compressai(curve, tmp_path / "vvc.json", "vvc (libvvenc)")
    read = image.parse_json_file(tmp_path / "vvc.json", "psnr")
    assert read == {"name": "vvc (libvvenc)", "xs": curve["bpp"].tolist(), "ys": curve["psnr_rgb"].tolist()}
    read = video.parse_json_file(tmp_path / "vvc.json", "psnr-y")
    assert (read["xs"], read["ys"]) == (curve["kbps"].tolist(), curve["psnr_y"].tolist())
    in_db = video.parse_json_file(tmp_path / "vvc.json", "ms-ssim-y")["ys"]
    assert in_db == pytest.approx(-10 * np.log10(1 - curve["ms_ssim_y"].to_numpy()))
