"""The wheel holds everything that the source tree does, and nothing beside it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("hatchling")


def test_the_wheel_carries_all_its_content(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        entry_points = next(wheel.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    source = ROOT / "src"
    here = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert here <= names, sorted(here - names)
    assert {n.partition("/")[0].partition("-")[0] for n in names} == {"charactery"}
    assert {n.rpartition("/")[2] for n in names} >= {"LICENSE", "NOTICE", "captain.md", "poet.md"}
    assert "charactery = charactery.cli:main" in entry_points
