"""Bjontegaard deltas: how much less rate at equal quality, and how much more quality at equal rate (`rd-bd`).

G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001. Two rate-distortion curves
are interpolated, log10 of the rate over quality, and the mean horizontal distance between them over the qualities that
both reach is the BD-rate; BD-quality is the mean vertical distance over the rates that both reach. Interpolation and
integration are those of the `bjontegaard` package: PCHIP (as in the JCT-VC and JVET spreadsheets), Akima (Herglotz et
al., "The Bjontegaard Bible", arXiv 2304.12852), or one cubic polynomial (VCEG-M33), a least-squares fit where there are
more than four points.

What goes in and what is said about it:
- A point that another point of its curve beats, at no more rate and no less quality, is left out, so that a curve is
  its upper envelope; the note says how many points went.
- Overlap is intersection over union of the two quality intervals (of the two log-rate intervals for BD-quality), in %:
  the definition of the `bjontegaard` package, and the strictest of the usual ones. Under 25 % the delta is N/A.
  Nothing is ever extrapolated.
- Over sequences: the arithmetic mean of the deltas, with a 95 % percentile-bootstrap interval, and how many sequences
  had a delta at all. Beside it the delta between the two mean curves (`mean_curve`), which can hide sequences that
  point in opposite directions.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bjontegaard
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from data import cli
from data.errors import InputError
from data.files import write_atomic
from rd.columns import METRICS, expand_metrics
from rd.compressai_json import read_compressai
from rd.curve import MEAN_CURVE, Array, Curve, curves_of, envelope, mean_curve
from rd.table import read_points, scored

METHODS = {"pchip": 2, "akima": 2, "cubic": 4}
"""Interpolation methods with the fewest points that a curve needs."""
MIN_OVERLAP_PERCENT = 25.0
DEFAULT_METRICS = ("psnr_y", "ms_ssim_y", "vmaf", "lpips")
MEAN = "mean"
"""What `bd_table` writes into `sequence` for the mean of the deltas; `MEAN_CURVE` for the delta of the mean curves."""

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 2001  # chosen: any fixed number

TABLE_COLUMNS = [
    *("anchor", "codec", "regime", "metric", "method", "sequence", "bd_rate", "bd_quality", "overlap"),
    *("ci_low", "ci_high", "n", "n_total", "note"),
    *("rate_overlap", "quality_ci_low", "quality_ci_high", "quality_n"),
]


@dataclass(frozen=True)
class BdResult:
    """One curve against another."""

    rate_percent: float | None
    """BD-rate: -50 means half the rate at the same quality. None is N/A; the note says why."""
    quality_delta: float | None
    """BD-quality, test minus anchor, in the metric's own unit and direction: -0.02 LPIPS is an improvement."""
    overlap_percent: float
    """Intersection over union of the quality intervals."""
    rate_overlap_percent: float
    """Intersection over union of the log-rate intervals, for `quality_delta`."""
    note: str
    """What was repaired, and why something is N/A; empty where there is nothing to say."""


def bd_rate(
    rate_anchor: ArrayLike,
    quality_anchor: ArrayLike,
    rate_test: ArrayLike,
    quality_test: ArrayLike,
    method: str = "pchip",
    higher_is_better: bool = True,
) -> BdResult:
    """BD-rate and BD-quality of a test curve against an anchor.

    rate_*:    (N,) and (M,) rates in one unit; any order, any number of points.
    quality_*: (N,) and (M,) values of one metric.
    method:    "pchip", "akima" or "cubic".
    Raises InputError for an unknown method or for shapes that do not match.
    """
    anchor = envelope(rate_anchor, quality_anchor, higher_is_better)
    test = envelope(rate_test, quality_test, higher_is_better)
    return _compare(anchor, test, method, higher_is_better)


