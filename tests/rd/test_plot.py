"""Plots show the points that were measured, with units, distinct styles and file names that never collide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.errors import InputError
from hdac.families import MOBILE
from rd.curve import MEAN_CURVE
from rd.plot import (
    AT_EQUAL_SETTING,
    MANY,
    PAGE_INCHES,
    PANEL_INCHES,
    STYLES,
    codec_styles,
    difference_figure,
    main,
    rd_figure,
    save_figure,
)
from rd.table import file_stem, write_points
from tests.rd.synthetic import sweep_points


def markers_of(axis: Axes, codec: str) -> np.ndarray:
    """(N, 2) rate and quality of the markers on a codec's curve."""
    style = codec_styles([codec])[codec]
    for line in axis.get_lines():
        if line.get_color() == style.colour and line.get_linestyle() == "None" and line.get_zorder() > 2:
            return np.column_stack(line.get_data())
    raise AssertionError(f"{codec} is not drawn")


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_markers_are_the_measured_points_and_the_line_runs_through_them() -> None:
    points = sweep_points(2)
    figure = rd_figure(points, "psnr_y", "seq_01")
    (axis,) = figure.axes
    for codec in ("hevc", "av1"):
        rows = points[(points["codec"] == codec) & (points["sequence"] == "seq_01")]
        assert markers_of(axis, codec) == pytest.approx(rows[["kbps", "psnr_y"]].to_numpy())
    line = next(x for x in axis.get_lines() if x.get_color() == STYLES["hevc"].colour and x.get_linestyle() == "-")
    x, y = line.get_data()
    shown = markers_of(axis, "hevc")
    assert np.interp(np.log(shown[:, 0]), np.log(np.asarray(x)), np.asarray(y)) == pytest.approx(shown[:, 1], abs=0.01)
    assert legend_of(figure) == ["hevc", "hevc-paper", "vvc", "av1", "h264"]
    assert axis.get_xlabel() == "Rate (kbit/s)" and axis.get_ylabel() == "PSNR-Y (dB)"
    assert "seq_01" in axis.get_title() and "one-intra" in axis.get_title()


def test_a_beaten_point_is_drawn_hollow_off_the_line() -> None:
    points = sweep_points(1, ["hevc"])
    beaten = points.iloc[[3]].assign(point=9, kbps=points["kbps"][3] * 1.4, psnr_y=points["psnr_y"][3] - 1)
    (axis,) = rd_figure(pd.concat([points, beaten]), "psnr_y", "seq_00").axes
    hollow = [line for line in axis.get_lines() if line.get_markerfacecolor() == "white"]
    assert [np.asarray(line.get_xdata())[0] for line in hollow] == [beaten["kbps"].iloc[0]]
    assert len(markers_of(axis, "hevc")) == 7


def test_failed_points_are_not_drawn() -> None:
    points = sweep_points(1, ["hevc"])
    points.loc[2, "status"] = "failed"
    (axis,) = rd_figure(points, "psnr_y", "seq_00").axes
    assert len(markers_of(axis, "hevc")) == 6


def test_the_rate_axis_is_logarithmic_with_plain_ticks() -> None:
    points = sweep_points(3)
    (axis,) = rd_figure(points, "psnr_y").axes
    assert axis.get_xscale() == "log"
    labels = [axis.xaxis.get_major_formatter()(value, 0) for value in axis.xaxis.get_major_locator()()]
    assert labels == ["5", "10", "20"]
    (linear,) = rd_figure(points, "psnr_y", log_rate=False).axes
    assert linear.get_xscale() == "linear" and linear.get_xlim()[0] == 0
    narrow = points[(points["codec"] == "hevc") & (points["point"] < 2)]
    (axis,) = rd_figure(narrow, "psnr_y", "seq_00").axes
    assert len(axis.xaxis.get_major_locator()()) >= 2


