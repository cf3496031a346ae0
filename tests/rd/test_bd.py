"""Bjontegaard deltas: published numbers, curves with known distances, and everything that must be N/A."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from rd.bd import MEAN, METHODS, bd_rate, bd_table, bootstrap_interval, format_table, main
from rd.curve import MEAN_CURVE, envelope, mean_curve
from rd.table import write_points
from tests.rd.synthetic import sweep_points

RATE = np.array([4.0, 7.0, 12.0, 21.0, 37.0])
PSNR = np.array([27.0, 29.5, 32.0, 34.2, 36.0])

# -- published pairs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anchor", "test", "percent"),
    [  # the JCT-VC spreadsheet's numbers, as in Netflix/vmaf python/test/bd_rate_calculator_test.py (to 4 places there)
        (
            [(108048.8736, 43.6471), (61279.976, 40.3953), (33905.6656, 37.247), (18883.6928, 34.2911)],
            [(108061.2784, 43.6768), (61299.9936, 40.4232), (33928.7472, 37.2761), (18910.912, 34.3147)],
            -0.465215420752807,
        ),
        (
            [(40433.8848, 37.5761), (7622.7456, 35.3756), (2394.488, 33.8977), (1017.6184, 32.0603)],
            [(40370.12, 37.5982), (7587.0024, 35.4025), (2390.0944, 33.9194), (1017.0984, 32.0822)],
            -1.8779823450567612,
        ),
    ],
)
def test_pchip_gives_the_numbers_of_the_jct_vc_spreadsheet(
    anchor: list[tuple[float, float]], test: list[tuple[float, float]], percent: float
) -> None:
    (rate_anchor, psnr_anchor), (rate_test, psnr_test) = np.transpose(anchor), np.transpose(test)
    result = bd_rate(rate_anchor, psnr_anchor, rate_test, psnr_test, method="pchip")
    assert result.rate_percent == pytest.approx(percent, abs=0.005)
    assert result.overlap_percent > 98
    assert result.note == ""


def test_cubic_is_vceg_m33() -> None:
    """The example pair that comes with the Bjontegaard scripts, against VCEG-M33 written down directly."""
    r1, q1 = np.array([686.76, 309.58, 157.11, 85.95]), np.array([40.28, 37.18, 34.24, 31.42])
    r2, q2 = np.array([893.34, 407.8, 204.93, 112.75]), np.array([40.39, 37.21, 34.17, 31.24])

    def distance(x1: np.ndarray, y1: np.ndarray, x2: np.ndarray, y2: np.ndarray) -> float:
        a, b = max(x1.min(), x2.min()), min(x1.max(), x2.max())
        difference = np.polyint(np.polyfit(x2, y2, 3) - np.polyfit(x1, y1, 3))
        return float((np.polyval(difference, b) - np.polyval(difference, a)) / (b - a))

    result = bd_rate(r1, q1, r2, q2, method="cubic")
    assert result.rate_percent == pytest.approx(100 * (10 ** distance(q1, np.log10(r1), q2, np.log10(r2)) - 1))
    assert result.quality_delta == pytest.approx(distance(np.log10(r1), q1, np.log10(r2), q2))
    assert result.rate_percent == pytest.approx(31.397, abs=0.001)
    assert result.quality_delta == pytest.approx(-1.1849, abs=0.0001)


@pytest.mark.parametrize("method", METHODS)
def test_preparation_changes_nothing_where_there_is_nothing_to_repair(method: str) -> None:
    """The pair of the bjontegaard package's README, straight through the package."""
    pair = (
        *([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851]),
        *([9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987]),
    )
    result = bd_rate(*pair, method=method)
    assert result.rate_percent == pytest.approx(bjontegaard.bd_rate(*pair, method=method), abs=1e-9)
    assert result.quality_delta == pytest.approx(bjontegaard.bd_psnr(*pair, method=method), abs=1e-9)
    assert result.rate_percent == pytest.approx(-4.42, abs=0.01)


# -- known distances ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_half_the_rate_is_minus_50_percent_and_one_db_is_one_db(method: str) -> None:
    assert bd_rate(RATE, PSNR, RATE / 2, PSNR, method).rate_percent == pytest.approx(-50)
    assert bd_rate(RATE, PSNR, RATE, PSNR + 1, method).quality_delta == pytest.approx(1)
    same = bd_rate(RATE, PSNR, RATE, PSNR, method)
    assert (same.rate_percent, same.quality_delta) == pytest.approx((0, 0), abs=1e-9)
    assert (same.overlap_percent, same.rate_overlap_percent, same.note) == (100, 100, "")


