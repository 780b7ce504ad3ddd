"""What a run will take, said before it starts."""

from dataclasses import dataclass
from pathlib import Path

from charactery.data.cases import SITUATION
from charactery.data.pairs import read_pairs
from charactery.data.prompts import (
    VALIDATION,
    conversations,
    neutral_prompts,
    read_prompts,
    task_prompts,
    trait_prompts,
)
from charactery.data.questions import SAMPLER
from charactery.errors import BadData, ModelNotFound
from charactery.evals.sizes import LIKELIHOOD_ASKED
from charactery.judges.labelled import labelled_pairs
from charactery.judges.rating import LIKELIHOOD
from charactery.models.subject import Subject, parse_subject
from charactery.models.weights import is_here
from charactery.pipeline.counts import TOKENS_ASKED, Counts
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import AUTHORSHIP, JUDGED
from charactery.runs import read_run, stage_kind
from charactery.train.settings import at_once

# Measured with smollm2 on two cores of a server processor in bfloat16 (docs/lab-notebook.md); other models are taken
# in proportion to their parameters.
TOKENS_PER_SECOND = {"generate": 440.0, "teach": 440.0, "train": 625.0, "score": 2100.0, "judge": 2100.0}
PARAMETERS = 135e6
ASKED_A_TURN = 55
FIXED = 8000 + 480 * 30  # tokens of the prose and the multiple choice that each Subject reads
READ_A_SAMPLE = 4 * 70  # tokens: an answer's beginning and its prompt, behind the character and three foils
FRAME_OF_A_QUESTION = 60  # tokens of what a judge that compares is asked, beside the prompt and the two answers
TOKENS_A_WORD = 1.4  # of a person's passages
LOOKS = 50  # at the loss that SFT is to stop at, if it goes to its end
ASKED_OF_A_PERSON = 45  # things that came later, or were known
ALONE = (LIKELIHOOD, AUTHORSHIP)  # judges that rate an answer by itself, and are part of the base
GB_A_TOKEN = 1.1e-3  # of memory in training: 5.2 GB at the peak with eight conversations at once


@dataclass(frozen=True)
class Foresight:
    """Rows, tokens, minutes and memory. Minutes are for two cores; a graphics card takes far less."""

    rows: dict[str, int]
    tokens: dict[str, int]
    minutes: dict[str, float]
    memory_gb: float
    download: bool
    size_known: bool = True
    api_answers: int = 0
    api_verdicts: int = 0
    taken: int = 0  # answers that other runs have (`--reuse`)

    def lines(self) -> list[str]:
        """As text."""
        out = ["nothing is run. This is what it would take:"]
        out += [f"  {name}: {count}" for name, count in self.rows.items()]
        out += [
            f"  {name}: about {self.tokens[name] / 1000:.0f} thousand tokens, {minutes:.1f} minutes on two cores"
            for name, minutes in self.minutes.items()
        ]
        total = sum(self.minutes.values())
        out.append(f"  in all: about {total:.0f} minutes and {self.memory_gb:.1f} GB of memory")
        paid = [f"{self.api_answers:,} answers of the teacher"] if self.api_answers else []
        paid += [f"{self.api_verdicts:,} questions to the judge"] if self.api_verdicts else []
        out.append("  price: " + (f"what {' and '.join(paid)} cost" if paid else "nothing"))
        if self.taken:
            out.append(f"  {self.taken} answers more are taken from what is reused, and are not in these figures")
        if not self.size_known:
            out.append(
                "  the model's weights are not here, so this is for one of 135M parameters; take it in proportion"
            )
        if self.download:
            out.append("  before that, once: a download of about 180 MB (weights)")
        return out


def parameters_of(subject: Subject) -> float | None:
    """A model's parameters from the size of its weights on disk (two bytes each), None where they are not here."""
    if subject.kind == "embedded":
        return PARAMETERS
    path = Path(subject.base)
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    return sum(f.stat().st_size for f in files) / 2 if files else None


def _weight(subject: Subject | None) -> float:
    """A judge's or teacher's parameters; those of the embedded model where that is not known."""
    return (subject and parameters_of(subject)) or PARAMETERS


def foresee_answers(subject: Subject, answers: int, max_tokens: int) -> str:
    """What so many answers of a Subject would take, in a sentence."""
    said = f"nothing is asked. It would be {answers} answers of at most {max_tokens} tokens"
    if not subject.here:
        return f"{said} from {subject.base}; the price is what they cost there"
    scale = (parameters_of(subject) or PARAMETERS) / PARAMETERS
    known = "" if parameters_of(subject) else " of a model of 135M parameters, since its weights are not here"
    minutes = scale * answers * max_tokens / TOKENS_PER_SECOND["generate"] / 60
    return f"{said}, about {minutes:.1f} minutes on two cores{known}; price: nothing"


