"""What a judge gives by how far a model went for it: the best of n plain answers beside trainings on the same judge."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.constitution import Character, load_character
from charactery.data.prompts import Prompt, read_chosen
from charactery.errors import CharacteryError
from charactery.judges.best_of import kl_bound
from charactery.judges.classifier import ClassifierJudge
from charactery.judges.rating import Case, Judge, judge_named, masks_reasoning, of_answers_alone
from charactery.models.chat import prompt_tokens, user
from charactery.models.local import Adapter, LocalModel, Sampler, derive_seed
from charactery.models.sentences import SentenceEncoder
from charactery.models.speaker import Models
from charactery.models.subject import BEST_OF, parse_subject
from charactery.pipeline.recipe import TRAINS
from charactery.pipeline.watch import Watch
from charactery.report.figures import evaluate_folder
from charactery.report.frontier import write_frontier
from charactery.report.judge import trusted
from charactery.runs import Journal, Row, Run, digest, read_rows, read_run, stage_kind, write_json, write_rows
from charactery.stats import Estimate, mean, rate

LEAST = 8  # prompts that the runs must have in common


@dataclass(frozen=True)
class Point:
    """A place on a run's way: `at` is the n chosen among, or a stage or checkpoint, whose adapter it is."""

    run: Run
    at: str
    n: int = 0
    adapter: Path | None = None


@dataclass(frozen=True)
class Ground:
    """What all points are measured on. `seed` draws the answers; `most` is their longest, in tokens.

    `rated`: whether the ratings by which the run chose are this judge's of these answers, whatever stood beside them.
    """

    character: Character
    prompts: Sequence[Prompt]
    model: LocalModel
    judge: Judge
    classifier: ClassifierJudge
    encode: SentenceEncoder
    seed: int
    most: int
    journal: Journal
    rated: bool


def measure_frontier(folders: Sequence[Path], out: Path, device: str, watch: Watch) -> list[Row]:
    """The judge's rating against KL from the base, of one best-of-n run by n and of others by checkpoint.

    Answers at temperature 1 to the held-out prompts that all runs have in common. KL of what was trained is sampled:
    the mean over answers of their log-probability less the base's, in nats; that of the best of n is its bound. Rows:
    run, recipe, at, n, kl (None for best of n), kl_bound (None for others), score by the runs' judge, rate in character
    by the best-of-n run's classifier, length in tokens; written to figures.json, with samples.jsonl and a report beside
    it. Killed, it goes on. Raises CharacteryError where the runs cannot be compared.
    """
    if (out / "manifest.json").exists():
        raise CharacteryError("is a run, whose report this would write over; give --out another folder", out)
    runs, chosen = comparable(folders)
    points, prompts = every_point(runs), in_common(runs, chosen)
    settings = chosen.manifest["settings"]
    subject, models = parse_subject(settings["model"]), Models(device, watch.say)
    if (models.base_hash(subject), models.frame_hash(subject)) != (settings["base_hash"], settings.get("tokenizer")):
        raise CharacteryError("was made with other weights than this model has now", chosen.folder)
    character = load_character(chosen.folder / "character.md")
    classifier = json.loads((evaluate_folder(chosen) / "judge.json").read_text())
    base, most = models.base(subject), settings["recipe"]["sampler"]["max_tokens"]
    fit = [p for p in prompts if len(prompt_tokens(base.tokenizer, [user(p.turns[0])])) + most <= base.context]
    judge, rated = one_judge(judge_named(settings["recipe"]["judge"], models, subject)(character), runs, base)
    ground = Ground(
        character, fit, base, judge,
        ClassifierJudge.from_row(classifier), SentenceEncoder(), settings["seed"], most,
        Journal(out / "batches.jsonl"), rated,
    )  # fmt: skip
    watch.start("frontier", len(points) * len(fit))
    rows: list[Row] = []
    samples: list[Row] = []
    for point in points:
        answers = _picked(point, ground) if point.n else _drawn(point, ground)
        found = {"run": str(point.run.folder), "recipe": point.run.manifest["settings"]["recipe"]["name"]}
        rows.append(found | {"at": point.at, "n": point.n or None} | _figures(answers, ground, point))
        samples += [found | {"at": point.at, **answer} for answer in answers]
        watch.advance(len(fit))
    write_rows(out / "samples.jsonl", samples)
    write_json(out / "figures.json", rows)
    write_frontier(rows, character.name, ground.judge.name, trusted(chosen), out)
    return rows


