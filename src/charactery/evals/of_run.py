"""Did the character take? The evals of a run, over plain, prompted, trained (and sham), with their controls.

Answers and log-probabilities are computed first, in fixed batches that survive a kill; then Inspect runs the tasks
over them and keeps its logs; the figures are read from the logs.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from charactery.constitution import Character, foil_characters
from charactery.data.drafts import CHARACTER, PLAIN, history_sides
from charactery.data.prompts import Prompt
from charactery.errors import CharacteryError
from charactery.evals.divergence import divergences
from charactery.evals.expression.task import Item, expression_task, items, spread
from charactery.evals.inspecting import inspect_eval
from charactery.evals.measures import Measured, figures
from charactery.evals.moved import moved
from charactery.evals.scored import Text, choice_task, cost_task, option_scores, prose, questions, text_bits
from charactery.evals.sizes import CONTROLLED, JUDGED, LIKELIHOOD_ASKED
from charactery.judges.classifier import (
    BESIDE_OTHERS,
    OTHERS,
    SHUFFLED,
    ClassifierJudge,
    Encode,
    fit_classifier,
    heard_of,
)
from charactery.judges.likelihood import FOILS, distinct_texts, evidence, margins, shuffled
from charactery.models.chat import Message, assistant, system, user
from charactery.models.inspect_provider import hashable, inspect_model, request_for
from charactery.models.local import Answer, LocalModel, Request, Sampler, derive_seed
from charactery.models.reasoning import left_open
from charactery.models.speaker import BATCH, Ask, Speaker, answer_all
from charactery.runs import Journal, Row, digest, write_json, write_rows

# How many answers take as long to write as, for progress: scoring a subject's texts and options, running Inspect, and
# the likelihood judge's reading of one answer, for each text of the character and its traits.
SCORED_AS_LONG, INSPECTED_AS_LONG = 80, 150
READ_AS_LONG = {True: 0.5, False: 0.4}  # at the first turn, and else, where there is the whole character alone
TOGETHER = 10  # prompts whose answers it reads at once; a kill costs as many
EXAMPLES = {"turn 1": 8, "turn 3": 3, "elsewhere": 4}


@dataclass(frozen=True)
class Examined:
    """What the evals of a run need. `subjects` is by role: plain, prompted, trained and perhaps sham."""

    character: Character
    prompts: Sequence[Prompt]
    drafts: Sequence[Row]
    subjects: dict[str, Speaker]
    base: LocalModel
    encode: Encode
    sampler: Sampler
    seed: int
    folder: Path
    other: Speaker  # the plain model as another character, for the controls
    foils: Sequence[Speaker]  # and as yet others, for the judge to hear; `other` is none of them
    masks_reasoning: bool = False  # whether the run leaves the reasoning in answers free
    batch: int = BATCH
    progress: Callable[[int], None] = field(default=lambda done: None)


Answers = dict[Any, Answer]


def work_ahead(character: Character, prompts: Sequence[Prompt], subjects: int) -> int:
    """How much the evals have to do, for progress: answers, and what else there is in answers that take as long."""
    cases = items(prompts)
    first = sum(c.condition == "turn 1" for c in cases)
    known = min(JUDGED, sum(p.split == "train" and p.kind != "task" for p in prompts))
    answers = 3 * known + subjects * sum(len(c.turns) for c in cases) + 3 * min(first, CONTROLLED)
    conditions = {c.condition for c in cases} - {"elsewhere"}
    texts = distinct_texts(evidence(character, foil_characters()))
    read = sum(
        subjects * READ_AS_LONG[c == "turn 1"] * texts * min(_likelihood_asked(c), sum(k.condition == c for k in cases))
        for c in conditions
    )
    read += 3 * READ_AS_LONG[False] * (1 + FOILS) * min(LIKELIHOOD_ASKED, first)  # of its controls
    return round(answers + subjects * SCORED_AS_LONG + INSPECTED_AS_LONG + read)


def _likelihood_asked(condition: str) -> int:
    return LIKELIHOOD_ASKED if condition == "turn 1" else LIKELIHOOD_ASKED // 2


def evaluate(examined: Examined) -> None:
    """Run everything; write judge.json, logs/, samples.jsonl, and figures, verdicts, moved and examples beside them."""
    folder = examined.folder
    journal = Journal(folder / "batches.jsonl")
    cases = items(examined.prompts)
    known, told, controls = all_answers(examined, cases, journal)
    begun = left_open(examined.base.tokenizer) if examined.masks_reasoning else None
    judge = fit_classifier(known, CHARACTER, (PLAIN, OTHERS), examined.encode, examined.seed, begun)
    judge.save(folder / "judge.json")
    scores = {
        role: scored(examined, speaker, cases, told["plain"], journal) for role, speaker in examined.subjects.items()
    }
    rows = inspected(examined, judge, cases, told, controls, scores)
    measured = Measured(rows, likelihoods(examined, rows, cases), judge, tuple(examined.subjects))
    write_rows(folder / "samples.jsonl", rows)
    found, verdicts = figures(measured, examined.seed)
    found += divergences(examined.subjects, first_answers(examined, cases, told), examined.seed, journal)
    write_json(folder / "figures.json", found)
    write_json(folder / "verdicts.json", verdicts)
    write_json(folder / "moved.json", moved(rows, examined.seed))
    write_rows(folder / "examples.jsonl", examples(rows, cases, tuple(examined.subjects), examined.seed))


def first_answers(
    examined: Examined, cases: Sequence[Item], told: dict[str, Answers]
) -> dict[str, list[tuple[str, tuple[Message, ...], str]]]:
    """By role: id, messages and answer of the first turns that no other system message stands before."""
    out: dict[str, list[tuple[str, tuple[Message, ...], str]]] = {}
    for role, answers in told.items():
        for case in cases:
            if case.condition == "turn 1":
                messages = (user(case.turns[0]),)
                answer = answers[hashable(request_for(messages, examined.seed))]
                out.setdefault(role, []).append((case.id, messages, answer.text))
    return out


def all_answers(
    examined: Examined, cases: Sequence[Item], journal: Journal
) -> tuple[list[Row], dict[str, Answers], dict[str, Answers]]:
    """What the judge is fitted on, what each subject says to each request of the expression task, and the controls.

    First answers are asked for all together, then second turns, then third: the more rows share a batch, the less each
    of them takes.
    """

    def answered(asks: Sequence[Ask]) -> list[Answer]:
        return answer_all(asks, examined.sampler, journal, examined.progress, examined.batch)

    known = known_asks(examined)
    controls = control_asks(examined, controlled(cases))
    talks = [(role, case) for role in examined.subjects for case in cases]
    so_far = [(*([system(c.system)] if c.system else []), user(c.turns[0])) for _, c in talks]
    told: dict[str, Answers] = {role: {} for role in examined.subjects}
    beside = [ask for *_, ask in (*known, *controls)]  # asked along with the first turns
    of_known: list[Answer] = []
    of_controls: list[Answer] = []
    for turn in range(max(len(c.turns) for c in cases)):
        going = [n for n, (_, c) in enumerate(talks) if len(c.turns) > turn]
        requests = [request_for(so_far[n], examined.seed) for n in going]
        asks = [(examined.subjects[talks[n][0]], request) for n, request in zip(going, requests, strict=True)]
        answers = answered([*asks, *beside] if turn == 0 else asks)
        if turn == 0:
            answers, of_known, of_controls = _cut(answers, len(asks), len(asks) + len(known))
        for n, request, answer in zip(going, requests, answers, strict=True):
            role, case = talks[n]
            told[role][hashable(request)] = answer
            if len(case.turns) > turn + 1:
                so_far[n] = (*so_far[n], assistant(answer.text), user(case.turns[turn + 1]))
    rows = [
        {"id": id, "side": side, "text": answer.text}
        for (side, id, _), answer in zip(known, of_known, strict=True) if answer.text
    ]  # fmt: skip
    scripted: dict[str, Answers] = {}
    for (name, key, _), answer in zip(controls, of_controls, strict=True):
        scripted.setdefault(name, {})[key] = answer
    return rows, told, scripted | {"mixture": mixture(scripted, examined.seed)}


def _cut(answers: list[Answer], first: int, second: int) -> tuple[list[Answer], list[Answer], list[Answer]]:
    return answers[:first], answers[first:second], answers[second:]


def known_asks(examined: Examined) -> list[tuple[str, str, Ask]]:
    """Side, prompt id and request of what the judge is fitted on: prompted and plain answers, and other characters'.

    To the training prompts, but not the drafts: those are drawn warmer and may be a teacher's, and the judge is to hear
    what it will judge. Of a conversation whose history is the other side's, the first turn alone: plain, the model goes
    on in the character that it finds there. Each prompt's first turn is put to one of the foils: a judge that heard
    only plain answers takes any character for this one.
    """
    train = [p for p in examined.prompts if p.split == "train"]
    sides = history_sides(train)
    drafted = {d["id"]: d["messages"] for d in examined.drafts if d["kind"] != "task"}
    # in the prompts' order: the drafts' changes with what is set aside, and so would what runs have in common
    asked = dict(spread([(p.id, drafted[p.id]) for p in train if p.id in drafted], JUDGED))
    put = [
        (CHARACTER, "prompted", examined.subjects["prompted"], asked),
        (PLAIN, "plain", examined.subjects["plain"], asked),
    ]
    for n, foil in enumerate(examined.foils):
        put.append((OTHERS, foil.subject.text, foil, dict([*asked.items()][n :: len(examined.foils)])))
    out = []
    for side, role, speaker, mine in put:
        for id, messages in mine.items():
            heard = tuple(messages if sides.get(id, side) == side else messages[:1])
            out.append((side, id, (speaker, Request(heard, derive_seed(examined.seed, "judge", role, id)))))
    return out


def controlled(cases: Sequence[Item]) -> list[Item]:
    """The first-turn cases that the controls answer, too."""
    first = [c for c in cases if c.condition == "turn 1"]
    return spread(first, CONTROLLED)


PLAIN_AS_PROMPTED, PROMPTED_AS_TRAINED = "plain given as prompted", "prompted given as trained"


def control_asks(examined: Examined, cases: Sequence[Item]) -> list[tuple[str, Any, Ask]]:
    """Name, key and request of the scripted subjects: answers whose side is known, given under another name.

    They are drawn from another seed than the subjects' own, so that a control is never the same text twice.
    """
    sources = {
        PLAIN_AS_PROMPTED: examined.subjects["plain"],
        PROMPTED_AS_TRAINED: examined.subjects["prompted"],
        OTHERS: examined.other,
    }
    out = []
    for name, speaker in sources.items():
        for case in cases:
            messages = (user(case.turns[0]),)
            request = Request(messages, derive_seed(examined.seed, "control", name, case.id))
            out.append((name, hashable(request_for(messages, examined.seed)), (speaker, request)))
    return out


def mixture(scripted: dict[str, Answers], seed: int) -> Answers:
    """Half of the answers plain and half prompted, drawn by the seed."""
    keys = [*scripted[PLAIN_AS_PROMPTED]]
    sides = [PLAIN_AS_PROMPTED, PROMPTED_AS_TRAINED] * -(-len(keys) // 2)
    random.Random(seed).shuffle(sides)
    return {key: scripted[side][key] for key, side in zip(keys, sides, strict=False)}


def scored(
    examined: Examined, speaker: Speaker, cases: Sequence[Item], plain: Answers, journal: Journal
) -> dict[str, dict[str, Any]]:
    """Bits per byte and option scores of one subject. The chat-frame texts are the plain model's own answers.

    A character in the prompt reads no raw prose: without a chat frame there is no prompt, and its weights are plain.
    What chooses among answers has no log-probabilities of its own: nothing is scored.
    """
    if speaker.chooser:
        examined.progress(SCORED_AS_LONG)
        return {"bits": {}, "options": {}}
    texts, items, said = cost_texts(cases, plain, examined.seed), questions(), speaker.prompt([])
    if said:
        texts = [t for t in texts if t.messages]
    key = digest([speaker.identity, [[t.id, t.text, t.messages] for t in texts], items, *said])
    if key not in journal.done:
        journal.add(key, [{"bits": text_bits(speaker, texts), "options": option_scores(speaker, items)}])
    examined.progress(SCORED_AS_LONG)
    found: dict[str, dict[str, Any]] = journal.done[key][0]
    return found


def cost_texts(cases: Sequence[Item], plain: Answers, seed: int) -> list[Text]:
    """The prose, then the plain model's answers to the elsewhere prompts in the chat frame, where damage hides."""
    texts = prose()
    for case in cases:
        if case.condition == "elsewhere":
            messages = (user(case.turns[0]),)
            answer = plain[hashable(request_for(messages, seed))]
            if answer.text:
                texts.append(Text(f"frame-{case.id}", "chat frame", answer.text, messages))
    return texts


