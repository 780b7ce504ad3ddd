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
from charactery.models.subject import DEFAULT
from charactery.pipeline.plan import foresee
from charactery.pipeline.recipe import recipes
from charactery.report.numbers import duration
from charactery.studio.desk import Desk
from charactery.studio.look import READERS, Look, look, positions
from charactery.studio.pages import Text, Texts, Words
from charactery.studio.shelf import TEMPLATE, Changed, bundled, bundled_text, text_hash
from charactery.studio.trainings import SCALES, Plan, default_recipe, is_own, named_character
from charactery.studio.views import shell

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
            request, "editor.html", name=name, base=base, text=text, folder=shelf.folder,
            **beside(seen, text, opened, base),
        )  # fmt: skip

    def beside(seen: Look, text: str, opened: str, base: str, profile: str = "") -> dict[str, Any]:
        """What the fragments beside an editor are drawn from."""
        saved = bool(base) and text_hash(text) == base
        query = [("character", f"{opened}.md"), *(("dial", turned) for turned in seen.turned)]
        query += [("profile", profile)] if profile in seen.profiles else []
        return {
            "look": seen, "readers": READERS, "profile": profile, "opened": opened, "saved": saved,
            "train": f"/train?{urlencode(query)}" if saved and seen.trains else "",
            "talk": f"/talk?subject={quote(shelf.subject(opened))}" if saved and not seen.broken else "",
        }  # fmt: skip

    @router.get("/write")
    def begin(request: Request, name: str = "", from_: Annotated[str, Query(alias="from")] = "") -> Response:
        if not from_:
            return page(
                request, "write.html", folder=shelf.folder, own=shelf.listed(), bundled=bundled(),
                speaker=shelf.subject, plain=DEFAULT,
            )  # fmt: skip
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
        dial: Texts, turned: Texts, text: Text = "", opened: Text = "", base: Text = "", profile: Text = "",
        reader: Text = "prompt", mix: Mix = None, hx_trigger_name: Annotated[str, Header()] = "",
    ) -> Response:  # fmt: skip
        # what a profile sets its dials to is seen where it is chosen, and can be turned on from there
        chosen = {} if hx_trigger_name == "profile" else positions(turned, dial)
        text = text.replace("\r\n", "\n")
        seen = look(text, chosen, profile, reader, mix)
        shown = beside(seen, text, opened, base, profile)
        return HTMLResponse(
            templates.get_template("look.html").render(**shown, sliding=hx_trigger_name == "dial", later=True)
        )

    @router.post("/write/save")
    def save(
        name: Text, dial: Texts, turned: Texts, text: Text = "", opened: Text = "", base: Text = "", profile: Text = ""
    ) -> Response:
        text, name = text.replace("\r\n", "\n"), name.strip()
        try:
            shelf.save(name, text, base if name == opened else "")
        except Changed as error:
            lines = difflib.unified_diff(text.splitlines(), error.theirs.splitlines(), "yours", "theirs", lineterm="")
            return HTMLResponse(
                templates.get_template("changed.html").render(said=str(error), lines=list(lines), name=name), 409
            )
        base = text_hash(text)
        seen = look(text, positions(turned, dial), profile, "prompt", None)
        saved = templates.get_template("saved.html").render(
            **beside(seen, text, name, base, profile), base=base, done=True
        )
        return HTMLResponse(saved, headers={"hx-push-url": f"/write/{quote(name)}", "hx-trigger": "saved"})

    # -- train

    @router.get("/train")
    def plan(request: Request, character: str, dial: Words, profile: str = "") -> Response:
        who = named_character(character, shelf, profile)
        who = who.turned(positions([one.partition("=")[0] for one in dial], [one.partition("=")[2] for one in dial]))
        return page(
            request, "train.html", character=character, who=who, own=is_own(character), profile=profile,
            dials={name: who.settings.get(name, dial.default) for name, dial in who.dials.items()},
            recipes=[recipe.name for recipe in recipes()], recipe=default_recipe(who), scales=SCALES,
            name=desk.trainings.free(slug(character.removesuffix(".md")) or "character"), runs=desk.trainings.runs,
        )  # fmt: skip

    def planned(
        character: Text, name: Text, model: Text, recipe: Text, scale: Text, dial: Texts, turned: Texts,
        profile: Text = "", seed: Seed = 0, sham: Annotated[bool, Form()] = False,
    ) -> Callable[[], Plan]:  # fmt: skip
        def plan() -> Plan:
            who, at = named_character(character, shelf, profile), positions(turned, dial)
            as_it_is = {k: who.settings.get(k, one.default) for k, one in who.dials.items()}
            dials = tuple((k, v) for k, v in at.items() if as_it_is.get(k) != v)
            return Plan(character, name.strip(), model.strip(), recipe, scale, seed, sham, profile, dials)

        return plan

    Planned = Annotated[Callable[[], Plan], Depends(planned)]

    @router.post("/train/foresee")
    def foreseen(planned: Planned) -> Response:
        shown: dict[str, Any] = {"busy": [one for one in desk.trainings.names() if desk.trainings.at_work(one)]}
        try:
            plan = planned()
            order = plan.order(shelf, desk.trainings.runs)
            shown["about"], seen = order.recipe, foresee(order)
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
        return Response(status_code=204, headers={"hx-redirect": f"/runs/{quote(plan.name)}"})

    return router
