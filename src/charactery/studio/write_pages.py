"""The pages on which a character is written, with its faults and dials beside it, and a training is begun."""

import difflib
import json
import shlex
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import APIRouter, Depends, Form, Header, Query, Request
from fastapi.responses import HTMLResponse, Response

from charactery.constitution import slug
from charactery.errors import CharacteryError
from charactery.pipeline.plan import foresee
from charactery.pipeline.recipe import find_recipe, recipes
from charactery.report.numbers import duration
from charactery.studio.desk import Desk
from charactery.studio.look import READERS, Look, look, positions
from charactery.studio.shelf import TEMPLATE, Changed, bundled, bundled_text, text_hash
from charactery.studio.trainings import SCALES, Plan, default_recipe, is_own, named_character
from charactery.studio.views import shell

Text = Annotated[str, Form()]
Texts = Annotated[list[str], Form(default_factory=list)]
Words = Annotated[list[str], Query(default_factory=list)]
Mix = Annotated[float | None, Form(ge=0, le=1)]
Seed = Annotated[int, Form(ge=0, lt=2**63)]


def write_routes(desk: Desk, templates: jinja2.Environment) -> APIRouter:
    """`/write` and `/train`."""
    router, shelf = APIRouter(), desk.shelf

    def page(request: Request, template: str, **shown: Any) -> HTMLResponse:
        return HTMLResponse(templates.get_template(template).render(**shell(request), **shown))

    def editor(request: Request, name: str, opened: str, text: str) -> HTMLResponse:
        """A text to edit: of the file `opened`, or of none yet. It is to be saved as `name`."""
        base = text_hash(text) if opened else ""
        seen = look(text, {}, "", "prompt", None)
        return page(
            request, "editor.html", name=name, opened=opened, base=base, text=text, folder=shelf.folder,
            **beside(seen, text, opened, base),
        )  # fmt: skip

    def beside(seen: Look, text: str, opened: str, base: str) -> dict[str, Any]:
        """What the fragments beside an editor are drawn from."""
        saved = bool(base) and text_hash(text) == base
        query = urlencode([("character", f"{opened}.md"), *(("dial", turned) for turned in seen.turned)])
        return {
            "look": seen, "readers": READERS, "reader": "prompt", "profile": "",
            "train": f"/train?{query}" if saved and seen.traits else "", "mix": None,
        }  # fmt: skip

    @router.get("/write")
    def begin(request: Request, name: str = "", from_: Annotated[str, Query(alias="from")] = "") -> Response:
        if not from_:
            return page(request, "write.html", folder=shelf.folder, own=shelf.listed(), bundled=bundled())
        text = bundled_text(from_)
        if from_ == TEMPLATE:
            name = name.strip() or "Rosalind"
            text = text.replace("name: NAME", f"name: {json.dumps(name, ensure_ascii=False)}", 1)
        return editor(request, shelf.free(slug(name or from_) or "character"), "", text)

    @router.get("/write/{name}")
    def edit(request: Request, name: str) -> Response:
        return editor(request, name, name, shelf.read(name))

    @router.post("/write/look")
    def looked(
        text: Text, dial: Texts, turned: Texts, opened: Text = "", base: Text = "", profile: Text = "",
        reader: Text = "prompt", mix: Mix = None, hx_trigger_name: Annotated[str, Header()] = "",
    ) -> Response:  # fmt: skip
        # what a profile sets its dials to is seen where it is chosen, and can be turned on from there
        chosen = {} if hx_trigger_name == "profile" else positions(turned, dial)
        text = text.replace("\r\n", "\n")
        seen = look(text, chosen, profile, reader, mix)
        shown = beside(seen, text, opened, base) | {"reader": reader, "profile": profile, "mix": mix}
        return HTMLResponse(
            templates.get_template("look.html").render(**shown, sliding=hx_trigger_name == "dial", later=True)
        )

    @router.post("/write/save")
    def save(text: Text, name: Text, opened: Text = "", base: Text = "") -> Response:
        text, name = text.replace("\r\n", "\n"), name.strip()
        try:
            shelf.save(name, text, base if name == opened else "")
        except Changed as error:
            lines = difflib.unified_diff(text.splitlines(), error.theirs.splitlines(), "yours", "theirs", lineterm="")
            return HTMLResponse(
                templates.get_template("changed.html").render(said=str(error), lines=list(lines), name=name), 409
            )
        shown = beside(look(text, {}, "", "prompt", None), text, name, text_hash(text))
        saved = templates.get_template("saved.html").render(
            **shown, name=name, opened=name, base=text_hash(text), path=shelf.path(name), fresh=name != opened
        )
        return HTMLResponse(saved, headers={"hx-push-url": f"/write/{quote(name)}", "hx-trigger": "saved"})

    # -- train

    @router.get("/train")
    def plan(request: Request, character: str, dial: Words) -> Response:
        who = named_character(character, shelf)
        turned = positions([one.partition("=")[0] for one in dial], [one.partition("=")[2] for one in dial])
        turned = {name: dial.default for name, dial in who.dials.items()} | turned
        who.turned(turned)
        return page(
            request, "train.html", character=character, who=who, own=is_own(character), dials=turned,
            recipes=[recipe.name for recipe in recipes()], recipe=default_recipe(who), scales=SCALES,
            name=desk.trainings.free(slug(character.removesuffix(".md")) or "character"), runs=desk.trainings.runs,
        )  # fmt: skip

    def planned(
        character: Text, name: Text, model: Text, recipe: Text, scale: Text, dial: Texts, turned: Texts,
        seed: Seed = 0, sham: Annotated[bool, Form()] = False,
    ) -> Callable[[], Plan]:  # fmt: skip
        def plan() -> Plan:
            who, at = named_character(character, shelf), positions(turned, dial)
            moved = {k: v for k, v in at.items() if k not in who.dials or v != who.dials[k].default}
            return Plan(character, name.strip(), model.strip(), recipe, scale, seed, sham, tuple(moved.items()))

        return plan

    Planned = Annotated[Callable[[], Plan], Depends(planned)]

    @router.post("/train/foresee")
    def foreseen(planned: Planned) -> Response:
        shown: dict[str, Any] = {"busy": [one for one in desk.trainings.names() if desk.trainings.at_work(one)]}
        try:
            plan = planned()
            shown["about"] = find_recipe(plan.recipe)
            seen = foresee(plan.order(shelf, desk.trainings.runs))
            shown |= {"seen": seen, "minutes": duration(60 * sum(seen.minutes.values()))}
            shown["command"] = shlex.join(plan.command(shelf, desk.trainings.runs))
        except CharacteryError as error:
            shown["fault"] = str(error)
        return HTMLResponse(templates.get_template("foresight.html").render(**shown))

    @router.post("/train/start")
    def start(planned: Planned) -> Response:
        plan, runs = planned(), desk.trainings.runs
        foresee(plan.order(shelf, runs))  # raises here what the process would end with
        desk.trainings.start(plan.name, plan.command(shelf, runs))
        desk.know(str(runs / plan.name))
        return Response(status_code=204, headers={"hx-redirect": f"/runs/{plan.name}"})

    return router
