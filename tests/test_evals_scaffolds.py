"""Scaffolds: each holds the same request, its form is its own, and a letter is turned into the character's line."""

import ast
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, ModelUsage, get_model
from inspect_ai.tool import ToolChoice, ToolInfo

from charactery.errors import BadData, CharacteryError
from charactery.evals.asks import Reading, by_shares, by_text
from charactery.evals.controls import Draws, drawn
from charactery.evals.definition import Case
from charactery.evals.judged import agreement
from charactery.evals.results import SAMPLES, add_rows, sample_rows
from charactery.evals.scaffolds import shares
from charactery.evals.scaffolds.task import BY_STEPS, CONTROLS, EVAL, LETTERS, SCAFFOLDS, cases, labelled, score

CASES = cases("bundled", "")
NINE = math.log(9)  # log-odds of A by itself
A, B = by_shares((0.9, 0.1), ""), by_shares((0.1, 0.9), "")
ROWS = {r["id"]: r for r in map(json.loads, (EVAL.folder / "items.jsonl").read_text().splitlines()[1:])}


def last(case: Case, name: str) -> str:
    return next(ask.messages[-1]["content"] for ask in case.asks if ask.name == name)


def test_every_character_stands_in_every_scaffold_in_both_orders() -> None:
    places = Counter((c.about["character"], c.about["scaffold"], c.about["order"]) for c in CASES)
    assert places == {(w, s, o): 18 for w in ("captain", "companion") for s in SCAFFOLDS for o in (0, 1)}
    for case in CASES:
        row, text = ROWS[case.cluster], last(case, "picks")
        spoken = row[case.about["character"]]
        for said in (row["request"], spoken, row["plain"]):
            assert said in text.replace('\\"', '"'), case.id
        assert text.index("(A)") < text.index("(B)")
        first = spoken if case.about["order"] == 0 else row["plain"]
        assert first in text.partition("(A)")[2].partition("\n(B)")[0].replace('\\"', '"')
        assert row["request"] in last(case, "writes") and spoken not in last(case, "writes")


def test_lines_are_written_in_the_form_of_the_scaffold() -> None:
    for case in CASES:
        spoken = ROWS[case.cluster][case.about["character"]]
        option = next(ask.options[0] for ask in case.asks if ask.name == "writes")
        form = case.about["scaffold"]
        if form == "JSON":
            assert json.loads(option) == {"answer": spoken}
        elif form in ("tools", "review"):
            inner = option.removeprefix("post(").removesuffix(")") if form == "tools" else option
            assert ast.literal_eval(inner) == spoken
        else:
            assert option == spoken


def test_lines_are_of_like_length() -> None:
    for who in ("captain", "companion"):
        ratios = [len(r[who]) / len(r["plain"]) for r in ROWS.values()]
        assert 0.9 < np.mean(ratios) < 1.15 and max(ratios) < 1.6 and min(ratios) > 0.6


def test_a_long_talk_answers_itself_and_a_chat_has_no_past() -> None:
    by_form = {c.about["scaffold"]: c for c in CASES[:7]}
    said = by_form["long talk"].asks[1].messages
    assert [m["role"] for m in said] == ["user", "assistant"] * 6 + ["user"]
    assert len(by_form["chat"].asks[1].messages) == 1 and "chat" not in {a.name for a in by_form["chat"].asks}
    for form in ("JSON", "e-mail", "tools", "review"):
        assert by_form[form].asks[1].messages[0]["role"] == "system"


