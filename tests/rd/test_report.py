"""The report page: self-contained, safe against any text in the tables, and right when a browser draws it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.errors import InputError
from rd.curve import curves_of, mean_curve
from rd.report import main, report_data, write_report
from tests.rd.synthetic_sweep import CODECS, LAYERS, write_sweep

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp; \u2028'"

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def page_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found.group(1))


class Elements(HTMLParser):
    """All elements of a page with their attributes, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        return sum(t == tag for t, _ in self.found)

    def curves(self) -> list[str | None]:
        return [a["data-codec"] for t, a in self.found if t == "path" and a.get("class") == "curve"]


# -- the file, without a browser -------------------------------------------------------------------------------------


def test_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep")
    page = write_report(tmp_path / "sweep").read_text()
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "srcset", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "@import" not in page and "url(" not in page
    assert "default-src 'none'" in page


def test_policy_names_the_checksum_of_the_script_in_the_page(tmp_path: Path) -> None:
    write_sweep(tmp_path, ["a"], dumps=False)
    page = write_report(tmp_path).read_text()
    script = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(script) == 1
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()}'" in page


def test_text_of_the_tables_cannot_become_markup(tmp_path: Path) -> None:
    write_sweep(tmp_path, [NASTY, "b"], failed=NASTY, dumps=False)
    page = write_report(tmp_path).read_text()
    assert page.count("<script") == 2 and page.count("</script>") == 2
    data = page_data(page)
    assert data["sequences"][0] == NASTY
    assert NASTY in data["points"]["error"]["levels"]


def test_data_equal_the_tables_and_missing_values_are_null(tmp_path: Path) -> None:
    points = write_sweep(tmp_path, failed="it broke")
    data = page_data(write_report(tmp_path).read_text())
    assert data["codecs"] == list(CODECS) and data["sequences"] == ["a", "b", "c"]
    assert data["points"]["bytes"][:-1] == points["bytes"][:-1].astype(int).tolist()
    assert data["points"]["bytes"][-1] is None and data["points"]["psnr_y"][-1] is None
    np.testing.assert_allclose(data["points"]["kbps"][:-1], points["kbps"][:-1], rtol=1e-5)
    bd = pd.read_csv(tmp_path / "bd.csv")
    assert len(data["bd"]["bd_rate"]) == len(bd)
    assert sum(value is None for value in data["bd"]["bd_rate"]) == bd["bd_rate"].isna().sum()


def test_mean_curves_are_those_of_the_bd_tables(tmp_path: Path) -> None:
    points = write_sweep(tmp_path, dumps=False)
    data = report_data(tmp_path, tmp_path / "report.html")
    for metric, higher in (("psnr_y", True), ("lpips", False)):
        mine = points[(points["codec"] == "vvc") & (points["regime"] == "short-gop")]
        expected = mean_curve(list(curves_of(mine, "kbps", metric, higher).values()))
        drawn = next(m for m in data["means"] if (m["codec"], m["regime"], m["metric"]) == ("vvc", "short-gop", metric))
        assert expected is not None and drawn["n"] == 3
        np.testing.assert_allclose(drawn["kbps"], expected.rate, rtol=1e-4)
        np.testing.assert_allclose(drawn["value"], expected.quality * (1 if higher else -1), rtol=1e-5)
        assert not drawn["at_setting"]


def test_means_are_those_at_equal_setting_where_sequences_share_no_rates(tmp_path: Path) -> None:
    points = write_sweep(tmp_path, dumps=False)
    of_vvc = points["codec"] == "vvc"
    points.loc[of_vvc, "setting"] = [f"QP {point}" for point in points.loc[of_vvc, "point"]]
    points.loc[of_vvc & (points["sequence"] == "a"), "kbps"] *= 50
    points.to_csv(tmp_path / "points.csv", index=False)
    means = report_data(tmp_path, tmp_path / "report.html")["means"]
    drawn = next(m for m in means if (m["codec"], m["regime"], m["metric"]) == ("vvc", "short-gop", "lpips"))
    mine = points[of_vvc & (points["regime"] == "short-gop")].groupby("setting")
    assert drawn["at_setting"] and drawn["n"] == 3
    np.testing.assert_allclose(sorted(drawn["kbps"]), sorted(mine["kbps"].prod() ** (1 / 3)), rtol=1e-4)
    np.testing.assert_allclose(sorted(drawn["value"]), sorted(mine["lpips"].mean()), rtol=1e-4)


def test_ledger_that_does_not_sum_to_the_file_is_reported(tmp_path: Path) -> None:
    points = write_sweep(tmp_path, ["a"], dumps=False)
    assert report_data(tmp_path, tmp_path / "report.html")["ledger_gaps"] == []
    points.loc[4, "bytes_intra"] += 3
    points.to_csv(tmp_path / "points.csv", index=False)
    (gap,) = report_data(tmp_path, tmp_path / "report.html")["ledger_gaps"]
    assert gap["point"] == points.loc[4, "point"] and gap["layers"] - gap["bytes"] == 3


