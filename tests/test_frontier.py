"""Rating by KL: the sampled KL is the KL, and the page says which is a bound and which was sampled."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from charactery.data.prompts import Prompt
from charactery.judges.best_of import kl_bound
from charactery.judges.rating import OfAnswersAlone
from charactery.models.chat import prompt_tokens, user
from charactery.models.local import Adapter, LocalModel
from charactery.pipeline.frontier import Ground, Point, _drawn, _picked, one_judge
from charactery.report.blocks import Text
from charactery.report.frontier import _ways, draw, write_frontier
from charactery.runs import Journal, write_rows
from charactery.stats import mean
from killed_training import Es


def test_the_sampled_kl_is_that_of_the_distributions(
    tiny_model: LocalModel, tiny_adapters: list[Path], tmp_path: Path
) -> None:
    """Of answers of one token, whose KL can be counted."""
    text = "What of the sea?"
    prompts = [Prompt(str(n), "neutral", (text,), split="held-out") for n in range(400)]
    nobody: Any = None
    ground = Ground(nobody, prompts, tiny_model, Es(), nobody, nobody, 0, 1, Journal(tmp_path / "j"), True)
    rows = _drawn(Point(nobody, "sft", adapter=tiny_adapters[0]), ground)
    prompt = prompt_tokens(tiny_model.tokenizer, [user(text)])
    every = [(prompt, [token]) for token in range(len(tiny_model.tokenizer))]
    here, there = (torch.cat(tiny_model.score(every, a)).double() for a in (Adapter(tiny_adapters[0]), None))
    exact = float((here.exp() * (here - there)).sum())
    sampled = mean([row["log_ratio"] for row in rows])
    assert exact > 0.2 and sampled.low is not None and sampled.high is not None
    assert sampled.low - 0.1 < exact < sampled.high + 0.1 and sampled.value == pytest.approx(exact, abs=0.35 * exact)


def test_one_judge_rates_all_runs_and_again_what_was_chosen_by_another(tiny_model: LocalModel, tmp_path: Path) -> None:
    nobody: Any = None
    masked, plain = (
        SimpleNamespace(manifest={"settings": {"recipe": {"sft": {"mask_reasoning": masks}}}})
        for masks in (True, False)
    )
    for runs, alone, rated in (
        ([plain, plain], False, True),
        ([masked, masked], True, True),
        ([plain, masked], True, False),
    ):
        judge, kept = one_judge(Es(), runs, tiny_model)
        assert isinstance(judge, OfAnswersAlone) == alone and kept == rated
        write_rows(tmp_path / "samples.jsonl", [
            {"id": "a", "text": "<think>xxx</think>ee", "tokens": 3, "rating": 7.0, "picked_of": [2]},
        ])  # fmt: skip
        point = Point(SimpleNamespace(stage_folder=lambda name: tmp_path), "2", 2)  # type: ignore[arg-type]
        prompts = [Prompt("a", "neutral", ("Tea?",), split="held-out")]
        ground = Ground(nobody, prompts, tiny_model, judge, nobody, nobody, 0, 1, Journal(tmp_path / "j"), kept)
        [told] = _picked(point, ground)
        assert (told["rating"] == 7.0) == rated


def estimate(value: float, half: float = 0.1) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 80, "missing": 0, "method": "", "unit": ""}


def rows() -> list[Any]:
    """As measured: a best-of-n run, and a training that goes further and gets less."""

    def row(run: str, recipe: str, at: str, n: int | None, kl: float | None, score: float) -> Any:
        return {
            "run": run, "recipe": recipe, "at": at, "n": n, "kl": None if kl is None else estimate(kl, 0.3 * kl),
            "kl_bound": kl_bound(n) if n else None, "score": estimate(score), "rate": estimate(0.2 + score / 4, 0.05),
            "length": estimate(60, 4),
        }  # fmt: skip

    best = [row("runs/best", "best-of-n", str(n), n, None, -0.1 + 0.15 * math.log2(n)) for n in (1, 2, 4, 8, 16)]
    return best + [row("runs/grpo", "grpo", f"grpo/{n}", None, 0.4 * n, 0.05 * n) for n in (1, 2, 3, 4)]


def test_the_page_sets_a_bound_beside_what_was_sampled(tmp_path: Path) -> None:
    trust = [Text("The judge is right in most pairs.")]
    page = write_frontier(rows(), "Captain", "likelihood", trust, tmp_path)
    said = (tmp_path / "report.md").read_text()
    assert page == tmp_path / "report.html" and (tmp_path / "report_files" / "frontier.png").stat().st_size > 10_000
    assert (
        "| runs/best | best of 4 | at most 0.636 |" in said and "| runs/grpo | grpo/4 | 1.600 [1.120, 2.080] |" in said
    )
    assert "grpo ends 1.60 [1.12, 2.08] nats from the plain model and is rated 0.20 [0.10, 0.30]" in said
    assert "the best of 16, at most 1.84 nats from it, is rated 0.50 [0.40, 0.60]" in said
    assert "## The judge\n\nThe judge is right in most pairs." in said
    before = page.read_bytes()
    assert write_frontier(rows(), "Captain", "likelihood", trust, tmp_path).read_bytes() == before


def test_one_who_went_further_than_choosing_can_is_said_to_have(tmp_path: Path) -> None:
    far = [row | ({"kl": estimate(9.0)} if row["at"] == "grpo/4" else {}) for row in rows()]
    write_frontier(far, "Captain", "likelihood", (), tmp_path)
    assert "the best of 16, which cannot be as far, at most 1.84 nats" in (tmp_path / "report.md").read_text()


def test_runs_are_told_apart_by_name_and_look() -> None:
    grpo = [r | {"run": f"runs/a/{n}"} for n in ("slow", "fast") for r in rows() if r["recipe"] == "grpo"]
    others = [r | {"run": f"runs/{n}", "recipe": f"r{n}"} for n in range(5) for r in rows() if r["recipe"] == "grpo"]
    ways = _ways([*rows()[:5], *grpo, *others], Path("figures.json"))
    assert [way.name for way in ways] == ["best-of-n", "slow", "fast", "r0", "r1", "r2", "r3", "r4"]
    assert len({(way.look.colour, way.look.marker) for way in ways}) == 8
    drawing = draw(ways, 760)
    [legend] = drawing.legends
    assert [text.get_text() for text in legend.get_texts()] == [way.name for way in ways]
    drawing.canvas.draw()
    box, axes = legend.get_window_extent(), drawing.axes[0].get_tightbbox()
    assert box.x0 >= 0 and box.x1 <= drawing.bbox.x1 and box.y0 >= 0 and axes and box.y1 <= axes.y0
