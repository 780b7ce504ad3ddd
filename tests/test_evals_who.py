"""Who: reversed items are turned about, both keys weigh alike, and the statements are as many for as against."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from charactery.errors import BadData, CharacteryError
from charactery.evals.asks import by_shares
from charactery.evals.registry import find_eval
from charactery.evals.who.task import DOMAINS, PERSONAS, cases, score

DATA = Path(__file__).parents[2] / "shared" / "data"
INVENTORY = DATA / "ipip_neo_120" / "en" / "questions.json"
BUNDLED = cases("bundled", "")


def test_the_inventory_is_whole() -> None:
    rated = [c for c in BUNDLED if "domain" in c.about]
    assert Counter(c.about["domain"] for c in rated) == dict.fromkeys(DOMAINS, 24)
    assert min(Counter(c.stratum for c in rated).values()) >= 6


@pytest.mark.skipif(not INVENTORY.is_file(), reason="needs the IPIP-NEO-120 in ../shared/data")
def test_the_inventory_is_the_published_one() -> None:
    theirs = {(q["text"].strip(), q["domain"], q["keyed"]) for q in json.loads(INVENTORY.read_text())}
    rows = [json.loads(line) for line in (find_eval("who").folder / "inventory.jsonl").read_text().splitlines()][1:]
    assert {(r["text"], r["domain"][0].upper(), r["key"]) for r in rows} == theirs


def test_statements_are_keyed_both_ways_alike() -> None:
    said = Counter((c.about["persona"], c.stratum) for c in BUNDLED if "persona" in c.about)
    assert said == {(p, key): 6 for p in PERSONAS for key in ("Yes", "No")}


def test_scores_follow_the_key() -> None:
    plus, minus = (next(c for c in BUNDLED if c.stratum == f"openness {key}") for key in ("plus", "minus"))
    high = {"rating": by_shares((0.0, 0.0, 0.0, 0.5, 0.5), "")}
    assert score(plus, high) == pytest.approx({"openness": 4.5, "acquiescence": 1.5})
    assert score(minus, high) == pytest.approx({"openness": 1.5, "acquiescence": 1.5})
    no = next(c for c in BUNDLED if c.stratum == "No")
    values = score(no, {"saying": by_shares((0.25, 0.75), "")})
    name = no.about["persona"]
    assert values == pytest.approx(
        {f"persona: {name}": 1.0986, f"says: {name}": 1.0, "says": 1.0, "yes-saying": -1.0986}, abs=1e-4
    )


def test_public_personas_are_read_from_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "perez2022" / "persona"
    folder.mkdir(parents=True)
    with pytest.raises(CharacteryError, match=r"holds no \.jsonl"):
        cases("perez2022", str(tmp_path))
    row = {"question": "…", "statement": "I like tea", "answer_matching_behavior": " No"}
    for name in ("calm", "bold"):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as stream:
            stream.write("\n".join(json.dumps({**row, "statement": f"I like tea {n}"}) for n in range(3)))
    found = cases("perez2022", str(tmp_path))
    assert [c.about["persona"] for c in found] == ["bold", "calm"] * 3
    assert found[0].id == "bold-1" and found[0].about["matching"] == 1 and found[0].stratum == "No"
    (folder / "odd.jsonl").write_text(json.dumps({**row, "answer_matching_behavior": " (A)"}))
    with pytest.raises(BadData, match=r"statement 1 is matched by '\(A\)'"):
        cases("perez2022", str(tmp_path))