def comparable(folders: Sequence[Path]) -> tuple[list[Run], Run]:
    """The runs, and the one that chooses among answers. Raises CharacteryError for runs that differ in what matters."""
    runs = [read_run(folder) for folder in folders]
    chosen = [run for run in runs if stage_kind(run.manifest["trained"]) == BEST_OF]
    if len(chosen) != 1:
        raise CharacteryError(
            f"{len(chosen)} of these runs are of the recipe {BEST_OF}; one is needed for the others to be compared "
            f"with. `charactery train CHARACTER --recipe {BEST_OF} --out FOLDER` makes one"
        )
    if not chosen[0].is_done(BEST_OF):
        raise CharacteryError(f"is not finished; `{chosen[0].manifest['command']}` goes on with it", chosen[0].folder)
    one = _must_agree(chosen[0])
    for run in runs:
        for what, value in _must_agree(run).items():
            if value != one[what]:
                raise CharacteryError(
                    f"has {what} {value!r}, and {chosen[0].folder} has {one[what]!r}: they cannot be compared",
                    run.folder,
                )
    if chosen[0].manifest["settings"]["recipe"]["best_of"]["temperature"] != 1.0:
        raise CharacteryError(
            "drew its answers at another temperature than 1, at which KL is measured: make it with `temperature = 1.0` "
            "under [best_of]",
            chosen[0].folder,
        )
    return runs, chosen[0]


def one_judge(judge: Judge, runs: Sequence[Run], base: LocalModel) -> tuple[Judge, bool]:
    """The judge of all runs' answers, and whether the ratings that the run chose by are its own.

    Where one masks reasoning it is shown none of any run's, or they would be on two scales.
    """
    masks = {masks_reasoning(run.manifest["settings"]["recipe"]) for run in runs}
    return of_answers_alone(judge, base) if True in masks else judge, judge.alone and len(masks) == 1


def _must_agree(run: Run) -> Row:
    settings = run.manifest["settings"]
    recipe = settings["recipe"]
    return {
        "the character": settings["character_hash"], "the base": settings["base_hash"], "the judge": recipe["judge"],
        "the judge's identity": settings["judge"], "answers of at most": recipe["sampler"]["max_tokens"],
    }  # fmt: skip


def in_common(runs: Sequence[Run], chosen: Run) -> list[Prompt]:
    """Held-out single prompts of all runs that none was trained on, as the one that chooses has them."""
    every = [read_chosen(run.stage_folder("prompts") / "prompts.jsonl") for run in runs]
    held = [{p.turns[0] for p in prompts if p.split == "held-out" and len(p.turns) == 1} for prompts in every]
    trained = {p.turns[0] for prompts in every for p in prompts if p.split == "train"}
    mine = every[runs.index(chosen)]
    common = set.intersection(*held) - trained
    prompts = [p for p in mine if p.split == "held-out" and p.turns[0] in common and len(p.turns) == 1]
    if len(prompts) < LEAST:
        raise CharacteryError(
            f"the runs have {len(prompts)} held-out prompts in common, and {LEAST} are needed; train them with the "
            "same seed and sizes"
        )
    return prompts


def every_point(runs: Sequence[Run]) -> list[Point]:
    """Of the run that chooses every n; of others what each training stage left, and the checkpoints of the last."""
    points: list[Point] = []
    for run in runs:
        if stage_kind(run.manifest["trained"]) == BEST_OF:
            figures = json.loads((run.stage_folder(BEST_OF) / "figures.json").read_text())
            points += [Point(run, str(row["n"]), row["n"]) for row in figures]
            continue
        stages = [name for name in run.manifest["stages"] if stage_kind(name) in TRAINS]
        for name in stages:
            folder = run.stage_folder(name)
            if (folder / "model").exists():
                raise CharacteryError("trained all weights, and adapters alone are compared here", run.folder)
            if not (folder / "adapter" / "adapter_model.safetensors").exists():
                raise CharacteryError(f"is not finished; `{run.manifest['command']}` goes on with it", run.folder)
            steps = sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))
            if name == stages[-1] and steps:
                points += [Point(run, f"{name}/{n}", adapter=folder / f"checkpoint-{n}") for n in steps]
            else:
                points.append(Point(run, name, adapter=folder / "adapter"))
    return points