@pytest.mark.parametrize("method", METHODS)
def test_a_lower_is_better_metric_is_the_mirror_image(method: str) -> None:
    lpips = 0.6 - PSNR / 100
    result = bd_rate(RATE, lpips, RATE / 2, lpips, method, higher_is_better=False)
    assert result.rate_percent == pytest.approx(-50)
    better = bd_rate(RATE, lpips, RATE, lpips - 0.02, method, higher_is_better=False)
    assert better.quality_delta == pytest.approx(-0.02)
    assert better.rate_percent is not None and better.rate_percent < 0


@given(
    order=st.permutations(range(5)),
    scale=st.floats(1e-3, 1e3),
    factor=st.floats(0.5, 2),
    method=st.sampled_from(list(METHODS)),
)
@settings(max_examples=40, deadline=None)
def test_order_and_unit_do_not_matter(order: list[int], scale: float, factor: float, method: str) -> None:
    plain = bd_rate(RATE, PSNR, RATE * factor, PSNR + 0.3, method)
    mixed = bd_rate(RATE * scale, PSNR, (RATE * factor * scale)[order], (PSNR + 0.3)[order], method)
    assert mixed.rate_percent == pytest.approx(plain.rate_percent, abs=1e-6)
    assert mixed.quality_delta == pytest.approx(plain.quality_delta, abs=1e-9)


def test_curves_may_have_different_numbers_of_points() -> None:
    fine = np.geomspace(4, 37, 18)
    quality = np.interp(np.log(fine), np.log(RATE), PSNR)
    result = bd_rate(RATE, PSNR, fine / 2, quality)
    assert result.rate_percent == pytest.approx(-50, abs=1)


# -- repairs and N/A ---------------------------------------------------------------------------------------------------


def test_beaten_and_infinite_points_are_left_out_and_reported() -> None:
    rate = np.array([*RATE, 13.0, 21.0, 50.0, 3.0])
    psnr = np.array([*PSNR, 31.0, 33.0, np.inf, np.nan])  # dearer and worse; a second one at 21 kbps; lossless; none
    result = bd_rate(RATE, PSNR, rate / 2, psnr)
    assert result.rate_percent == pytest.approx(-50)
    assert result.note == "test: 2 of 9 points not finite, 2 of 9 points beaten by another"


def test_a_saturating_curve_with_dips_stays_sane() -> None:
    """Quality that stops rising makes the inverse function vertical: what breaks the cubic (Netflix/vmaf#56)."""
    saturated = np.array([27.0, 31.0, 33.0, 33.0004, 33.0003])
    for method in ("pchip", "akima"):
        result = bd_rate(RATE, PSNR, RATE, saturated, method)
        assert result.rate_percent is not None and -35 < result.rate_percent < 35
        assert "1 of 5 points beaten" in result.note
    assert "cubic fit of the test is not monotone" in bd_rate(RATE, PSNR, RATE, saturated, "cubic").note


def test_under_25_percent_overlap_is_not_available() -> None:
    """Qualities 27 to 36 and 34 to 37: 2 of 10 dB are shared."""
    result = bd_rate(RATE, PSNR, RATE, np.linspace(34, 37, 5))
    assert result.rate_percent is None
    assert result.overlap_percent == pytest.approx(20)
    assert "BD-rate N/A: the qualities overlap by 20 %" in result.note
    assert result.quality_delta is not None  # the rates overlap fully
    assert bd_rate(RATE, PSNR, RATE, np.linspace(33.4, 37, 5)).rate_percent is not None  # 26 %


def test_disjoint_curves_are_not_available() -> None:
    result = bd_rate(RATE, PSNR, RATE * 100, PSNR + 20)
    assert (result.rate_percent, result.quality_delta) == (None, None)
    assert (result.overlap_percent, result.rate_overlap_percent) == (0, 0)


@pytest.mark.parametrize(
    ("n", "method", "reason"),
    [
        (0, "pchip", "test has 0 usable points, pchip needs 2"),
        (1, "pchip", "test has 1 usable point, pchip needs 2"),
        (1, "akima", "test has 1 usable point, akima needs 2"),
        (3, "cubic", "test has 3 usable points, cubic needs 4"),
    ],
)
def test_too_few_points_are_not_available(n: int, method: str, reason: str) -> None:
    result = bd_rate(RATE, PSNR, RATE[:n], PSNR[:n], method)
    assert (result.rate_percent, result.quality_delta) == (None, None)
    assert reason in result.note


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="'spline' is not one of pchip, akima, cubic"):
        bd_rate(RATE, PSNR, RATE, PSNR, "spline")
    with pytest.raises(InputError, match=r"got shapes \(4,\) and \(5,\)"):
        bd_rate(RATE[:4], PSNR, RATE, PSNR)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=12), st.sampled_from(list(METHODS)))
