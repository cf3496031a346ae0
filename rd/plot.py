"""Rate-distortion plots for print and screen (`rd-plot`).

One figure per metric and sequence, and one of the mean over sequences; the regimes stand side by side on the same axes.
A line is what BD-quality integrates: PCHIP over log-rate through the upper envelope of the points (`rd.curve`), and for
the mean the mean of those lines at equal rate, where markers stand at even distances; of codecs whose sequences hardly share
rates, the means at equal setting (`rd.curve.mean_points`), and the legend says so. Points that another point of
their codec beats are drawn hollow, off the line. A difference plot shows where along the quality a BD-rate comes from.

Sizes are those of a paper: one panel fits a column (88 mm), two fit a page (181 mm), text is 8 pt. Colours are Okabe
and Ito's and Paul Tol's, which stay apart for colour-blind readers; marker and dash pattern differ as well, for grey
print. A codec keeps its style in all figures of a run, and the named ones in all runs.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from scipy.interpolate import PchipInterpolator

from data import cli
from data.errors import InputError
from data.files import write_atomic
from rd.bd import select_metrics
from rd.columns import METRICS
from rd.compressai_json import read_compressai
from rd.curve import MEAN_CURVE, Curve, curves_of, mean_curve, shown_mean
from rd.table import file_stem, read_points, scored

PANEL_INCHES = (3.46, 2.4)
"""Width (one column of a two-column page) and height of a panel with its labels."""
LEGEND_LINE_INCHES = 0.165
MANY = 12
"""A panel with more codecs than these is as wide as a page, with its legend beside it."""
PAGE_INCHES = 7.13
FONT_PT = 8.0
PNG_DPI = 300
FORMATS = ("svg", "png")


@dataclass(frozen=True)
class Style:
    """How a codec is drawn: matplotlib colour, marker and line style."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]


_DASHED, _DOTTED, _DASH_DOT, _LONG = (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)), (0, (7, 2))

STYLES = {
    "hevc": Style("#000000", "o", "-"),
    "hevc-paper": Style("#777777", "o", _DASHED),
    "vvc": Style("#0072B2", "s", "-"),
    "av1": Style("#009E73", "^", _DASH_DOT),
    "h264": Style("#D55E00", "D", _DASHED),
    "h264-paper": Style("#D55E00", "d", _DOTTED),
    "vp9": Style("#CC79A7", "v", _DOTTED),
    "hdac": Style("#E69F00", "P", "-"),
    "hdac-look": Style("#E69F00", "*", _DOTTED),
    "hdac-paper": Style("#E69F00", "X", _DASHED),
    "hevc-stripped": Style("#000000", "h", _DOTTED),
    "hdac+residual": Style("#882255", "P", _DASH_DOT),
    "dac": Style("#56B4E9", "p", _LONG),
    "dac+residual": Style("#56B4E9", "8", _DOTTED),
    "face-vid2vid": Style("#AA4499", "d", "-"),
    "face-vid2vid+residual": Style("#AA4499", "X", _DOTTED),
    # the mobile family: a colour for each kind
    "fomm": Style("#117733", ">", "-"),
    "fomm-mult": Style("#117733", "*", _DOTTED),
    "motion-net-10u": Style("#332288", "s", _DOTTED),
    "motion-net-20l": Style("#332288", "^", _DASHED),
    "motion-net-68l": Style("#332288", "h", _DASH_DOT),
    "motion-net-10u+20l": Style("#332288", "o", "-"),
    "motion-spade-10u": Style("#7A6FD0", "s", _DOTTED),
    "motion-spade-20l": Style("#7A6FD0", "^", _DASHED),
    "motion-spade-10u+20l": Style("#7A6FD0", "o", "-"),
    "segface-48": Style("#999933", "v", _DASHED),
    "segface-64": Style("#999933", "D", "-"),
    "nth": Style("#661100", "p", "-"),
    "bilayer": Style("#661100", "8", _DASHED),
    "frontalizer-sup": Style("#CC3344", "^", _DASHED),
    "frontalizer-unsup": Style("#CC3344", "s", _DOTTED),
    "frontalizer-sup+unsup": Style("#CC3344", "o", "-"),
    "frontalizer-expr": Style("#CC3344", "X", _LONG),
    "frontalizer-chosen": Style("#CC3344", "*", _DASH_DOT),
    "ultralight": Style("#00777F", "<", "-"),
    "ultralight-6": Style("#00777F", "d", _DASHED),
    "ultralight-5": Style("#00777F", "P", _DOTTED),
}
"""Codecs with a style of their own; most of Okabe and Ito's colours without the yellow, which is lost on white paper, and of
Paul Tol's muted scheme."""

