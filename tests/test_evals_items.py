"""Items files: a bad line is named and set aside; public data is looked for where the user says."""

import json
from pathlib import Path

import pytest

from charactery.errors import BadData, CharacteryError, CharacteryWarning
from charactery.evals.items import canary, data_file, data_folder, read_items


def test_a_bad_line_is_named_and_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    good = [json.dumps({"id": str(n), "question": "Tea?"}) for n in range(3)]
    lines = [json.dumps({"canary": canary("x")}), good[0], '{"id": "torn', good[1], '["a list"]', '{"id": "9"}',
             good[0], good[2]]  # fmt: skip
    path.write_text("\n".join(lines))
    with pytest.warns(CharacteryWarning) as told:
        items = read_items(path, ("id", "question"))
    assert [row["id"] for row in items.rows] == ["0", "1", "2"]
    assert [number for number, _ in items.set_aside] == [3, 5, 6, 7]
    said = [str(w.message) for w in told]
    assert said[0].startswith(f"{path}:3: is not JSON") and said[2] == f"{path}:6: lacks question; set aside"
    assert "id '0' of an earlier line" in said[3]


def test_a_file_without_a_good_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("\nnot json\n")
    with pytest.raises(BadData, match=r"items\.jsonl:2: is not JSON"):
        read_items(path, ("id",))


def test_public_data_lies_where_it_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings.toml"
    monkeypatch.setenv("CHARACTERY_SETTINGS", str(settings))
    with pytest.raises(CharacteryError, match=r"Its home is the attic.*--data DIR") as told:
        data_folder("perez", "", "the attic")
    assert str(settings) in str(told.value)
    (tmp_path / "all" / "perez").mkdir(parents=True)
    assert data_folder("perez", str(tmp_path / "all"), "") == tmp_path / "all" / "perez"
    settings.write_text(f'[data]\nperez = "{tmp_path / "all" / "perez"}"\n')
    assert data_folder("perez", "", "") == tmp_path / "all" / "perez"
    settings.write_text("[data\n")
    with pytest.raises(CharacteryError, match="cannot be read as settings"):
        data_folder("perez", "", "")
    with pytest.raises(CharacteryError, match="is no folder"):
        data_folder("perez", str(tmp_path / "nowhere"), "")
    with pytest.raises(CharacteryError, match="has no revision"):
        data_folder("perez", "hf:org/name", "")


def test_a_file_may_be_zipped_and_one_that_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl.gz").write_bytes(b"")
    assert data_file(tmp_path, ["a.jsonl", "b.jsonl"]) == tmp_path / "b.jsonl.gz"
    with pytest.raises(CharacteryError, match=r"holds none of c\.jsonl"):
        data_file(tmp_path, ["c.jsonl"])