def test_per_frame_data_stay_within_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path, n_frames=20, dumps=False)
    whole = report_data(tmp_path, tmp_path / "report.html")["frames"]
    assert whole["left_out"] == [] and {s["sequence"] for s in whole["series"]} == {"a", "b", "c"}
    assert {len(s["bytes"]) for s in whole["series"]} == {20}
    size = sum(len(s["bytes"]) * (1 + len(s["metrics"])) for s in whole["series"])
    monkeypatch.setattr("rd.report.FRAME_VALUES", size // 2)
    part = report_data(tmp_path, tmp_path / "report.html")["frames"]
    assert part["left_out"] and {s["sequence"] for s in part["series"]} == {"a", "b", "c"} - set(part["left_out"])


def test_large_pictures_are_reduced_and_small_ones_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path, ["a"])
    (small,) = report_data(tmp_path, tmp_path / "report.html")["dumps"]
    strip = (tmp_path / "dumps" / "strip 1.png").read_bytes()
    assert small["picture"] == "data:image/png;base64," + base64.b64encode(strip).decode() and not small["reduced"]
    monkeypatch.setattr("rd.report.PICTURE_BYTES", 4000)
    out = tmp_path / "pages" / "report.html"
    (large,) = report_data(tmp_path, out)["dumps"]
    assert large["reduced"] and len(large["picture"]) < 4000 * 4 / 3 + 40
    assert large["strip_link"] == "../dumps/strip%201.png"


def test_views_stand_beside_the_strip_and_missing_ones_are_named(tmp_path: Path) -> None:
    write_sweep(tmp_path, ["a"])
    path = tmp_path / "dumps" / "index.json"
    index = json.loads(path.read_text())
    index[0]["views"] = ["strip 1.png", "gone.png"]  # any picture does
    path.write_text(json.dumps(index))
    dump, *others = report_data(tmp_path, tmp_path / "report.html")["dumps"]
    assert [view["link"] for view in dump["views"]] == ["dumps/strip%201.png"] and "gone.png" in dump["missing"]
    assert dump["views"][0]["picture"].startswith("data:image/") and all(other["views"] == [] for other in others)


def test_videos_that_are_too_large_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path, ["a"])
    assert report_data(tmp_path, tmp_path / "report.html")["dumps"][0]["video"].startswith("data:video/mp4")
    monkeypatch.setattr("rd.report.VIDEO_BYTES", 10)
    assert report_data(tmp_path, tmp_path / "report.html")["dumps"][0]["video"] == "dumps/clip.mp4"


def test_points_alone_make_a_page(tmp_path: Path) -> None:
    write_sweep(tmp_path, ["a"], ["hevc"], dumps=False)
    for name in ("run.json", "frames.parquet"):
        (tmp_path / name).unlink()
    data = page_data(write_report(tmp_path).read_text())
    assert data["bd"]["bd_rate"] == [] and data["frames"]["series"] == [] and data["run"] == {}