_MORE = [
    Style(colour, marker, line)
    for turn in range(5)
    for line, markers in ((_DASH_DOT, "<>*hd"), (_DOTTED, "P8Xps"), (_DASHED, "^vo<>"), ("-", "hd*8D"))
    for colour, marker in zip(
        ("#4B3B8F", "#8A8A20", "#2E6B4F", "#7A3B1D", "#6F7FB8"), markers[turn:] + markers[:turn], strict=True
    )
]
"""A hundred."""

AT_EQUAL_SETTING = "* means at equal setting"


def codec_styles(codecs: Iterable[str]) -> dict[str, Style]:
    """A style for each codec; those without one of their own get the next free one, in order of their names.

    Raises InputError for more than a hundred of those.
    """
    names = set(codecs)
    others = sorted(names - STYLES.keys())
    if len(others) > len(_MORE):
        raise InputError(f"{len(others)} codecs in one plot, of which at most {len(_MORE)} can be told apart")
    return {name: STYLES[name] for name in STYLES if name in names} | {
        name: _MORE[i] for i, name in enumerate(others)
    }


# -- figures -----------------------------------------------------------------------------------------------------------


def rd_figure(
    points: pd.DataFrame,
    metric: str,
    sequence: str | None = None,
    regimes: Sequence[str] | None = None,
    codecs: Sequence[str] | None = None,
    log_rate: bool = True,
) -> Figure:
    """Quality over rate, one curve per codec, one panel per regime.

    points:   rows of `points.csv`; only those with status "ok" count. Rows of the sequence `MEAN_CURVE` are drawn in
              mean figures, those with regime "" in every panel.
    sequence: its name, or None for the mean over the sequences that every codec of the panel has.
    regimes, codecs: those to show, in this order; by default all in `points`.
    Raises InputError where there is nothing to draw.
    """
    panels = _panels(points, metric, sequence, regimes, codecs)
    figure, axes = _new_figure(len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        for codec, curve in panel.curves.items():
            _draw_curve(axis, curve, panel.styles[codec], METRICS[metric].higher_is_better, mean=sequence is None)
        for codec, (kbps, quality) in panel.off_curve.items():
            style = panel.styles[codec]
            hollow = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": style.colour}
            axis.plot(kbps, quality, marker=style.marker, zorder=1.8, **(_line(style) | hollow))
        _finish(axis, panel.title, "Rate (kbit/s)")
    _scale_rate(axes, log_rate)
    axes[0].set_ylabel(_label(metric), fontsize=FONT_PT)
    _legend(figure, panels)
    return figure


def difference_figure(
    points: pd.DataFrame,
    metric: str,
    anchor: str,
    sequence: str | None = None,
    regimes: Sequence[str] | None = None,
    codecs: Sequence[str] | None = None,
) -> Figure:
    """Relative curve difference: rate against the anchor at equal quality in %, over the quality both reach.

    Its mean over quality, taken in the logarithm, is the BD-rate (Herglotz et al., arXiv 2304.12852). Arguments as in
    `rd_figure`; raises InputError where no curve overlaps the anchor's.
    """
    panels = _panels(points, metric, sequence, regimes, codecs, anchor)
    higher = METRICS[metric].higher_is_better
    figure, axes = _new_figure(len(panels))
    drawn = False
    for axis, panel in zip(axes, panels, strict=True):
        reference = panel.curves.get(anchor)
        for codec, curve in panel.curves.items():
            if codec == anchor or reference is None or min(len(curve), len(reference)) < 2:
                continue
            low, high = max(curve.quality[0], reference.quality[0]), min(curve.quality[-1], reference.quality[-1])
            if low >= high:
                continue
            quality = np.linspace(low, high, 200)
            logs = [PchipInterpolator(c.quality, np.log10(c.rate))(quality) for c in (curve, reference)]
            style = panel.styles[codec]
            axis.plot(
                quality if higher else -quality,
                100 * (10 ** (logs[0] - logs[1]) - 1),
                marker=style.marker,
                markevery=40,
                **_line(style),
            )
            drawn = True
        axis.axhline(0, color=panel.styles[anchor].colour, linewidth=0.9)
        _finish(axis, panel.title, _label(metric))
    if not drawn:
        raise InputError(f"no curve overlaps that of {anchor!r} in {metric}")
    axes[0].set_ylabel(f"Rate against {anchor} (%)", fontsize=FONT_PT)
    _legend(figure, panels)
    return figure


def save_figure(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Writes STEM.svg and STEM.png (300 dpi), atomically; the same figure gives the same bytes."""
    written = []
    for kind in formats:
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "rd-plot"}):
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=metadata)
        written.append(stem.with_name(f"{stem.name}.{kind}"))
        write_atomic(written[-1], buffer.getvalue())
    return written


# -- what goes into a panel --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    title: str
    curves: dict[str, Curve]
    off_curve: dict[str, tuple[np.ndarray, np.ndarray]]
    """By codec: rates and values of points that lie below the envelope."""
    styles: dict[str, Style]
    missing: list[str]
    """Codecs that have values, but whose sequences share no range of rates and no settings."""
    at_setting: frozenset[str] = frozenset()
    """Codecs whose mean is that at equal setting."""


def _panels(
    points: pd.DataFrame,
    metric: str,
    sequence: str | None,
    regimes: Sequence[str] | None,
    codecs: Sequence[str] | None,
    anchor: str | None = None,
) -> list[_Panel]:
    ok = scored(points)
    if metric not in METRICS or metric not in ok.columns:
        raise InputError(f"metric {metric!r} was not computed: there is no such column")
    styles = codec_styles(ok["codec"])
    if codecs is not None:
        wanted = [*codecs, *([anchor] if anchor and anchor not in codecs else [])]
        unknown = [codec for codec in wanted if codec not in styles]
        if unknown:
            raise InputError(f"no points of codec {unknown[0]!r}; there are {', '.join(styles) or 'none'}")
    else:
        wanted = [codec for codec in styles if (ok["codec"] == codec).any()]
    panels = []
    for regime in regimes or [regime for regime in dict.fromkeys(ok["regime"]) if regime]:
        part = ok[ok["regime"].isin([regime, ""])]
        panel = _panel(part, metric, sequence, regime, wanted, styles, at_setting=anchor is None)
        if panel.curves:
            panels.append(panel)
    if not panels:
        raise InputError(f"nothing to draw: no points with {metric} of {sequence or 'the mean over sequences'}")
    return panels


def _panel(
    part: pd.DataFrame,
    metric: str,
    sequence: str | None,
    regime: str,
    codecs: Sequence[str],
    styles: dict[str, Style],
    at_setting: bool,
) -> _Panel:
    """at_setting: whether a mean may be one at equal setting; two kinds of mean have no difference."""
    higher = METRICS[metric].higher_is_better
    by_codec = {codec: curves_of(part[part["codec"] == codec], "kbps", metric, higher) for codec in codecs}
    by_codec = {codec: curves for codec, curves in by_codec.items() if curves}
    if sequence is not None:
        curves = {codec: of[sequence] for codec, of in by_codec.items() if sequence in of and len(of[sequence])}
        off = {}
        for codec, curve in curves.items():
            rows = part[(part["codec"] == codec) & (part["sequence"] == sequence)]
            beaten = rows[~rows["kbps"].isin(curve.rate) & np.isfinite(rows[metric]) & (rows["kbps"] > 0)]
            if len(beaten):
                off[codec] = (beaten["kbps"].to_numpy(), beaten[metric].to_numpy())
        name = sequence if len(sequence) <= 36 else f"{sequence[:17]}...{sequence[-16:]}"  # what fits above a panel
        return _Panel(f"{name}, {regime}", curves, off, styles, [])

    own = {codec: of for codec, of in by_codec.items() if MEAN_CURVE not in of}
    everywhere = list(dict.fromkeys(name for of in own.values() for name in of))
    shared = [name for name in everywhere if all(name in of for of in own.values())]
    curves, missing, other_means = {}, [], set()
    for codec, of in by_codec.items():
        if MEAN_CURVE in of:
            mean: Curve | None = of[MEAN_CURVE]
        elif at_setting:
            of_codec = part[(part["codec"] == codec) & part["sequence"].isin(shared)]
            mean, by_setting = shown_mean(of_codec, "kbps", metric, higher)
            other_means |= {codec} if by_setting else set()
        else:
            mean = mean_curve([of[name] for name in shared])
        if mean is None:
            missing.append(codec)
        else:
            curves[codec] = mean
    count = str(len(shared)) if len(shared) == len(everywhere) else f"{len(shared)} of {len(everywhere)}"
    plural = "" if count == "1" else "s"
    return _Panel(f"Mean of {count} sequence{plural}, {regime}", curves, {}, styles, missing, frozenset(other_means))


# -- drawing -----------------------------------------------------------------------------------------------------------


def _new_figure(n_panels: int) -> tuple[Figure, list[Axes]]:
    """An empty figure, no pyplot: nothing global is touched, so that figures can be made in worker threads."""
    width = PANEL_INCHES[0] if n_panels == 1 else PAGE_INCHES / 2 * n_panels
    figure = Figure(figsize=(width, PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(1, n_panels, sharex=True, sharey=True, squeeze=False)[0]
    return figure, list(axes)


def _line(style: Style) -> dict[str, Any]:
    """Line2D properties; narrow markers are drawn larger, so that all look alike."""
    return {
        "color": style.colour,
        "linestyle": style.line,
        "linewidth": 1.1,
        "markersize": {"P": 5.2, "X": 5.2}.get(style.marker, 4.4 if style.marker in "^v<>*" else 3.6),
        "markeredgewidth": 0.5,
        "markeredgecolor": "white",
    }


def _draw_curve(axis: Axes, curve: Curve, style: Style, higher_is_better: bool, mean: bool) -> None:
    sign = 1 if higher_is_better else -1
    line = _line(style)
    if len(curve) > 1:
        log_rate = np.log10(curve.rate)
        fine = np.linspace(log_rate[0], log_rate[-1], 200)
        fine = np.clip(fine, log_rate[0], log_rate[-1])
        axis.plot(10**fine, sign * PchipInterpolator(log_rate, curve.quality)(fine), **line)
    every = max(1, (len(curve) - 1) // 4) if mean and len(curve) > 12 else 1  # a mean curve is samples, not points
    axis.plot(
        curve.rate[::every],
        sign * curve.quality[::every],
        **(line | {"linestyle": "none"}),
        marker=style.marker,
        zorder=2.5,
    )


def _finish(axis: Axes, title: str, x_label: str) -> None:
    axis.set_title(title, fontsize=FONT_PT)
    axis.set_xlabel(x_label, fontsize=FONT_PT)
    axis.tick_params(labelsize=FONT_PT, width=0.6, length=2.5)
    axis.grid(True, color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_linewidth(0.6)


def _scale_rate(axes: Sequence[Axes], log_rate: bool) -> None:
    """A rate axis with plain numbers: 2, 5, 10, 20, 50 kbit/s."""
    lines = [line for axis in axes for line in axis.get_lines()]
    rates = np.concatenate([np.asarray(line.get_xdata(), np.float64) for line in lines])
    low, high = float(rates.min()), float(rates.max())
    for axis in axes:
        if not log_rate:
            axis.set_xlim(0, high * 1.03)
            continue
        axis.set_xscale("log")
        margin = max((high / low) ** 0.03, 1.05)
        axis.set_xlim(low / margin, high * margin)
        axis.xaxis.set_major_locator(FixedLocator(_plain_ticks(low / margin, high * margin)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())


def _plain_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, .. within the limits; all leading digits where that leaves fewer than three."""
    decades = [10.0**k for k in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
    for digits in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [digit * decade for decade in decades for digit in digits if low <= digit * decade <= high]
        if len(ticks) >= 3:
            return ticks
    return [float(f"{low:.3g}"), float(f"{high:.3g}")]


def _label(metric: str) -> str:
    kind = METRICS[metric]
    unit = f" ({kind.unit})" if kind.unit else ""
    return f"{kind.label}{unit}{'' if kind.higher_is_better else ' (lower is better)'}"


def _legend(figure: Figure, panels: Sequence[_Panel]) -> None:
    """Above the panels, where it covers nothing; beside a single one where there is much of it."""
    shown = dict.fromkeys(codec for panel in panels for codec in panel.curves)
    missing = dict.fromkeys(codec for panel in panels for codec in panel.missing)
    styles = panels[0].styles
    at_setting = {codec for panel in panels for codec in panel.at_setting}
    handles = [
        Line2D([], [], **_line(styles[codec]), marker=styles[codec].marker, label=codec + "*" * (codec in at_setting))
        for codec in shown
    ]
    for codec in missing:
        if codec not in shown:
            handles.append(Line2D([], [], linestyle="none", label=f"{codec}: no common rates"))
    if at_setting:
        handles.append(Line2D([], [], linestyle="none", label=AT_EQUAL_SETTING))
    if len(panels) == 1 and len(handles) > MANY:
        figure.set_size_inches(PAGE_INCHES, max(PANEL_INCHES[1], LEGEND_LINE_INCHES * (len(handles) + 2)))
        figure.legend(
            handles=handles, loc="outside right upper", fontsize=FONT_PT, frameon=False, handlelength=2.8, borderpad=0
        )
        return
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(max(1, int(figure.get_figwidth() / (0.5 + 0.062 * longest))), len(handles))
    figure.set_figheight(PANEL_INCHES[1] + LEGEND_LINE_INCHES * -(-len(handles) // columns))  # panels keep their height
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=columns,
        fontsize=FONT_PT,
        frameon=False,
        handlelength=2.8,
        columnspacing=1.2,
        borderpad=0,
    )


def write_plots(
    points: pd.DataFrame,
    out: Path,
    metrics: Sequence[str],
    sequences: Sequence[str] | None = None,
    regimes: Sequence[str] | None = None,
    codecs: Sequence[str] | None = None,
    anchor: str = "hevc",
    log_rate: bool = True,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Every plot of a sweep: the mean over sequences, the rate against the anchor, each sequence. Returns the files.

    points:  rows with status "ok"; published mean curves may be among them.
    metrics: columns that have values.
    sequences: those that get a plot of their own; by default all.
    """
    if sequences is None:
        sequences = [name for name in dict.fromkeys(points["sequence"]) if name != MEAN_CURVE]
    written = []
    for metric in metrics:
        try:  # means need rates that all sequences share
            figure = rd_figure(points, metric, None, regimes, codecs, log_rate)
            written += save_figure(figure, out / "mean" / metric, formats)
            if anchor in set(points["codec"]) and points["codec"].nunique() > 1:
                figure = difference_figure(points, metric, anchor, None, regimes, codecs)
                written += save_figure(figure, out / "mean" / f"{metric}-difference", formats)
        except InputError as error:
            print(f"no plot of the mean: {error}")
        for sequence in sequences:
            if points.loc[points["sequence"] == sequence, metric].notna().any():
                figure = rd_figure(points, metric, sequence, regimes, codecs, log_rate)
                written += save_figure(figure, out / "sequences" / file_stem(sequence) / metric, formats)
    return written


# -- the command -------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """`rd-plot`."""
    parser = argparse.ArgumentParser(
        prog="rd-plot",
        description="Rate-distortion plots of a sweep: OUT/mean/<metric>.svg, OUT/sequences/<sequence>/<metric>.svg, "
        "and OUT/mean/<metric>-difference.svg, the rate against an anchor over quality.",
    )
    parser.add_argument("points", type=Path, metavar="DIR", help="a sweep's output folder, or its points.csv")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="columns or families (default: as rd-bd)")
    parser.add_argument("--codecs", nargs="+", metavar="CODEC", help="default: all")
    parser.add_argument("--sequences", nargs="+", metavar="SEQUENCE", help="default: all, and their mean")
    parser.add_argument("--regime", nargs="+", metavar="REGIME", help="one-intra, short-gop (default: those present)")
    parser.add_argument("--anchor", default="hevc", help="of the difference plot (default: hevc)")
    parser.add_argument("--linear-rate", action="store_true", help="a linear rate axis in place of a logarithmic one")
    parser.add_argument("--also", nargs="+", type=Path, default=[], metavar="FILE.json", help="published mean curves")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: DIR/plots")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS), help="default: both")
    args = parser.parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    points = scored(read_points(args.points))
    metrics = select_metrics(points, args.metrics)
    _check_present(points, "sequence", args.sequences)
    _check_present(points, "codec", args.codecs)
    _check_present(points, "regime", args.regime)
    if args.sequences:
        points = points[points["sequence"].isin(args.sequences)]
    sequences = list(dict.fromkeys(points["sequence"]))
    shown, codecs = points, args.codecs
    for file in args.also:
        published = _published(file, points)
        shown = pd.concat([shown, published], ignore_index=True)
        codecs = codecs and [*codecs, published["codec"].iloc[0]]
    base = args.points if args.points.is_dir() else args.points.parent
    out = args.out or base / "plots"

    written = write_plots(shown, out, metrics, sequences, args.regime, codecs, args.anchor, not args.linear_rate, args.format)
    print(f"{len(written)} plots written to {out}")


def _check_present(points: pd.DataFrame, column: str, wanted: Sequence[str] | None) -> None:
    present = list(dict.fromkeys(points[column]))
    for name in wanted or ():
        if name not in present:
            raise InputError(f"no points of {column} {name!r}; there are {', '.join(present) or 'none'}")


def _published(file: Path, points: pd.DataFrame) -> pd.DataFrame:
    """A published curve; one in bits per pixel is brought to kbit/s at the size and frame rate of our points."""
    sizes = {(int(row.width), int(row.height), str(row.fps)) for row in points.itertuples()}
    width, height, fps = sizes.pop() if len(sizes) == 1 else (None, None, None)
    curve = read_compressai(file, width, height, Fraction(fps) if fps else None)
    if curve["kbps"].isna().any():
        raise InputError(f"{file} has bits per pixel only, and the points differ in size or frame rate: no common rate")
    name = curve["codec"].iloc[0]
    return curve.assign(codec=f"{name} [{file.name}]") if name in set(points["codec"]) else curve