def test_a_lower_is_better_metric_is_said_to_be_one_and_falls() -> None:
    (axis,) = rd_figure(sweep_points(2), "lpips").axes
    assert axis.get_ylabel() == "LPIPS (lower is better)"
    assert np.all(np.diff(markers_of(axis, "hevc")[:, 1]) < 0)


def test_regimes_stand_side_by_side_on_the_same_axes() -> None:
    figure = rd_figure(sweep_points(2, regimes=["one-intra", "short-gop"]), "psnr_y")
    left, right = figure.axes
    assert "one-intra" in left.get_title() and "short-gop" in right.get_title()
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    assert figure.get_figwidth() < 7.2


def test_the_mean_is_over_the_sequences_that_every_codec_has() -> None:
    points = sweep_points(4)
    points = points[~((points["codec"] == "vvc") & (points["sequence"] == "seq_03"))]
    (axis,) = rd_figure(points, "psnr_y").axes
    assert axis.get_title() == "Mean of 3 of 4 sequences, one-intra"
    without = rd_figure(points[points["sequence"] != "seq_03"], "psnr_y").axes[0]
    assert markers_of(axis, "hevc") == pytest.approx(markers_of(without, "hevc"))


def test_a_codec_without_a_mean_curve_is_named() -> None:
    points = sweep_points(2)
    far = (points["codec"] == "av1") & (points["sequence"] == "seq_01")
    points.loc[far, "kbps"] *= 50
    other = points.assign(setting=points["sequence"] + points["setting"])
    assert "av1: no common rates" in legend_of(rd_figure(other, "psnr_y"))


def test_where_sequences_share_no_rates_means_are_those_at_equal_setting() -> None:
    points = sweep_points(2)
    of_av1 = points["codec"] == "av1"
    points.loc[of_av1 & (points["sequence"] == "seq_01"), "kbps"] *= 50
    figure = rd_figure(points, "psnr_y")
    assert "av1*" in legend_of(figure) and AT_EQUAL_SETTING in legend_of(figure) and "hevc" in legend_of(figure)
    rows = points[of_av1].groupby("setting")
    expected = np.column_stack((np.sqrt(rows["kbps"].prod()), rows["psnr_y"].mean()))
    assert markers_of(figure.axes[0], "av1") == pytest.approx(expected[expected[:, 0].argsort()])
    (difference,) = difference_figure(points, "psnr_y", "hevc").axes
    colours = {line.get_color() for line in difference.get_lines()}
    assert STYLES["vvc"].colour in colours and STYLES["av1"].colour not in colours, "two kinds of mean have no difference"


def test_a_codec_keeps_its_style_and_no_two_share_one() -> None:
    names = [*STYLES, "talking-lips", "other-10u", "featherweight", "mono", "oth", "trilayer", "segface-32"]
    styles = codec_styles(names)
    assert len(set(styles.values())) == len(names)
    assert set(MOBILE) <= set(STYLES)
    many = [f"codec-{n:03d}" for n in range(101)]
    assert len(set(codec_styles(many[:100]).values())) == 100
    with pytest.raises(InputError, match="101 codecs"):
        codec_styles(many)
    assert codec_styles(reversed(names)) == styles
    assert codec_styles(["vvc"])["vvc"] == styles["vvc"]


def test_a_panel_of_many_codecs_is_as_wide_as_a_page_with_its_legend_beside_it() -> None:
    points = sweep_points(1, ["hevc"])
    few, many = (
        rd_figure(pd.concat([points.assign(codec=f"codec-{i}", kbps=points["kbps"] * (1 + i / 9)) for i in range(n)]), "psnr_y")
        for n in (MANY, MANY + 1)
    )
    assert few.get_figwidth() == pytest.approx(PANEL_INCHES[0]) and many.get_figwidth() == pytest.approx(PAGE_INCHES)
    assert len(legend_of(many)) == MANY + 1
    many.draw_without_rendering()
    (axis,), (legend,) = many.axes, many.legends
    assert legend.get_window_extent().x0 > axis.get_window_extent().x1, "it covers nothing"
    assert legend.get_window_extent().y0 >= 0, "and is whole"