@settings(max_examples=150, deadline=None)
def test_any_points_give_a_number_or_a_reason(points: list[tuple[float, float]], method: str) -> None:
    rate, quality = [p[0] for p in points], [p[1] for p in points]
    result = bd_rate(RATE, PSNR, rate, quality, method)
    for value in (result.rate_percent, result.quality_delta):
        assert value is None or np.isfinite(value)
    if result.rate_percent is None or result.quality_delta is None:
        assert "N/A" in result.note


# -- over sequences ----------------------------------------------------------------------------------------------------


def test_the_mean_curve_of_shifted_curves_is_the_curve_in_the_middle() -> None:
    curves = [envelope(RATE, PSNR - 1), envelope(RATE, PSNR + 3)]
    mean = mean_curve(curves)
    assert mean is not None
    assert mean.rate[[0, -1]] == pytest.approx([4, 37])
    assert mean.quality[[0, -1]] == pytest.approx(PSNR[[0, -1]] + 1)


def test_the_mean_curve_covers_only_the_rates_that_all_sequences_share() -> None:
    mean = mean_curve([envelope(RATE, PSNR), envelope(RATE * 2, PSNR), envelope(RATE[:4], PSNR[:4])])
    assert mean is not None and mean.rate[[0, -1]] == pytest.approx([8, 21])
    assert mean_curve([envelope(RATE, PSNR), envelope(RATE * 20, PSNR)]) is None


def test_the_bootstrap_interval_is_seeded_and_covers_the_mean() -> None:
    values = np.random.default_rng(3).normal(-20, 5, 24)
    low, high = bootstrap_interval(values) or (0, 0)
    assert (low, high) == bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(24), rel=0.1)
    assert bootstrap_interval([1.0]) is None


def known_points() -> pd.DataFrame:
    """Two sequences, a test codec at half the rate on "a" and at twice the rate on "b", a third that saw only "a"."""
    frames = []
    for sequence, codec, factor in (
        *(("a", "hevc", 1.0), ("b", "hevc", 1.0), ("a", "new", 0.5), ("b", "new", 2.0), ("a", "part", 0.5)),
    ):
        rate = RATE * factor
        part = pd.DataFrame({"kbps": rate, "bpp": rate / 1638.4, "psnr_y": PSNR, "lpips": 1 - PSNR / 50})
        frames.append(part.assign(sequence=sequence, codec=codec, regime="one-intra", point=range(5), status="ok"))
    points = pd.concat(frames, ignore_index=True)
    bad = points.iloc[[0]].assign(point=99, status="failed", psnr_y=90.0)
    return pd.concat([points, bad], ignore_index=True)


def rows_of(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def test_deltas_are_per_sequence_then_averaged_and_counted() -> None:
    table = bd_table(known_points(), "hevc", ["psnr_y", "lpips"])
    for metric in ("psnr_y", "lpips"):
        new = rows_of(table, codec="new", metric=metric).set_index("sequence")
        assert new.loc["a", "bd_rate"] == pytest.approx(-50)
        assert new.loc["b", "bd_rate"] == pytest.approx(100)
        assert new.loc[MEAN, "bd_rate"] == pytest.approx(25)
        assert (new.loc[MEAN, "ci_low"], new.loc[MEAN, "ci_high"]) == pytest.approx((-50, 100))
        assert (new.loc[MEAN, "n"], new.loc[MEAN, "n_total"]) == (2, 2)
        # Half and double cancel on the mean curve, where the per-sequence signs are lost.
        assert abs(new.loc[MEAN_CURVE, "bd_rate"]) < 10
        part = rows_of(table, codec="part", metric=metric).set_index("sequence")
        assert part.loc[MEAN, "bd_rate"] == pytest.approx(-50)
        assert (part.loc[MEAN, "n"], part.loc[MEAN, "n_total"]) == (1, 2)
        assert part.loc["b", "note"] == "N/A: no points of part"
        assert part.loc[MEAN_CURVE, "bd_rate"] == pytest.approx(-50)  # both codecs averaged over "a" alone


def test_a_metric_that_one_codec_lacks_is_not_available_and_prints() -> None:
    points = known_points()
    points.loc[points["codec"] == "hevc", "lpips"] = np.nan
    table = bd_table(points, "hevc", ["lpips"], methods=list(METHODS))
    assert table["bd_rate"].isna().all() and table["bd_quality"].isna().all()
    assert "N/A (0 % overlap, 0/2)" in format_table(table)
    everything = bd_table(points.assign(lpips=np.nan), "hevc", ["lpips"])
    assert "N/A (0 % overlap, 0/0)" in format_table(everything)


def test_failed_rows_do_not_count() -> None:
    with_failed = bd_table(known_points(), "hevc", ["psnr_y"])
    points = known_points()
    pd.testing.assert_frame_equal(with_failed, bd_table(points[points["status"] == "ok"], "hevc", ["psnr_y"]))


def test_regimes_are_kept_apart() -> None:
    table = bd_table(sweep_points(3, ["hevc", "vvc"], ["one-intra", "short-gop"]), "hevc", ["psnr_y"])
    mean = rows_of(table, sequence=MEAN).set_index("regime")["bd_rate"]
    assert list(mean.index) == ["one-intra", "short-gop"]
    assert mean["one-intra"] < mean["short-gop"] < 0  # what both spend on more intras dilutes the gain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchor": "vvc"}, "no points of codec 'vvc'; there are hevc, new, part"),
        ({"codecs": ["av1"]}, "no points of codec 'av1'"),
        ({"regimes": ["short-gop"]}, "no points of regime 'short-gop'; there are one-intra"),
        ({"metrics": ["vmaf"]}, "metric 'vmaf' was not computed"),
    ],
)
def test_what_has_no_points_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bd_table(known_points(), **({"anchor": "hevc", "metrics": ["psnr_y"]} | arguments))


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    points = sweep_points(4)
    far = points[points["codec"] == "h264"].assign(codec="far")
    far["psnr_y"] += 30.0
    write_points(pd.concat([points, far]), tmp_path / "points.csv")
    return tmp_path


