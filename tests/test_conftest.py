"""What the tests' own reports say."""

from types import SimpleNamespace
from typing import Any

import pytest

from conftest import pytest_runtest_makereport


@pytest.mark.parametrize("crashed", [False, True])
def test_a_page_that_crashed_is_reported_and_ends_nothing(crashed: bool) -> None:
    def evaluate(script: str) -> str:
        if crashed:
            raise RuntimeError("Target crashed")
        return "<button>"

    page = SimpleNamespace(url="http://here/", evaluate=evaluate, inner_text=lambda where: "A heading")
    item: Any = SimpleNamespace(funcargs={"page": page})
    report = SimpleNamespace(when="call", failed=True, sections=[])
    making: Any = pytest_runtest_makereport(item, SimpleNamespace())  # type: ignore[arg-type]
    next(making)
    with pytest.raises(StopIteration) as made:
        making.send(report)
    assert made.value.value is report
    [(name, told)] = report.sections
    assert name == "page"
    assert told == ("cannot be read: Target crashed" if crashed else "http://here/\nfocus: <button>\nA heading")
