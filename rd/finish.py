"""What a sweep tells at its end, from the tables that it wrote: BD table, plots, dumps, report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rd.bd import METHODS, bd_table, format_table, select_metrics
from rd.columns import METRICS
from rd.table import read_points, scored, write_table

PREFERRED_ANCHOR = "hevc"


def finish(out: Path, anchor: str | None, cache: Path, dumps: bool, report: bool) -> None:
    """Writes bd.csv, plots/, dumps/ and report.html into `out`, and prints the BD table.

    anchor:  codec that the others are compared with; by default `hevc`, or else the first codec of the table.
    cache:   the sweep's cache, whose streams the dumps decode.
    dumps, report: whether to make the pictures, and plots and report.
    """
    points = scored(read_points(out))
    if points.empty:
        print("no point could be coded: there is nothing to compare")
        return
    codecs = list(dict.fromkeys(points["codec"]))
    anchor = anchor or (PREFERRED_ANCHOR if PREFERRED_ANCHOR in codecs else codecs[0])
    computed = [metric for metric in METRICS if metric in points.columns and points[metric].notna().any()]
    if len(codecs) > 1:
        methods = list(METHODS)
        table = bd_table(points, anchor, computed, methods=methods)
        write_table(table, out / "bd.csv")
    if report:
        from rd import dump, plot
        from rd.report import write_report

        plot.write_plots(points, out / "plots", select_metrics(points, None), anchor=anchor)
        if dumps:
            dump.write_dumps(out, cache)
        page = write_report(out)
    if len(codecs) > 1:
        shown = table[(table["method"] == methods[0]) & table["metric"].isin(select_metrics(points, None))]
        print(format_table(pd.DataFrame(shown), "text"))
    print(f"points:  {out / 'points.csv'}")
    if report:
        print(f"report:  {page}")