def test_every_number_stands_beside_its_overlap_and_count(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep), "--metrics", "psnr_y"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "(84 % overlap, 4/4)" in lines["vvc"] and "dB (" in lines["vvc"]
    assert "N/A (0 % overlap, 0/4)" in lines["far"]
    assert lines["hevc-paper"].split()[1].startswith("+")


def test_all_methods_formats_and_metrics_print(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for style in ("text", "markdown", "latex"):
        arguments = [str(sweep / "points.csv"), "--method", *METHODS, "--format", style, "--codecs", "vvc", "far"]
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(label in out for label in ("PSNR-Y", "MS-SSIM", "VMAF", "LPIPS (lower is better)", "akima"))
        assert "nan" not in out.lower()
    assert r"$-$" in out and r"\% overlap" in out and r"\toprule" in out
    assert main([str(sweep), "--per-sequence", "--codecs", "vvc", "--metrics", "ssim"]) == 0
    assert "seq_03" in capsys.readouterr().out


def test_csv_is_the_long_table(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "bd.csv"
    assert main([str(sweep), "--format", "csv", "--anchor", "vvc", "--codecs", "av1", "hevc", "--out", str(out)]) == 0
    table = pd.read_csv(StringIO(out.read_text()))
    assert list(dict.fromkeys(table["codec"])) == ["av1", "hevc"]
    assert list(table.columns[:9]) == "anchor codec regime metric method sequence bd_rate bd_quality overlap".split()
    assert len(table) == 2 * 4 * 6  # codecs, metrics, four sequences and two means


def test_errors_are_one_line(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([str(sweep), "--anchor", "hm"], "no points of codec 'hm'"),
        ([str(sweep), "--metrics", "csim"], "metric 'csim' was not computed"),
        ([str(sweep), "--metrics", "pnsr"], "unknown metric 'pnsr'"),
        ([str(sweep / "nowhere")], "does not exist"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_published_curve_can_be_the_anchor(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It meets the mean curve, by kbps, or by bpp where that is all it has."""
    hevc = sweep_points(4).query("codec == 'hevc'")
    mean = mean_curve([envelope(p["kbps"], p["psnr_rgb"]) for _, p in hevc.groupby("sequence")])
    assert mean is not None
    for key, rates in (("bitrate", mean.rate * 2), ("bpp", mean.rate * 2 / 1638.4)):
        results = {key: rates.tolist(), "psnr-rgb": mean.quality.tolist()}
        file = tmp_path / f"{key}.json"
        file.write_text(json.dumps({"name": "hevc", "description": "", "results": results}))
        assert main([str(sweep), "--anchor", str(file), "--codecs", "hevc", "--format", "csv"]) == 0
        table = pd.read_csv(StringIO(capsys.readouterr().out))
        assert list(table["anchor"]) == [f"hevc [{file.name}]"]
        assert list(table["sequence"]) == [MEAN_CURVE]
        assert table["bd_rate"][0] == pytest.approx(-50, abs=0.5)
        assert main([str(sweep), "--anchor", str(file), "--codecs", "hevc"]) == 0
        assert "-50.0 %" in capsys.readouterr().out


def test_a_sequence_named_like_the_mean_is_refused() -> None:
    with pytest.raises(InputError, match="a sequence is called 'mean'"):
        bd_table(known_points().replace({"sequence": {"a": "mean"}}), "hevc", ["psnr_y"])


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="'html' is not one of"):
        format_table(bd_table(known_points(), "hevc", ["psnr_y"]), "html")
