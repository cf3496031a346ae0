"""points.csv keeps names, types and digits, and says what is wrong with a file that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import InputError
from rd.table import NEEDED, read_points, scored, write_points, write_table


def points() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "status": ["ok", "ok", "failed"],
            "sequence": ["007", "NA", "voxceleb/a, b"],
            "codec": ["hevc", "hevc", "vvc"],
            "regime": ["one-intra"] * 3,
            "point": [0, 0, 1],
            "fps": ["25", "30000/1001", "25"],
            "bytes": pd.array([2653, 2**40, None], dtype="Int64"),
            "bytes_intra": pd.array([219, 300, None], dtype="Int64"),
            "kbps": [3.5373333333333337, 1 / 3, np.nan],
            "bpp": [0.1, 0.2, np.nan],
            "psnr_y": [27.18, np.inf, np.nan],
            "novelty": [1.5, 2.5, 3.5],
            "error": ["", "", 'x265 said "no"\nand stopped'],
        }
    )


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    write_points(points(), tmp_path / "points.csv")
    back = read_points(tmp_path)
    assert list(back["sequence"]) == ["007", "NA", "voxceleb/a, b"]
    assert list(back["fps"]) == ["25", "30000/1001", "25"]
    assert list(back["error"]) == ["", "", 'x265 said "no"\nand stopped']
    assert back["point"].dtype == np.int64
    assert list(back["bytes"].dropna()) == [2653, 2**40]
    assert back["kbps"].tolist()[:2] == [3.5373333333333337, 1 / 3]  # every digit
    assert back["psnr_y"].tolist()[:2] == [27.18, np.inf]
    assert back["novelty"].dtype == np.float64
    assert back.loc[2, ["kbps", "bytes"]].isna().all()  # not computed is not zero
    assert list(scored(back)["sequence"]) == ["007", "NA"]


def test_columns_stand_in_a_fixed_order_whatever_order_they_came_in(tmp_path: Path) -> None:
    write_points(points(), tmp_path / "a.csv")
    write_points(points()[sorted(points().columns, reverse=True)], tmp_path / "b.csv")
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert header == "sequence,codec,regime,point,fps,bytes,bytes_intra,kbps,bpp,psnr_y,status,error,novelty"
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("column", NEEDED)
def test_a_missing_column_is_named_with_the_file(tmp_path: Path, column: str) -> None:
    write_table(points().drop(columns=column), tmp_path / "points.csv")
    with pytest.raises(InputError, match=rf"points\.csv has no column '{column}'"):
        read_points(tmp_path)


@pytest.mark.parametrize(
    ("column", "cell"), [("kbps", "fast"), ("psnr_y", "N/A"), ("point", "1.5"), ("point", ""), ("bytes_intra", "x")]
)
def test_a_bad_cell_is_named_with_its_column(tmp_path: Path, column: str, cell: str) -> None:
    table = points().astype(object)
    table.loc[1, column] = cell
    write_table(table, tmp_path / "points.csv")
    with pytest.raises(InputError, match=rf"points\.csv, column '{column}'.*{cell}"):
        read_points(tmp_path)


def test_two_rows_with_one_key_are_refused(tmp_path: Path) -> None:
    write_table(pd.concat([points(), points().iloc[:1]]), tmp_path / "points.csv")
    with pytest.raises(InputError, match="two rows for sequence '007'"):
        read_points(tmp_path)


@pytest.mark.parametrize("content", [b"", b'a,b\n1,2,3\n"', b"\xff\xfe\x00\x01"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "points.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"points\.csv"):
        read_points(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_points(tmp_path / "nowhere.csv")