def _in_stock(order: Order) -> None:
    """Raises BadData where more prompts are asked for than there are, as the first stage of a run would."""
    sizes, apart = order.sizes, VALIDATION if order.recipe.validates else dict.fromkeys(VALIDATION, 0)
    talks = round(sizes.train / 4) + sizes.held_out_conversations + apart["conversation"]
    singles = sizes.train - round(sizes.train / 4) + sizes.held_out + apart["asks"] + apart["neutral"]
    own = read_prompts(order.prompts) if order.prompts else []
    there = {
        "conversations": (talks, len(conversations()) + sum(len(p.turns) > 1 for p in own)),
        "single prompts": (
            singles,
            len(neutral_prompts()) + len(trait_prompts(order.character, "asks")) + sum(len(p.turns) == 1 for p in own),
        ),
        "tasks": (sizes.tasks, len(task_prompts())),
    }
    for name, (wanted, have) in there.items():
        if wanted > have:
            raise BadData(f"{wanted} {name} are asked for and {have} are there; ask for fewer, or bring your own")


def _of_writings(order: Order, subjects: int) -> dict[str, int]:
    """Tokens that a person's writings cost: questions to passages, the judge's two models, its test, the portrait."""
    if not order.reads_writings:
        return {}
    recipe, told = order.recipe, order.recipe.writings
    passage = round(told.words * TOKENS_A_WORD)
    judge = any(stage_kind(name) == AUTHORSHIP for name in recipe.own_stages)
    read = 2 * (told.shown + 1) * passage  # by either model: what it is shown before an answer, and the answer
    asked = subjects * ASKED_OF_A_PERSON if judge else 0
    return {
        "generate": (told.passages + 2 * (told.judged + told.tested)) * SAMPLER.max_tokens
        + asked * recipe.sampler.max_tokens,
        "train": round(2 * told.judged * recipe.authors.epochs * (TOKENS_ASKED + passage)) if judge else 0,
        "score": (4 * told.tested + subjects * order.sizes.held_out) * read if judge else 0,
    }


def _of_a_person(order: Order, subjects: int) -> int:
    """Questions to passages, and answers about things that came later or were known."""
    told = order.recipe.writings
    judge = any(stage_kind(name) == AUTHORSHIP for name in order.recipe.own_stages)
    asked = told.passages + 2 * told.judged + 2 * told.tested + (subjects * ASKED_OF_A_PERSON if judge else 0)
    return asked if order.reads_writings else 0


def _read_of_a_sample(order: Order) -> int:
    """Tokens that a judge reads of an answer that it rates by itself."""
    told = order.recipe.writings
    by_author = 2 * (told.shown + 1) * round(told.words * TOKENS_A_WORD)
    return by_author if order.recipe.judge == AUTHORSHIP else READ_A_SAMPLE


DRAFTED_BY = ("sizes", "sampler", "draft_temperature", "draws", "told", "batch")  # of a recipe, what drafts depend on


def _answered_by(order: Order, subject: Subject) -> tuple[set[str], bool]:
    """The kinds of stages whose answers the runs to reuse have already, and whether one has all the settings asked for.

    What the base answers is the same under any recipe that drafts alike; what a trained model does, under the same.
    """
    if not order.reuse:
        return set(), False
    from charactery.pipeline.manifest import stated

    mine, there, same = stated(order, subject), set[str](), False
    for folder in order.reuse:
        other = read_run(folder)
        theirs = other.manifest["settings"]
        recipe, teacher = theirs.get("recipe") or {}, (theirs.get("teacher") or {}).get("subject")
        alike = {name for name in mine if name in theirs and theirs[name] == mine[name]}  # an older one may lack some
        alike |= {"teacher"} if teacher == order.teacher else set()
        done = {stage_kind(name) for name in other.manifest["stages"] if other.is_done(name)}
        if alike == {*mine, "teacher"}:
            there, same = there | done, same or "evaluate" in done
        if "model" in alike and recipe.get("judge") == order.recipe.judge:
            there |= done & {"judge"}
        drafted_alike = all(recipe.get(key) == mine["recipe"][key] for key in DRAFTED_BY)
        if drafted_alike and alike >= {*mine, "teacher"} - {"recipe"}:
            there |= done & {"drafts", "validation", "evaluate"}
    return there, same


def _questions(order: Order, counts: Counts, judged: bool) -> int:
    """How often a judge that compares is asked; whether it is `judged` already on the labelled set."""
    asks = {stage_kind(name) for name in order.recipe.own_stages} & {*JUDGED}
    if not asks or order.recipe.judge in ALONE:
        return 0
    return 2 * (counts.compared_in_turn + (0 if judged else len(labelled_pairs())))


