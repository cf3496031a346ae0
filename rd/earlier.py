"""Points that another sweep measured: anchors need not be coded again to compare a new codec with them.

    rd-sweep --anchors results/conventional --codecs hdac .. --out results/hdac

Taken are the rows of codecs that are not swept now, of the same clips (by their hash, first N frames included) and regimes.
Both sweeps must have used the same version of every metric; whoever changes a conventional codec sweeps it again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.errors import InputError
from rd.columns import METRICS
from rd.table import read_points


@dataclass(frozen=True, eq=False)
class Earlier:
    """What is taken over from a sweep.

    points, candidates: rows of its tables. facts: of its `run.json`.
    """

    folder: Path
    points: pd.DataFrame
    candidates: pd.DataFrame
    facts: dict[str, Any]

    @property
    def codecs(self) -> dict[str, Any]:
        """Title, description and commands of the codecs whose points are taken, as in `run.json`."""
        taken = set(self.points["codec"])
        return {name: facts for name, facts in self.facts["codecs"].items() if name in taken}

    @property
    def origin(self) -> dict[str, Any]:
        """Where the points come from, for the provenance of the new sweep."""
        same = ("command", "commit", "started", "versions", "machine")
        return {"folder": str(self.folder), "codecs": sorted(self.codecs), **{name: self.facts[name] for name in same}}


def read_earlier(
    folder: Path, clips: dict[str, str], codecs: Sequence[str], regimes: Sequence[str], columns: Sequence[str]
) -> Earlier:
    """The rows of a sweep that belong beside those of a new one.

    clips:   SHA-256 of every clip by its name, as it is coded now.
    codecs:  those that are swept now, whose earlier rows are not taken.
    columns: metrics that are measured now; others are left out.
    Raises InputError where the folder holds no sweep, no clip of it is the same, or a metric has another version.
    """
    try:
        facts = json.loads((folder / "run.json").read_text())
        known = {clip["name"]: clip["sha256"] for clip in facts["sequences"]}
        versions = facts["metrics"]["versions"]
        measured = facts["metrics"]["computed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no sweep to take anchors from: {error}") from error
    points = read_points(folder)
    same = [name for name, sha256 in clips.items() if known.get(name) == sha256]
    if not same:
        raise InputError(f"{folder} holds none of these clips with these frames (its sweep: --frames {facts.get('frames')})")
    check_versions(folder, versions, [column for column in columns if column in measured])
    points = points[_taken(points, same, codecs, regimes)]
    left_out = [column for column in METRICS if column in points.columns and column not in columns]
    path = folder / "candidates.csv"
    candidates = pd.read_csv(path, dtype={"sequence": str}) if path.exists() else pd.DataFrame()
    if not candidates.empty:
        candidates = candidates[_taken(candidates, same, codecs, regimes)]
    return Earlier(folder, points.drop(columns=left_out), candidates, facts)


def check_versions(folder: Path, versions: dict[str, str], columns: Sequence[str]) -> None:
    """Raises InputError where a metric of both sweeps, one of `columns`, had another version in the earlier one."""
    from rd.metrics import version

    for column in columns:
        then, now = versions.get(column, "unknown"), version(column)
        if then != now:
            raise InputError(f"{folder} measured {column} by version {then}, here it is {now}")


def _taken(table: pd.DataFrame, clips: Sequence[str], codecs: Sequence[str], regimes: Sequence[str]) -> pd.Series:
    return table["sequence"].isin(clips) & ~table["codec"].isin(codecs) & table["regime"].isin(regimes)