def inspected(
    examined: Examined,
    judge: ClassifierJudge,
    cases: Sequence[Item],
    told: dict[str, Answers],
    controls: dict[str, Answers],
    scores: dict[str, dict[str, dict[str, Any]]],
) -> list[Row]:
    """Run the tasks through Inspect and flatten its logs: one row a subject, eval and sample."""

    texts = sorted({a.text for answers in (*told.values(), *controls.values()) for a in answers.values()})
    odds = dict(zip(texts, judge.hear(texts, examined.encode), strict=True))
    expression = expression_task(cases, odds.__getitem__, examined.sampler, examined.seed)
    scripted = expression_task(controlled(cases), odds.__getitem__, examined.sampler, examined.seed)
    others = [cost_task(cost_texts(cases, told["plain"], examined.seed)), choice_task(questions())]
    subjects = [
        inspect_model(speaker, role, told[role], scores.get(role)) for role, speaker in examined.subjects.items()
    ]
    actors = [inspect_model(examined.subjects["plain"], name, answers) for name, answers in controls.items()]
    settings: dict[str, Any] = {
        "log_dir": str(examined.folder / "logs"), "display": "none", "log_level": "error", "score_display": False,
        "max_tasks": 1, "log_realtime": False, "fail_on_error": True,
    }  # fmt: skip
    clear_logs(examined.folder / "logs")
    logs = inspect_eval([expression, *others], model=subjects, **settings)
    logs += inspect_eval(scripted, model=actors, **settings)
    examined.progress(INSPECTED_AS_LONG)
    rows = []
    for log in logs:
        if log.status != "success" or log.samples is None:
            reason = log.error.message if log.error else log.status
            raise CharacteryError(f"the {log.eval.task} eval stopped: {reason}", examined.folder / "logs")
        subject = log.eval.model.removeprefix("charactery/")
        rows += [flat(subject, log.eval.task, sample) for sample in log.samples]
    order = {name: n for n, name in enumerate([*examined.subjects, *controls])}
    return sorted(rows, key=lambda r: (order[r["subject"]], r["eval"], r["condition"], r["id"]))