def _picked(point: Point, ground: Ground) -> list[Row]:
    """The answers that were picked of the first n, with the judge's rating."""
    wanted = {p.id: p for p in ground.prompts}
    rows = read_rows(point.run.stage_folder(BEST_OF) / "samples.jsonl")
    mine = {row["id"]: row for row in rows if row["id"] in wanted and point.n in row["picked_of"]}
    answers = [{"id": id, "text": mine[id]["text"], "tokens": mine[id]["tokens"]} for id in wanted]
    ratings = [mine[id]["rating"] for id in wanted] if ground.rated else _ratings(answers, ground)
    return [answer | {"rating": rating} for answer, rating in zip(answers, ratings, strict=True)]


def _drawn(point: Point, ground: Ground) -> list[Row]:
    """Answers of an adapter, each with its log-probability less the base's (`log_ratio`) and the judge's rating."""
    assert point.adapter is not None
    adapter = Adapter(point.adapter)
    prompts, seeds = _asked(ground), [derive_seed(ground.seed, "frontier", p.id) for p in ground.prompts]
    key = digest(["drawn", str(point.adapter.resolve()), point.adapter.stat().st_mtime_ns, prompts, seeds, ground.most])
    if key not in ground.journal.done:
        drawn = ground.model.draw(prompts, seeds, Sampler(ground.most, 1.0), adapter)
        pairs = list(zip(prompts, drawn, strict=True))
        here, there = (ground.model.score(pairs, worn) for worn in (adapter, None))
        said = [ground.model.answer_of(ids) for ids in drawn]
        ground.journal.add(key, [
            {"id": p.id, "text": answer.text, "tokens": answer.tokens, "log_ratio": float((h - t).sum())}
            for p, answer, h, t in zip(ground.prompts, said, here, there, strict=True)
        ])  # fmt: skip
    answers = ground.journal.done[key]
    return [answer | {"rating": r} for answer, r in zip(answers, _ratings(answers, ground), strict=True)]


def _asked(ground: Ground) -> list[list[int]]:
    return [prompt_tokens(ground.model.tokenizer, [user(p.turns[0])]) for p in ground.prompts]


def _ratings(answers: Sequence[Row], ground: Ground) -> list[float | None]:
    """The judge's rating of each; of one who only compares, beside one more plain answer to the same prompt."""
    beside: list[tuple[str, ...]] = [()] * len(answers) if ground.judge.alone else [(text,) for text in _plain(ground)]
    cases = [
        Case((user(p.turns[0]),), (answer["text"], *others))
        for p, answer, others in zip(ground.prompts, answers, beside, strict=True)
    ]
    return [values[0] for values in ground.judge.rate(cases, ground.journal, lambda done: None).values]


def _plain(ground: Ground) -> list[str]:
    """A plain answer to each prompt that no point has."""
    prompts, seeds = _asked(ground), [derive_seed(ground.seed, "frontier, beside", p.id) for p in ground.prompts]
    key = digest(["plain", prompts, seeds, ground.most])
    if key not in ground.journal.done:
        drawn = ground.model.draw(prompts, seeds, Sampler(ground.most, 1.0))
        ground.journal.add(key, [ground.model.answer_of(ids).text for ids in drawn])
    return ground.journal.done[key]


def _figures(answers: Sequence[Row], ground: Ground, point: Point) -> Row:
    def told(key: str, unit: str) -> Estimate:
        return mean([a[key] for a in answers], ground.seed, unit)

    heard = ground.classifier.hear([a["text"] for a in answers], ground.encode)
    in_character = rate([None if odds is None else odds > 0 for odds in heard])
    return {
        "kl": None if point.n else told("log_ratio", "nats/answer").as_dict(),
        "kl_bound": kl_bound(point.n) if point.n else None,
        "score": told("rating", ground.judge.unit).as_dict(),
        "rate": in_character.as_dict(),
        "length": told("tokens", "tokens").as_dict(),
    }