@pytest.mark.parametrize(("order", "letter"), [(0, A), (1, B)])
def test_the_letter_of_the_line_is_the_character(order: int, letter: Reading) -> None:
    case = next(c for c in CASES if c.about["order"] == order and c.about["scaffold"] == "e-mail")
    where = f"{case.about['character']} in e-mail"
    other = B if letter is A else A
    told = {"picks": letter, "writes": B, "chat": letter, "text": by_text(["Aye."])}
    assert score(case, told) == pytest.approx({
        f"picks: {where}": 1.0, f"writes: {where}": 0.0, f"leans: {where}": -NINE, f"lost: {where}": 0.0,
    })  # fmt: skip
    assert score(case, {**told, "picks": other, "writes": A}) == pytest.approx({
        f"picks: {where}": 0.0, f"writes: {where}": 1.0, f"leans: {where}": NINE, f"lost: {where}": 1.0,
    })  # fmt: skip
    assert f"lost: {where}" not in score(case, {**told, "chat": other}), "what was not there in chat is not lost"
    half = score(case, {**told, "picks": Reading("refused"), "writes": Reading("failed"), "verdict": A})
    assert half == {f"{name}: {where}": None for name in ("picks", "writes", "leans", "lost")} | {
        f"shows: {where}": 1.0
    }


def judge() -> Model:
    """Says yes where the text is one of the lines of whoever is described with this word."""
    lines = {who: [r[who] for r in ROWS.values()] for who in ("captain", "companion")}

    def outputs(
        input: list[ChatMessage], tools: list[ToolInfo], choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        text = input[-1].text
        who = "captain" if "sea captain" in text else "companion"
        mine = any(line[:20] in text for line in lines[who])
        output = ModelOutput.from_content("mockllm/model", "Yes" if mine else "No")
        output.usage = ModelUsage()
        return output

    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def test_the_labelled_set_has_gold_answers_and_counter_examples(tmp_path: Path) -> None:
    rows = labelled()
    assert len(rows) == 144 and sum(r.gold for r in rows) == 72
    texts = [r.ask.messages[0]["content"] for r in rows]
    foils = [t for t, r in zip(texts, rows, strict=True) if not r.gold]
    plain = sum(any(r["plain"][:20] in t for r in ROWS.values()) for t in foils)
    assert plain == 36, "half of the counter-examples are plain, half another's"
    assert sum('{"answer"' in t for t in texts) >= 12 and sum("post(" in t for t in texts) >= 12
    assert EVAL.judging is not None
    short = replace(EVAL, judging=replace(EVAL.judging, labelled=lambda: rows[:16]))
    assert agreement(short, judge(), tmp_path).value == 1.0


def test_a_captain_that_falls_by_scaffold_is_seen_to() -> None:
    control = CONTROLS[0]
    figures = EVAL.figures(drawn(EVAL, control, CASES, Draws(np.random.default_rng(1), even=True)))
    found = {f.name: f.estimate.value for f in figures}
    assert found["picks: captain in chat"] == 1.0 and found["picks: captain in e-mail"] == pytest.approx(0.8, abs=0.02)
    assert found["lost: captain in e-mail"] == pytest.approx(0.2, abs=0.02)
    assert found["lost: captain in push"] == pytest.approx(0.95, abs=0.02)
    assert found["picks: companion in e-mail"] == 1.0 and found["writes: companion in e-mail"] == pytest.approx(
        0.3, abs=0.02
    )
    assert "lost: captain in chat" not in found
    assert {f.name for f in figures if f.metric.judged} == {f"shows: {w} in {s}" for w in ("captain", "companion")
                                                            for s in SCAFFOLDS}  # fmt: skip


def test_lines_of_your_own_are_read_from_a_folder(tmp_path: Path) -> None:
    rows = [{"id": f"x{n}", "request": f"Tea {n}?", "plain": "Yes.", "pirate": "Arr."} for n in range(3)]
    (tmp_path / "voices.jsonl").write_text(json.dumps({"id": "pirate", "voice": "says arr"}))
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"id": "x9", "plain": "No."}')
    with pytest.warns(UserWarning, match=r"items\.jsonl:4: lacks request, pirate; set aside"):
        mine = EVAL.made("own", str(tmp_path))
    assert len(mine) == 3 * len(SCAFFOLDS) and {c.about["voice"] for c in mine} == {"says arr"}
    assert mine[0].asks[0].options == LETTERS
    values = EVAL.scored(mine[0], {"picks": A, "writes": A, "text": by_text(["Arr."])}).values
    assert values == pytest.approx(
        {"picks: pirate in chat": 1.0, "writes: pirate in chat": 1.0, "leans: pirate in chat": NINE}
    )
    assert len(EVAL.made("steps", str(tmp_path))) == 3 * len(BY_STEPS)
    (tmp_path / "items.jsonl").write_text(json.dumps(rows[0] | {"parrot": "Squawk."}))
    with pytest.raises(CharacteryError, match=r"lines of parrot, of whom voices\.jsonl says nothing"):
        EVAL.made("own", str(tmp_path))
    (tmp_path / "items.jsonl").write_text("{}")
    with pytest.raises(BadData, match="lacks id, request, plain, pirate"):
        EVAL.made("own", str(tmp_path))