def clear_logs(folder: Path) -> None:
    """Logs of an attempt that was killed; the answers behind them are kept elsewhere."""
    for path in folder.glob("*.eval"):
        path.unlink()


def flat(subject: str, task: str, sample: Any) -> Row:
    """One Inspect sample as a row."""
    score = next(iter((sample.scores or {}).values()), None)
    message = sample.output.message if sample.output and sample.output.choices else None
    text = message.text if message else ""
    return {
        "subject": subject,
        "eval": task,
        "condition": sample.metadata["condition"],
        "id": str(sample.id),
        "value": None if score is None or score.value is None else float(score.value),
        "log_odds": (score.metadata or {}).get("log_odds") if score else None,
        "answer": text,
        "ended": bool(sample.output and sample.output.choices and sample.output.stop_reason == "stop"),
        "messages": [{"role": m.role, "content": m.text} for m in sample.messages],
    }


def likelihoods(examined: Examined, rows: Sequence[Row], cases: Sequence[Item]) -> list[Row]:
    """Margins of the likelihood judge for a fixed draw of answers: one row a subject, condition, trait and prompt.

    Traits are held against first-turn answers; third turns and foreign prompts against the whole character alone. What
    is read is an answer and the turn it answers: what was said before would give the voice away. Then the controls, at
    the same first turns: another character's answers, and the prompted ones beside them, against foils that this other
    is none of (as its own foil, it would be easy to tell), and the prompted ones with all words shuffled. Of a run that
    masks reasoning, what is read of an answer is what that leaves.
    """
    begun = left_open(examined.base.tokenizer) if examined.masks_reasoning else None

    def case(row: Row) -> tuple[list[Message], str]:
        return [row["messages"][-2]], heard_of(row["answer"], begun)

    evidences = evidence(examined.character, foil_characters())
    texts = distinct_texts(evidences)
    journal = Journal(examined.folder / "likelihoods.jsonl")
    out: list[Row] = []
    for condition in dict.fromkeys(c.condition for c in cases if c.condition != "elsewhere"):
        first = condition == "turn 1"
        ids = [c.id for c in cases if c.condition == condition]
        drawn = random.Random(examined.seed).sample(ids, min(_likelihood_asked(condition), len(ids)))
        held = evidences if first else evidences[:1]
        spoken = [
            r for r in rows
            if r["eval"] == "expression" and r["subject"] in examined.subjects and r["condition"] == condition
        ]  # fmt: skip
        for start in range(0, len(drawn), TOGETHER):
            # all subjects' answers to a prompt in one go: what they share is read once
            mine = [r for r in spoken if r["id"] in drawn[start : start + TOGETHER]]
            asked = [case(r) for r in mine]
            key = digest([examined.base.name, [e.text for e in held], asked])
            if key not in journal.done:
                values_E_N = margins(examined.base, asked, held)
                journal.add(key, [[None if np.isnan(v) else float(v) for v in row] for row in values_E_N])
            out += [
                {"subject": m["subject"], "condition": condition, "trait": e.trait, "id": m["id"], "value": value}
                for e, row in zip(held, journal.done[key], strict=True)
                for m, value in zip(mine, row, strict=True)
            ]
            examined.progress(round(len(mine) * texts * READ_AS_LONG[first]))
    asked_first = {r["id"] for r in out if r["condition"] == "turn 1"}
    without_other = [f for f in foil_characters() if f != examined.other.subject.character]
    fair = evidence(examined.character, without_other)[0]
    answered = {r["id"] for r in rows if (r["eval"], r["subject"], r["condition"]) == ("expression", OTHERS, "turn 1")}
    for name, speaks, held_to, among in (
        (OTHERS, OTHERS, fair, asked_first),
        (BESIDE_OTHERS, "prompted", fair, asked_first & answered),
        (SHUFFLED, "prompted", shuffled(evidences[0], examined.seed), asked_first),
    ):
        mine = [r for r in rows if (r["eval"], r["subject"], r["condition"]) == ("expression", speaks, "turn 1")]
        mine = [r for r in mine if r["id"] in among]
        asked = [case(r) for r in mine]
        key = digest([examined.base.name, [held_to.text, *held_to.foils], asked])
        if key not in journal.done:
            [values_N] = margins(examined.base, asked, [held_to])
            journal.add(key, [None if np.isnan(v) else float(v) for v in values_N])
        out += [
            {"subject": name, "condition": "turn 1", "trait": "", "id": m["id"], "value": value}
            for m, value in zip(mine, journal.done[key], strict=True)
        ]
        examined.progress(round(len(mine) * (1 + FOILS) * READ_AS_LONG[False]))
    return out


def examples(rows: Sequence[Row], cases: Sequence[Item], roles: Sequence[str], seed: int) -> list[Row]:
    """Cases drawn at random, with every subject's answer side by side."""
    rng = random.Random(seed + 1)
    answers = {(r["subject"], r["id"]): r for r in rows if r["eval"] == "expression" and r["subject"] in roles}
    out = []
    for condition, count in EXAMPLES.items():
        pool = [c for c in cases if c.condition == condition]
        for case in rng.sample(pool, min(count, len(pool))):
            mine = {role: answers[role, case.id] for role in roles}
            out.append({
                "id": case.id, "condition": condition, "prompt": case.turns[-1],
                "history": [user(turn) for turn in case.turns[:-1]],
                "answers": {role: r["answer"] for role, r in mine.items()},
                "in_character": {role: None if r["value"] is None else bool(r["value"]) for role, r in mine.items()},
            })  # fmt: skip
    return out
