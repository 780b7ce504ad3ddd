"""The wheel holds everything that the source tree does, and nothing beside it, and works outside of it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("hatchling")


def test_the_wheel_carries_all_its_content_and_works(tmp_path: Path) -> None:
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
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*pip, str(next(tmp_path.glob("*.whl")))], check=True)
    for arguments, said in ((["--help"], "train"), (["lint", "captain"], "")):
        done = subprocess.run(
            [sys.executable, "-m", "charactery", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(installed)},
        )  # fmt: skip
        assert done.returncode == 0 and said in done.stdout, done.stderr
    where = [sys.executable, "-c", "import charactery; print(charactery.__file__)"]
    env = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True, env=env)
    assert str(installed) in found.stdout, "the wheel's code, not the source tree's"