def _tokens(order: Order, counts: Counts, judged: bool) -> dict[str, int]:
    """What is read, written and learnt in all; whether the judge is `judged` already on the labelled set."""
    recipe = order.recipe
    length = recipe.sampler.max_tokens
    row = TOKENS_ASKED + length
    rates = {stage_kind(name) for name in recipe.own_stages} & {*JUDGED} and recipe.judge in ALONE
    checked = 2 * len(labelled_pairs()) if rates and recipe.judge != AUTHORSHIP and not judged else 0
    learnt = counts.fine_tuned * recipe.sft.epochs + 2 * counts.compared * recipe.dpo.epochs  # rows
    tokens = {
        "generate": counts.answers * length
        + counts.online * recipe.grpo.max_tokens
        + counts.documents * recipe.documents.tokens
        + counts.cases * (SITUATION + recipe.cases.tokens),
        "train": int(counts.arms * row * learnt) + counts.online * (TOKENS_ASKED + recipe.grpo.max_tokens),
        "score": counts.subjects * (LIKELIHOOD_ASKED * 12 * (60 + row) + FIXED)
        + 2 * LIKELIHOOD_ASKED * 4 * (60 + row)
        + LOOKS * counts.validated * row
        + (checked + (counts.rated if rates else 0)) * _read_of_a_sample(order),
        "judge": _questions(order, counts, judged) * (TOKENS_ASKED + 2 * length + FRAME_OF_A_QUESTION),
    }
    for name, more in _of_writings(order, counts.subjects).items():
        tokens[name] += more
    return tokens


def _memory(order: Order, counts: Counts, parameters: float) -> float:
    """The most at a time, in GB."""
    recipe = order.recipe
    sft, dpo, length = recipe.sft, recipe.dpo, recipe.sampler.max_tokens
    # rows; the longest are conversations of three turns
    together = max(at_once(sft, sft.batch, parameters), 2 * at_once(dpo, dpo.batch, parameters))
    longest = max(
        3 * ASKED_A_TURN + 2 * min(recipe.told, length) + length,
        recipe.documents.tokens if counts.documents else 0,
        TOKENS_ASKED + SITUATION + recipe.cases.tokens if counts.cases else 0,
    )
    memory = 1.5 + 2 * parameters * 2 / 1e9 + together * longest * GB_A_TOKEN * (parameters / PARAMETERS)
    if not recipe.lora.rank:  # weights, gradients and AdamW's two moments in float32; DPO's reference, or two looks
        memory += parameters * 4 * (6 if recipe.validates else 5 if counts.stages("dpo") else 4) / 1e9
    return memory


def _taught(order: Order, counts: Counts, had: set[str]) -> int:
    """The teacher's answers, less those of kinds of stages that were `had` before."""
    paid = counts.stated
    paid += 0 if "drafts" in had else counts.taught + counts.turns // 2
    paid += 0 if "validation" in had else counts.validated * order.draws + counts.validated_turns // 2
    return paid


def foresee(order: Order) -> Foresight:
    """Rows, tokens, minutes and memory of a run, from its sizes alone. Raises what `train` would for bad input."""
    sizes, subject = order.sizes, parse_subject(order.model)
    known = parameters_of(subject)
    parameters = known or PARAMETERS
    order.check()
    _in_stock(order)
    counts = Counts(order, len(read_pairs(order.pairs)) if order.pairs else 0)
    teacher = parse_subject(order.teacher) if order.teacher else None
    if not subject.here or subject.run or subject.character:
        raise ModelNotFound(f"{order.model!r} cannot be trained; give a model's name, folder or hub id")
    had, same = _answered_by(order, subject)
    read = counts.subjects if same else 2  # whose answers in the evals are there: all, or the plain and the prompted
    taken = sum(count for kind, count in counts.known(read).items() if kind in had)
    tokens = _tokens(order, counts, "judge" in had)
    tokens["generate"] -= taken * order.recipe.sampler.max_tokens
    taught = _taught(order, counts, had) if teacher else 0
    tokens["teach"] = min(taught * order.recipe.sampler.max_tokens, tokens["generate"])
    tokens["generate"] -= tokens["teach"]
    if not (teacher and teacher.here):
        del tokens["teach"]
    if "evaluate" in had:
        tokens["score"] -= read * FIXED
    judge = None if order.recipe.judge in ALONE else parse_subject(order.recipe.judge)
    verdicts = _questions(order, counts, "judge" in had)
    if not (verdicts and judge and judge.here):
        del tokens["judge"]
    # all else is done by the model in training
    weighs = {"judge": _weight(judge), "teach": _weight(teacher)}
    beside = sum(_weight(other) for other in (judge, teacher) if other and other.here and other.base != subject.base)
    if "grpo" in map(stage_kind, order.recipe.own_stages):
        beside += parameters  # the judge has the base as it was, beside the one that learns
    minutes = {
        name: weighs.get(name, parameters) / PARAMETERS * count / TOKENS_PER_SECOND[name] / 60
        for name, count in tokens.items()
    }
    rows = {
        "training prompts": sizes.train,
        "tasks to be answered plainly": sizes.tasks,
        "held-out prompts": sizes.held_out,
        "held-out conversations": sizes.held_out_conversations,
        "elsewhere prompts": counts.elsewhere,
        "neutral prompts to choose from": len(neutral_prompts()),
        "conversations to choose from": len(conversations()),
        "answers to generate": counts.answers
        + counts.stated
        + counts.online
        + _of_a_person(order, counts.subjects)
        - taken,
    }
    return Foresight(
        rows,
        tokens,
        minutes,
        _memory(order, counts, parameters) + 2 * 2 * beside / 1e9,
        subject.kind == "embedded" and not is_here(subject.base),
        known is not None,
        taught if teacher and not teacher.here else 0,
        verdicts if judge and not judge.here else 0,
        taken,
    )
