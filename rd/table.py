"""The tables of a sweep as files: reading and checking `points.csv`, writing any table atomically.

`points.csv` has one row per (sequence, codec, regime, point). An empty cell is "not computed"; it reads as NaN (or
<NA> in columns of whole numbers), never as zero. Names stay text whatever they look like: a sequence may be called
"007" or "NA".
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import InputError
from data.files import write_atomic
from rd.columns import METRICS

POINTS_FILE = "points.csv"
KEY = ["sequence", "codec", "regime", "point"]
"""What makes a row of `points.csv` unique."""
NEEDED = [*KEY, "kbps", "bpp", "status"]
REGIMES = ("one-intra", "short-gop")

_TEXT = ("sequence", "codec", "regime", "setting", "settings", "fps", "status", "error")
_WHOLE = ("n_frames", "width", "height", "bytes")
_HEAD = [*KEY, "setting", "settings", "n_frames", "width", "height", "fps", "bytes"]
_NUMBERS = ("kbps", "bpp", *METRICS, "encode_s", "decode_s")
_TAIL = ["status", "error"]


def read_points(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Every row of a sweep's `points.csv`, failed ones included (`scored` leaves them out).

    path: the file, or the folder of the sweep.
    Columns: text as str, `point` as int64, counts (`bytes`, `bytes_<layer>`, `n_frames`, ..) as Int64, rates, metrics
    and seconds as float64. Columns that this version does not know become float64 where every cell is a number.
    Raises InputError, naming file and column, for a missing column, a cell that is no number, or two equal keys.
    """
    file = Path(path)
    if file.is_dir():
        file = file / POINTS_FILE
    try:
        raw = pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; a sweep writes it into its output folder") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no CSV table: {error}") from error
    missing = [column for column in NEEDED if column not in raw.columns]
    if missing:
        raise InputError(f"{file} has no column {', '.join(map(repr, missing))}; needed are {', '.join(NEEDED)}")

    columns = {str(column): _typed(raw[column], str(column), file) for column in raw.columns}
    points = pd.DataFrame(columns)
    twice = points.duplicated(KEY)
    if twice.any():
        row = points[twice].iloc[0]
        raise InputError(f"{file} has two rows for {', '.join(f'{name} {row[name]!r}' for name in KEY)}")
    return points


def scored(points: pd.DataFrame) -> pd.DataFrame:
    """The rows that count: those with status "ok"."""
    return points[points["status"] == "ok"].reset_index(drop=True)


def write_points(points: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Writes `points.csv`, columns in their fixed order: key, settings, bytes, rates, metrics, seconds, status."""
    layers = [column for column in points.columns if column.startswith("bytes_")]
    known = [*_HEAD, *layers, *_NUMBERS, *_TAIL]
    others = [column for column in points.columns if column not in known]
    write_table(points[[column for column in [*known, *others] if column in points.columns]], path)


def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Writes a table as CSV, atomically; floats with as many digits as bring the same float back."""
    write_atomic(path, table.to_csv(index=False, lineterminator="\n"))


def file_stem(name: object) -> str:
    """A file name without suffix for any text; different texts get different names, on any file system.

    Lower-case letters, digits, "-", "_" and inner dots stay. A text that has to be changed, or that only case may tell
    from another, carries a hash of the whole: "a/b" becomes "a_b-c14cddc0".
    """
    text = str(name)
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:80].strip(".") or "_"
    if safe == text and text == text.lower():
        return safe
    return f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _typed(cells: pd.Series, column: str, file: Path) -> pd.Series:
    """One column of text cells in its own type."""
    if column in _TEXT:
        return cells
    known = column in _NUMBERS or column in _WHOLE or column == "point" or column.startswith("bytes_")
    empty = cells == ""
    numbers = pd.to_numeric(cells.mask(empty, "nan"), errors="coerce").astype(np.float64)
    wrong = numbers.isna() & ~empty & (cells.str.lower() != "nan")
    if wrong.any():
        if known:
            raise InputError(f"{file}, column {column!r}: {cells[wrong].iloc[0]!r} is not a number")
        return cells
    if column == "point" or column in _WHOLE or column.startswith("bytes_"):
        if column == "point" and numbers.isna().any():
            raise InputError(f"{file}, column 'point': a row has none")
        fraction = numbers.notna() & (~np.isfinite(numbers) | (numbers != np.floor(numbers)))
        if fraction.any():
            raise InputError(f"{file}, column {column!r}: {cells[fraction].iloc[0]!r} is not a whole number")
        return numbers.astype("int64" if column == "point" else "Int64")
    return numbers