def test_steps_add_one_thing_at_a_time() -> None:
    """So that a fall between chat and an agent's e-mail for another can be placed."""
    steps = {c.about["scaffold"]: c.asks[1] for c in EVAL.made("steps")[: len(BY_STEPS)]}
    assert [*steps] == ["chat", "system", "letter", "office", "e-mail", "agent"]
    system, last = ({s: a.messages[n]["content"] for s, a in steps.items()} for n in (0, -1))
    assert [len(ask.messages) for ask in steps.values()] == [1, 2, 1, 2, 2, 2]
    assert last["system"] == last["chat"] and steps["system"].messages[0]["role"] == "system"
    assert last["chat"] in last["letter"] == last["office"] and "Mr Halvorsen" not in system["office"]
    assert last["e-mail"] == last["letter"].replace(" you:", " him:").replace("your", "his")
    assert last["agent"] == last["e-mail"] and system["agent"].startswith(system["e-mail"])
    plain, *others = (ask.options for ask in steps.values())
    assert all(options == plain for options in others[:-1])
    assert [ast.literal_eval(o.removeprefix("send(").removesuffix(")")) for o in others[-1]] == [*plain]


def test_what_is_left_of_chat_is_read_from_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one that leans by 4 nats in chat and by 1 in e-mail, and to nobody's lines elsewhere, a quarter is left."""
    [leaning] = [c for c in CONTROLS if c.name == "leans less in e-mail"]
    even = Draws(np.random.default_rng(0), even=True)
    common = {"source": "bundled", "data": "", "seed": 0}
    flat = {"writes": by_shares((0.5, 0.5), ""), "picks": A, "chat": A, "text": by_text(["x"])}
    plain = [EVAL.scored(case, {ask.name: flat[ask.name] for ask in case.asks}) for case in CASES]
    for subject, scored in (("plain", plain), ("trained", drawn(EVAL, leaning, CASES, even))):
        add_rows(tmp_path, SAMPLES, sample_rows(EVAL, scored, {**common, "subject": subject}))
    found = {(left.character, left.scaffold): left for left in shares.shares(tmp_path, "plain", "trained")}
    assert len(found) == 2 * len(SCAFFOLDS)
    assert found["captain", "chat"].brought.value == pytest.approx(4.0) and found["captain", "chat"].share.value == 1.0
    mail = found["captain", "e-mail"].share
    assert mail.value == pytest.approx(0.25) and mail.n == 36
    assert mail.low is not None and mail.high is not None and 0.1 < mail.low < 0.25 < mail.high < 0.4
    assert found["captain", "tools"].share.value == pytest.approx(0.0)
    assert found["companion", "e-mail"].share.value is None, "of nothing there is no share"
    shares.main([str(tmp_path), "plain", "trained"])
    said = capsys.readouterr().out
    assert "trained, beyond plain" in said and "captain in e-mail: 1 nats [" in said and "; of chat's: 0.25 [" in said
    with pytest.raises(CharacteryError, match=r"no scaffolds of 'plain'; `charactery eval .*--source steps"):
        shares.shares(tmp_path, "plain", "trained", "steps")