def test_command_writes_the_page_or_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path / "sweep", ["a"])
    out = tmp_path / "page.html"
    assert main([str(tmp_path / "sweep"), "--out", str(out), "--no-dumps"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert page_data(out.read_text())["dumps"] == []
    assert main([str(tmp_path / "nothing")]) == 1
    assert re.match("error: .*nothing does not exist", capsys.readouterr().err)


def test_damaged_provenance_is_an_input_error(tmp_path: Path) -> None:
    write_sweep(tmp_path, ["a"], dumps=False)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is no JSON"):
        write_report(tmp_path)


# -- in a browser ----------------------------------------------------------------------------------------------------


def browse(page: Path, fragment: str = "", script: str = "") -> str:
    """The document as a headless browser has it after its scripts ran, `script` (ours) last."""
    if script:
        checksum = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        text = page.read_text().replace("script-src '", f"script-src '{checksum}' '", 1)
        page = page.with_name("driven.html")
        page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
    flags += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    assert CHROMIUM is not None
    address = page.as_uri() + (f"#{fragment}" if fragment else "")
    done = subprocess.run([CHROMIUM, *flags, address], capture_output=True, timeout=120, check=True)
    document = done.stdout.decode()
    errors = re.search(r'<body[^>]*data-errors="([^"]*)"', document)
    assert errors is not None, "the page's script did not run"
    assert errors.group(1) == ""
    return document


def table_rows(document: str, section: str) -> int:
    """Rows of table bodies inside an element with that id."""
    inside = document.split(f'id="{section}"', 1)[1].split("</section>", 1)[0]
    return sum(part.split("</tbody>")[0].count("<tr") for part in inside.split("<tbody>")[1:])


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder, failed="encoder died")
    return write_report(folder)


@pytest.mark.needs_chromium
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")
class TestInChromium:
    def test_first_view_shows_every_codec_in_both_regimes(self, sweep_page: Path) -> None:
        document = browse(sweep_page)
        curves = Elements(document.split('id="rd"')[1].split("</section>")[0]).curves()
        assert sorted(filter(None, curves)) == sorted(2 * list(CODECS))
        assert table_rows(document, "headline") == len(CODECS) - 1
        assert table_rows(document, "bd") == 2 * (len(CODECS) - 1) + 2 * 3
        assert table_rows(document, "failures") == 1 and "encoder died" in document
        assert "5 codecs on 3 sequences" in document and "rd-sweep --sequences a b c" in document

    def test_address_chooses_what_is_shown(self, sweep_page: Path) -> None:
        document = browse(sweep_page, "metric=lpips&sequence=b&regime=short-gop&hide=hevc&hide=av1&anchor=vvc")
        section = document.split('id="rd"')[1].split("</section>")[0]
        assert sorted(filter(None, Elements(section).curves())) == ["h264", "hevc-paper", "vvc"]
        assert "lower is better" in section and "BD against <span" in document
        assert re.search(r'BD against <span data-show="anchor">vvc</span>, <span data-show="metric">LPIPS', document)
        points = sum(len(CODECS[codec]) for codec in ("h264", "hevc-paper", "vvc"))
        assert document.count('class="ledger-row') == points

    def test_unknown_choices_in_the_address_are_ignored(self, sweep_page: Path) -> None:
        document = browse(sweep_page, "metric=nonsense&sequence=%3Cb%3E&hide=nobody")
        assert len(Elements(document.split('id="rd"')[1].split("</section>")[0]).curves()) == 2 * len(CODECS)

    def test_bars_of_the_ledger_have_the_layers_bytes(self, sweep_page: Path) -> None:
        document = browse(sweep_page, "sequence=a&regime=one-intra")
        first = document.split('class="ledger-row', 1)[1].split("</tr>")[0]
        parts = [int(b) for b in re.findall(r"flex: (\d+) 0", first)]
        total = report_data(sweep_page.parent, sweep_page)["points"]["bytes"][0]
        assert len(parts) == len(LAYERS) and sum(parts) == total

    def test_controls_legend_and_keyboard_work(self, sweep_page: Path) -> None:
        document = browse(
            sweep_page,
            script="""
            const choose = (name, value) => {
              const list = document.querySelector(`select[name=${name}]`);
              list.value = value;
              list.dispatchEvent(new Event("change", {bubbles: true}));
            };
            choose("sequence", "c");
            choose("metric", "vmaf");
            document.querySelector("#legend button").click();
            document.querySelector("#rd svg").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
            document.querySelector("#rd svg").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
            document.body.dataset.result = [location.hash, document.querySelectorAll("#rd .curve").length,
              document.querySelector("#rd .tip").textContent].join(" | ");
            """,
        )
        result = re.search(r'data-result="([^"]*)"', document)
        assert result
        address, curves, tip = result.group(1).replace("&amp;", "&").split(" | ")
        assert address == "#metric=vmaf&sequence=c&detail=c&hide=hevc"
        assert int(curves) == 2 * (len(CODECS) - 1)
        assert "vvc QP 47" in tip and "kbps, VMAF" in tip

    def test_hostile_names_stay_text(self, tmp_path: Path) -> None:
        write_sweep(tmp_path, [NASTY, "b"], failed=NASTY, dumps=False)
        document = browse(write_report(tmp_path), "regime=one-intra")
        assert "<title>Rate-distortion report" in document and "owned'&lt;/script&gt;" in document
        assert Elements(document).count("img") == 0

    def test_page_of_points_alone_has_no_errors(self, tmp_path: Path) -> None:
        write_sweep(tmp_path, ["only"], ["hevc"], dumps=False)
        for name in ("run.json", "frames.parquet"):
            (tmp_path / name).unlink()
        document = browse(write_report(tmp_path))
        assert "no BD-rates" in document and len(Elements(document).curves()) == 2

    def test_sweep_where_everything_failed_still_has_a_page(self, tmp_path: Path) -> None:
        write_sweep(tmp_path, ["a"], ["hevc"], failed="out of memory", dumps=False)
        points = pd.read_csv(tmp_path / "points.csv")
        points[points["status"] == "failed"].to_csv(tmp_path / "points.csv", index=False)
        document = browse(write_report(tmp_path))
        assert "out of memory" in document and Elements(document).curves() == []
