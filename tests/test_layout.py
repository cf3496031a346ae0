"""The packages as installed: imports point one way, commands resolve, a built wheel holds everything that it needs."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.rd.synthetic_sweep import write_sweep

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {  # rd -> hdac -> baselines -> data
    "data": {"data"},
    "baselines": {"baselines", "data"},
    "hdac": {"hdac", "baselines", "data"},
    "rd": {"rd", "hdac", "baselines", "data"},
}
OURS = {*MAY_IMPORT, "tests"}
MODULES = sorted(path.relative_to(ROOT) for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def scripts() -> dict[str, str]:
    """Console scripts of pyproject.toml: name -> "module:function"."""
    section = (ROOT / "pyproject.toml").read_text().split("[project.scripts]\n")[1].split("\n[")[0]
    return dict(re.findall(r'^([\w-]+) = "([\w.:]+)"$', section, re.MULTILINE))


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere, in functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path} has a relative import"
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_one_way(module: Path) -> None:
    assert imported(ROOT / module) & OURS <= MAY_IMPORT[module.parts[0]]


def test_the_six_commands_are_declared() -> None:
    assert set(scripts()) == {"rd-sweep", "rd-bd", "rd-plot", "rd-dump", "rd-report", "hdac"}


@pytest.mark.parametrize("name", scripts())
def test_every_command_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, function = scripts()[name].split(":")
    with pytest.raises(SystemExit) as stopped:
        getattr(importlib.import_module(module), function)(["--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {name} ")


# -- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built from a copy: a build leaves folders behind."""
    for tool in ("setuptools", "wheel", "pip"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"a wheel is built offline here, and {tool} is not installed")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in MAY_IMPORT:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("hdac-*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_holds_every_module_manifest_template_and_weights_and_nothing_else(wheel: Path) -> None:
    folders = ("data/manifests", "rd/templates", "hdac/weights")
    data_files = [path for folder in folders for path in (ROOT / folder).iterdir() if path.is_file() and path.suffix != ".py"]
    data_files.append(ROOT / "hdac/catalogue.csv")
    expected = {path.as_posix() for path in MODULES} | {path.relative_to(ROOT).as_posix() for path in data_files}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert len(data_files) >= 6 and names == expected


@pytest.mark.slow
def test_an_installed_copy_works_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    write_sweep(elsewhere / "sweep")

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=elsewhere, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import data, baselines, hdac, rd; print(*{m.__file__.split('/site/')[0] for m in (data, baselines, hdac, rd)})"
    assert run("-c", where).split() == [str(tmp_path)]  # not the checkout
    assert "hevc" in run("-m", "hdac", "list")
    sets = "from data.sequences import main; import sys; sys.exit(main(['list', 'gfvc']))"
    assert "VOXCELEB_001" in run("-c", sets)
    run("-m", "rd.report", "sweep")
    assert "<script" in (elsewhere / "sweep" / "report.html").read_text()