def test_nothing_to_draw_is_an_error() -> None:
    points = sweep_points(1)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"metric": "vmaf", "sequence": "seq_77"}, "nothing to draw"),
        ({"metric": "csim"}, "was not computed"),
        ({"metric": "psnr_y", "codecs": ["hm"]}, "no points of codec 'hm'"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            rd_figure(points, **arguments)


def test_the_difference_of_a_curve_at_half_the_rate_is_minus_50_percent_everywhere() -> None:
    hevc = sweep_points(3, ["hevc"])
    half = hevc.assign(codec="vvc", kbps=hevc["kbps"] / 2)
    for metric in ("psnr_y", "lpips"):
        (axis,) = difference_figure(pd.concat([hevc, half]), metric, "hevc").axes
        curve = next(line for line in axis.get_lines() if line.get_color() == STYLES["vvc"].colour)
        assert np.asarray(curve.get_ydata()) == pytest.approx(-50, abs=0.2)
        assert axis.get_ylabel() == "Rate against hevc (%)"
    far = hevc.assign(codec="vvc", psnr_y=hevc["psnr_y"] + 50)
    with pytest.raises(InputError, match="no curve overlaps that of 'hevc'"):
        difference_figure(pd.concat([hevc, far]), "psnr_y", "hevc")


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    points = sweep_points(1, ["hevc", "vvc"])
    for name in ("a", "b"):
        written = save_figure(rd_figure(points, "psnr_y", "seq_00"), tmp_path / name)
        assert written == [tmp_path / f"{name}.svg", tmp_path / f"{name}.png"]
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_file_names_never_collide_nor_leave_the_folder() -> None:
    names = ["a/b", "a_b", "a b", "A_b", "../a_b", "..", ".", "", "a.b", "x" * 300, "x" * 301, "Łukasz", "nul\0"]
    stems = [file_stem(name) for name in names]
    assert len({stem.lower() for stem in stems}) == len(names)
    assert all(stem not in (".", "..") and "/" not in stem and len(stem) < 120 for stem in stems)
    assert file_stem("voxceleb_003") == "voxceleb_003"


def test_the_command_writes_mean_difference_and_sequence_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = sweep_points(2, ["hevc", "vvc"]).replace({"sequence": {"seq_01": "../evil/seq 01"}})
    write_points(points, tmp_path / "points.csv")
    published = {"name": "VTM", "results": {"bpp": [0.003, 0.006, 0.012], "psnr-y": [29.0, 32.5, 36.0]}}
    (tmp_path / "vtm.json").write_text(json.dumps(published))
    arguments = [str(tmp_path), "--metrics", "psnr_y", "--format", "svg", "--also", str(tmp_path / "vtm.json")]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"4 plots written to {tmp_path / 'plots'}\n"
    names = sorted(str(p.relative_to(tmp_path / "plots")) for p in (tmp_path / "plots").rglob("*.svg"))
    assert names == [
        "mean/psnr_y-difference.svg",
        "mean/psnr_y.svg",
        f"sequences/{file_stem('../evil/seq 01')}/psnr_y.svg",
        "sequences/seq_00/psnr_y.svg",
    ]
    assert main([str(tmp_path), "--codecs", "hm"]) == 1
    assert "no points of codec 'hm'" in capsys.readouterr().err


def test_a_published_curve_is_drawn_with_the_mean() -> None:
    points = sweep_points(2, ["hevc"])
    published = points[points["sequence"] == "seq_00"].assign(sequence=MEAN_CURVE, codec="vvc", regime="")
    both = pd.concat([points, published], ignore_index=True)
    (axis,) = rd_figure(both, "psnr_y").axes
    assert markers_of(axis, "vvc") == pytest.approx(published[["kbps", "psnr_y"]].to_numpy())
    assert axis.get_title() == "Mean of 2 sequences, one-intra"
    assert legend_of(rd_figure(both, "psnr_y", "seq_00")) == ["hevc"]