def bootstrap_interval(values: ArrayLike) -> tuple[float, float] | None:
    """95 % percentile-bootstrap interval of the mean over sequences, seeded; None for fewer than two values."""
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return None
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = sample[rng.integers(0, len(sample), (BOOTSTRAP_RESAMPLES, len(sample)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bd_table(
    points: pd.DataFrame,
    anchor: str,
    metrics: Sequence[str],
    regimes: Sequence[str] | None = None,
    methods: Sequence[str] = ("pchip",),
    codecs: Sequence[str] | None = None,
    rate: str = "kbps",
) -> pd.DataFrame:
    """Every codec against the anchor, in long form.

    points:  rows of `points.csv`; only those with status "ok" count. Rows whose sequence is `MEAN_CURVE` are a curve
             that was averaged elsewhere (a published one): it meets only mean curves. Rows with regime "" belong to
             every regime.
    regimes: those to report; by default every one in `points`.
    codecs:  the test codecs in the order wanted; by default every one in `points`, in order of appearance.
    rate:    column of the rate, "kbps" or "bpp".
    Returns one row per (codec, regime, metric, method, sequence), where sequence is a name, "mean" or "mean-curve":
    bd_rate in %, bd_quality in the metric's unit, overlap in % (NaN is N/A; `note` says why), and on the "mean" rows
    ci_low and ci_high of the BD-rate and n of n_total sequences that have one (n_total: with points of either codec).
    quality_* is the same for BD-quality. On the "mean-curve" rows n is the number of sequences that were averaged.
    Raises InputError for a codec, regime or metric that has no points.
    """
    ok = scored(points)
    if (ok["sequence"] == MEAN).any():
        raise InputError(f"a sequence is called {MEAN!r}, the name of the mean over sequences in this table")
    present = list(dict.fromkeys(ok["codec"]))
    tests = list(codecs) if codecs is not None else [codec for codec in present if codec != anchor]
    for codec in (anchor, *tests):
        if codec not in present:
            raise InputError(f"no points of codec {codec!r}; there are {', '.join(present) or 'none'}")
    in_points = [regime for regime in dict.fromkeys(ok["regime"]) if regime]
    for regime in regimes or ():
        if regime not in in_points:
            raise InputError(f"no points of regime {regime!r}; there are {', '.join(in_points) or 'none'}")

    rows: list[dict[str, object]] = []
    for regime in regimes or in_points:
        part = ok[ok["regime"].isin([regime, ""])]
        for metric in metrics:
            if metric not in part.columns:
                raise InputError(f"metric {metric!r} was not computed: there is no such column")
            higher = METRICS[metric].higher_is_better
            curves = {
                codec: curves_of(part[part["codec"] == codec], rate, metric, higher) for codec in (anchor, *tests)
            }
            for codec in tests:
                pair = _Pair(anchor, codec, curves[anchor], curves[codec], higher)
                means = _mean_curves(pair)
                for method in methods:
                    head = {"anchor": anchor, "codec": codec, "regime": regime, "metric": metric, "method": method}
                    rows += [head | row for row in _rows(pair, means, method)]
    table = pd.DataFrame(rows, columns=TABLE_COLUMNS)
    numbers = ("bd_rate", "bd_quality", "overlap", "ci_low", "ci_high", *TABLE_COLUMNS[-4:-1])
    counts = ("n", "n_total", "quality_n")
    return table.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(counts, "Int64"))


@dataclass(frozen=True)
class _Pair:
    """The curves of two codecs by sequence, one regime and metric."""

    anchor: str
    codec: str
    anchors: dict[str, Curve]
    tests: dict[str, Curve]
    higher_is_better: bool

    @property
    def sequences(self) -> list[str]:
        """Those with a curve of either codec."""
        return [name for name in dict.fromkeys([*self.anchors, *self.tests]) if name != MEAN_CURVE]

    @property
    def published(self) -> bool:
        """Whether one of the two comes as a mean over sequences."""
        return MEAN_CURVE in self.anchors or MEAN_CURVE in self.tests


@dataclass(frozen=True)
class _Means:
    anchor: Curve | None
    test: Curve | None
    n: int
    note: str


def _mean_curves(pair: _Pair) -> _Means:
    """Both codecs averaged over the same sequences, except that a published curve stays as it is."""
    names = pair.sequences
    if not pair.published:
        names = [name for name in names if name in pair.anchors and name in pair.tests]
    means, notes = [], []
    for label, curves in ((pair.anchor, pair.anchors), (pair.codec, pair.tests)):
        chosen = [curves[MEAN_CURVE]] if MEAN_CURVE in curves else [curves[name] for name in names]
        mean = mean_curve(chosen)
        if mean is None:
            notes.append(f"N/A: the {len(chosen)} curves of {label} share no range of rates")
        elif len(chosen) > 1:
            notes.append(f"{label}: mean of {len(chosen)} curves from rate {mean.rate[0]:.3g} to {mean.rate[-1]:.3g}")
        means.append(mean)
    return _Means(means[0], means[1], len(names), "; ".join(notes))


def _rows(pair: _Pair, means: _Means, method: str) -> Iterator[dict[str, object]]:
    """The rows of one codec, metric and method: each sequence, their mean, the mean curves."""
    results: list[BdResult] = []
    if not pair.published:
        for name in pair.sequences:
            if name in pair.anchors and name in pair.tests:
                result = _compare(pair.anchors[name], pair.tests[name], method, pair.higher_is_better)
            else:
                missing = pair.codec if name in pair.anchors else pair.anchor
                result = BdResult(None, None, 0.0, 0.0, f"N/A: no points of {missing}")
            results.append(result)
            yield {"sequence": name, **_cells(result)}
        yield {"sequence": MEAN, **_mean_cells(results)}
    if means.anchor is None or means.test is None:
        result = BdResult(None, None, 0.0, 0.0, means.note)
    else:
        result = _compare(means.anchor, means.test, method, pair.higher_is_better)
    note = "; ".join(filter(None, dict.fromkeys((means.note, result.note))))
    yield {"sequence": MEAN_CURVE, **_cells(result), "n": means.n, "n_total": len(pair.sequences), "note": note}


def _cells(result: BdResult) -> dict[str, object]:
    return {
        "bd_rate": result.rate_percent,
        "bd_quality": result.quality_delta,
        "overlap": result.overlap_percent,
        "rate_overlap": result.rate_overlap_percent,
        "note": result.note,
    }


def _mean_cells(results: Sequence[BdResult]) -> dict[str, object]:
    """The mean over sequences; the overlap is that of the sequences that count, or of all where none does."""
    rated = [r for r in results if r.rate_percent is not None]
    graded = [r for r in results if r.quality_delta is not None]
    rates = [r.rate_percent for r in rated if r.rate_percent is not None]
    deltas = [r.quality_delta for r in graded if r.quality_delta is not None]
    ci_low, ci_high = bootstrap_interval(rates) or (None, None)
    quality_low, quality_high = bootstrap_interval(deltas) or (None, None)
    return {
        "bd_rate": np.mean(rates) if rates else None,
        "bd_quality": np.mean(deltas) if deltas else None,
        "overlap": np.mean([r.overlap_percent for r in rated or results]) if results else None,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "n": len(rates),
        "n_total": len(results),
        "note": "",
        "rate_overlap": np.mean([r.rate_overlap_percent for r in graded or results]) if results else None,
        "quality_ci_low": quality_low,
        "quality_ci_high": quality_high,
        "quality_n": len(deltas),
    }


def _compare(anchor: Curve, test: Curve, method: str, higher_is_better: bool) -> BdResult:
    if method not in METHODS:
        raise InputError(f"BD method {method!r} is not one of {', '.join(METHODS)}")
    notes = [f"{label}: {curve.note}" for label, curve in (("anchor", anchor), ("test", test)) if curve.note]
    for label, curve in (("anchor", anchor), ("test", test)):
        if len(curve) < METHODS[method]:
            plural = "" if len(curve) == 1 else "s"
            notes.append(f"N/A: {label} has {len(curve)} usable point{plural}, {method} needs {METHODS[method]}")
            return BdResult(None, None, 0.0, 0.0, "; ".join(notes))

    # Deltas do not change when both rates are scaled or both qualities are moved and scaled alike, but the cubic fit is
    # far better conditioned on [0, 1] than on, say, MS-SSIM from 0.97 to 0.99.
    low = min(anchor.quality[0], test.quality[0])
    span = max(anchor.quality[-1], test.quality[-1]) - low
    unit = anchor.rate[0]
    arguments = (anchor.rate / unit, (anchor.quality - low) / span, test.rate / unit, (test.quality - low) / span)

    quality_overlap = _overlap_percent(anchor.quality, test.quality)
    rate_overlap = _overlap_percent(np.log10(anchor.rate), np.log10(test.rate))
    rate_percent = quality_delta = None
    if quality_overlap >= MIN_OVERLAP_PERCENT:
        rate_percent, remarks = _integrate(bjontegaard.bd_rate, arguments, arguments[1], arguments[3], method)
        notes += remarks
    else:
        notes.append(f"BD-rate N/A: the qualities overlap by {math.floor(quality_overlap)} %")
    if rate_overlap >= MIN_OVERLAP_PERCENT:
        logs = np.log10(arguments[0]), np.log10(arguments[2])
        delta, remarks = _integrate(bjontegaard.bd_psnr, arguments, *logs, method)
        quality_delta = None if delta is None else delta * span * (1 if higher_is_better else -1)
        notes += remarks
    else:
        notes.append(f"BD-quality N/A: the rates overlap by {math.floor(rate_overlap)} %")
    return BdResult(rate_percent, quality_delta, quality_overlap, rate_overlap, "; ".join(dict.fromkeys(notes)))


def _integrate(
    delta: Callable[..., tuple[float, Callable[[Array], Array], Callable[[Array], Array]]],
    arguments: tuple[Array, Array, Array, Array],
    base_anchor: Array,
    base_test: Array,
    method: str,
) -> tuple[float | None, list[str]]:
    """A delta by the `bjontegaard` package, and remarks on its fits: bent backwards in the overlap, poorly conditioned.

    base_*: the axis that is integrated over; None where the integral is not finite.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value, *fits = delta(
            *arguments, method=method, require_matching_points=False, interpolators=True, min_overlap=0
        )
    remarks = [f"{method}: {warning.message}" for warning in caught]
    grid = np.linspace(max(base_anchor[0], base_test[0]), min(base_anchor[-1], base_test[-1]), 200)
    for label, fit in zip(("anchor", "test"), fits, strict=True):
        if np.any(np.diff(fit(grid)) < -1e-9):
            remarks.append(f"the {method} fit of the {label} is not monotone")
    if not np.isfinite(value):
        return None, [*remarks, f"N/A: {method} gives {value}"]
    return float(value), remarks


def _overlap_percent(a: Array, b: Array) -> float:
    """Intersection over union of the intervals that two increasing series span, in %."""
    shared = min(a[-1], b[-1]) - max(a[0], b[0])
    return float(100.0 * max(shared, 0.0) / (max(a[-1], b[-1]) - min(a[0], b[0])))


# -- tables to read ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sheet:
    """One printed table."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def format_table(table: pd.DataFrame, style: str = "text", per_sequence: bool = False) -> str:
    """A `bd_table` for people: style "text", "markdown" or "latex" (booktabs), or "csv", the long form itself.

    One table per regime and metric; a row per codec (and method, and sequence where `per_sequence`). Next to each
    number stand the overlap and how many sequences have it; N/A is written out.
    """
    if style == "csv":
        return table.to_csv(index=False, lineterminator="\n")
    if style not in _RENDERERS:
        raise InputError(f"table format {style!r} is not one of csv, {', '.join(_RENDERERS)}")
    return "\n\n".join(_RENDERERS[style](sheet) for sheet in _sheets(table, per_sequence)) + "\n"


def _sheets(table: pd.DataFrame, per_sequence: bool) -> Iterator[_Sheet]:
    for (regime, metric), part in table.groupby(["regime", "metric"], sort=False):
        kind = METRICS[str(metric)]
        several = part["method"].nunique() > 1
        method = "" if several else f", {part['method'].iloc[0]}"
        better = "" if kind.higher_is_better else " (lower is better)"
        title = f"{kind.label}{better}, {regime}: against {part['anchor'].iloc[0]}{method}"
        header = ["codec", *(["method"] if several else [])]
        rows, remarks = [], []
        if per_sequence:
            header += ["sequence", "BD-rate", "BD-quality", "note"]
            shown = part[~part["sequence"].isin([MEAN, MEAN_CURVE])]
            for row in shown.to_dict("records"):
                lead = [row["codec"], *([row["method"]] if several else []), row["sequence"]]
                quality = _quality(row["bd_quality"], kind.unit, row["rate_overlap"])
                rows.append([*lead, _percent(row["bd_rate"], row["overlap"]), quality, row["note"]])
        else:
            header += ["BD-rate, mean", "95 % interval", "BD-rate, mean curve", "BD-quality, mean"]
            for key, rows_of in part.groupby(["codec", "method"], sort=False):
                by_kind = {row["sequence"]: row for row in rows_of.to_dict("records")}
                mean, curve = by_kind.get(MEAN), by_kind[MEAN_CURVE]
                cells = ["N/A", "N/A", _percent(curve["bd_rate"], curve["overlap"]), "N/A"]
                if mean is None:  # a published curve meets only the mean curve
                    cells[3] = _quality(curve["bd_quality"], kind.unit, curve["rate_overlap"])
                    cells[0] = cells[1] = "-"
                else:
                    total = int(mean["n_total"])
                    cells[0] = _percent(mean["bd_rate"], mean["overlap"], f"{int(mean['n'])}/{total}")
                    if pd.notna(mean["ci_low"]):
                        cells[1] = f"{mean['ci_low']:+.1f} .. {mean['ci_high']:+.1f}"
                    of = f"{int(mean['quality_n'])}/{total}"
                    cells[3] = _quality(mean["bd_quality"], kind.unit, mean["rate_overlap"], of)
                rows.append([*(key if several else key[:1]), *cells])
                remarked = sum(row["note"] != "" for name, row in by_kind.items() if name not in (MEAN, MEAN_CURVE))
                if remarked:
                    remarks.append(f"{' '.join(key if several else key[:1])} ({remarked})")
        listed = [f"Sequences with points left out, N/A, or a fit that bends back: {', '.join(remarks)}."]
        yield _Sheet(title, header, rows, listed if remarks else [])


def _percent(value: float, overlap: float, count: str = "") -> str:
    """-31.2 % (84 % overlap, 22/24)"""
    return f"{_number(value, 1, ' %')} {_backing(overlap, count)}"


def _quality(value: float, unit: str, overlap: float, count: str = "") -> str:
    digits = 2 if unit or abs(value) >= 1 else 4
    return f"{_number(value, digits, f' {unit}' if unit else '')} {_backing(overlap, count)}"


def _number(value: float, digits: int, unit: str) -> str:
    return "N/A" if pd.isna(value) else f"{round(value, digits) + 0.0:+.{digits}f}{unit}"  # + 0.0: no "-0.0"


def _backing(overlap: float, count: str) -> str:
    shown = 0 if pd.isna(overlap) else math.floor(overlap)  # never rounded up to the limit that it misses
    return f"({shown} % overlap{f', {count}' if count else ''})"


def _text(sheet: _Sheet) -> str:
    lines = [sheet.header, *sheet.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(sheet.header))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([sheet.title, body[0], "-" * max(map(len, body)), *body[1:], *sheet.notes])


def _markdown(sheet: _Sheet) -> str:
    header, *rows = [[cell.replace("|", "\\|") for cell in line] for line in (sheet.header, *sheet.rows)]
    lines = [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows)]
    notes = ["", *(f"- {note}" for note in sheet.notes)] if sheet.notes else []
    return "\n".join([f"**{sheet.title}**", "", *lines, *notes])


def _latex(sheet: _Sheet) -> str:
    rows = [" & ".join(map(_latex_escape, line)) + r" \\" for line in (sheet.header, *sheet.rows)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_latex_escape(sheet.title)}}}",
            rf"\begin{{tabular}}{{{'l' * len(sheet.header)}}}",
            *(r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule"),
            *(r"\end{tabular}", r"\end{table}"),
            *(f"% {note}" for note in sheet.notes),
        ]
    )


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def _latex_escape(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return escaped.replace(" -", " $-$") if not escaped.startswith("-") else f"$-${escaped[1:].replace(' -', ' $-$')}"


_RENDERERS: dict[str, Callable[[_Sheet], str]] = {"text": _text, "markdown": _markdown, "latex": _latex}


# -- the command -------------------------------------------------------------------------------------------------------


def select_metrics(points: pd.DataFrame, wanted: Iterable[str] | None) -> list[str]:
    """The metric columns to show: those asked for (columns or families), or the default four, as far as computed.

    Raises InputError where a column that was asked for by name has no value, or where none is left.
    """
    have = [metric for metric in METRICS if metric in points.columns and points[metric].notna().any()]
    if wanted is None:
        chosen = [metric for metric in DEFAULT_METRICS if metric in have] or have
    else:
        names = list(wanted)
        for name in names:
            if name in METRICS and name not in have:
                raise InputError(f"metric {name!r} was not computed; there are {', '.join(have) or 'none'}")
        chosen = [metric for metric in expand_metrics(names) if metric in have]
    if not chosen:
        raise InputError(f"none of the metrics was computed; there are {', '.join(have) or 'none'}")
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """`rd-bd`."""
    parser = argparse.ArgumentParser(
        prog="rd-bd",
        description="Bjontegaard deltas of a sweep: BD-rate in %% at equal quality, and quality at equal rate, with "
        "the overlap of the curves and the number of sequences behind each number.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("points", type=Path, metavar="DIR|points.csv", help="a sweep's output folder or its table")
    parser.add_argument("--anchor", default="hevc", help="codec, or a file with a curve in CompressAI's JSON format")
    parser.add_argument("--codecs", nargs="+", metavar="CODEC", help="test codecs, in this order (default: all)")
    parser.add_argument(
        "--metrics", nargs="+", metavar="METRIC", help=f"columns or families (default: {' '.join(DEFAULT_METRICS)})"
    )
    parser.add_argument("--regime", nargs="+", metavar="REGIME", help="one-intra, short-gop (default: those present)")
    parser.add_argument("--method", nargs="+", choices=list(METHODS), default=["pchip"], help="interpolation")
    parser.add_argument("--per-sequence", action="store_true", help="a row per sequence in place of the means")
    parser.add_argument("--format", choices=["csv", *_RENDERERS], default="text", help="csv: the long table, all of it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")
    args = parser.parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    points = scored(read_points(args.points))
    anchor, rate = args.anchor, "kbps"
    if anchor.endswith(".json"):
        published = read_compressai(anchor)
        anchor = published["codec"].iloc[0]
        if anchor in set(points["codec"]):
            anchor = f"{anchor} [{Path(args.anchor).name}]"
            published["codec"] = anchor
        if published["kbps"].isna().all():
            rate = "bpp"
        points = pd.concat([points, published], ignore_index=True)
    present = list(dict.fromkeys(points["codec"]))
    if anchor not in present:
        raise InputError(f"no points of codec {anchor!r}; there are {', '.join(present) or 'none'}")
    metrics = select_metrics(points[points["codec"] == anchor], args.metrics)
    table = bd_table(points, anchor, metrics, args.regime, args.method, args.codecs, rate)
    text = format_table(table, args.format, args.per_sequence)
    if args.out:
        write_atomic(args.out, text)
    else:
        print(text, end="")
