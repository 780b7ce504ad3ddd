"""Requests of every kind that the studio's own description of itself allows, and of many that it does not."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")
import schemathesis
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

from charactery.conversations import Session, private_store
from charactery.studio import Desk, create_app
from charactery.studio.guard import KEY
from conversing import Parrot

EXAMPLES = 12  # of each request; 150 of each, drawn anew, were tried by hand
IDS = ("conversation", "at", "of", "node", "first", "second")


class Studio:
    """A studio where something was said, and what of it a request may name."""

    def __init__(self) -> None:
        self.folder = TemporaryDirectory()  # for what requests write, and as long as it
        characters, runs = (Path(self.folder.name) / name for name in ("characters", "runs"))
        self.desk = Desk(private_store(), lambda how: Parrot("Aye."), ["parrot"], None, characters, runs)
        self.app = create_app(self.desk)
        self.known: dict[str, dict[str, list[str]]] = {}
        for place in ("talk", "private"):
            session = Session(self.desk.store(place), Parrot("Aye."))
            asked = session.say("Tea?")
            answers = [answer.id for answer in (*session.again(2), *session.again(1))]
            turns = [asked.id, *answers]
            self.known[place] = dict.fromkeys(IDS, turns) | {"conversation": [session.conversation or ""]}


STUDIO = Studio()
CONFIG = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(
    generation=GenerationConfig(max_examples=EXAMPLES, deterministic=True, database="none")
)))  # fmt: skip
LOCAL = {"host": "localhost", "origin": "http://localhost", KEY: STUDIO.app.key}  # type: ignore[attr-defined]
schema = schemathesis.openapi.from_asgi("/openapi.json", STUDIO.app, config=CONFIG, headers=LOCAL)
described = schema.exclude(path="/events/{page}")  # it has no end; tests/test_studio.py reads it


def named(part: Any, place: str, pick: int) -> None:
    """Let a part of a request name what is there."""
    if not isinstance(part, dict):
        return
    for name, value in part.items():
        if name in (known := STUDIO.known[place]):
            one = known[name][pick % len(known[name])]
            part[name] = [one] if isinstance(value, list) else one
        elif name == "job" and STUDIO.desk.jobs:
            part[name] = [*STUDIO.desk.jobs][pick % len(STUDIO.desk.jobs)]
        elif name == "place":
            part[name] = place


@described.parametrize()
@described.given(place=st.sampled_from(["talk", "private", None, "talk"]), pick=st.integers(0, 3))
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_no_request_breaks_the_studio(case: Any, place: str | None, pick: int) -> None:
    if place is not None:
        for part in (case.path_parameters, case.query, case.body):
            named(part, place, pick)
    answer = case.call(headers=LOCAL)
    assert answer.status_code < 500, answer.text
    assert answer.status_code not in (403, 421), answer.text  # it came in
