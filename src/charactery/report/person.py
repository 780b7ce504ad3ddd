"""The section on a real person: what was learnt from, whose words the answers are in, what came after the person."""

from typing import Any

from charactery.evals.person.portrait import found_in_labelled
from charactery.report.blocks import Block, Folded, Heading, Table, Text
from charactery.report.figures import read_estimate
from charactery.report.files import stage_file, stage_json, stage_rows
from charactery.report.numbers import count, interval, number, short_interval
from charactery.report.source import Source
from charactery.stats import Estimate

LATER, KNOWN = "never known", "known"
SHOWN = 12  # answers about later things that are printed, of each subject
JUDGE = (
    "Two adapters of the base, one trained on the writings of {} and one on others', each read an answer behind the"
    " passages of their side that are nearest to the question ({} a side). The score is how much likelier the first"
    " makes it, in nats a token. It was tested on {} of the author, each with another's of the same genre, of like "
    "length and nearest in date; no document is on both sides of the split. The intervals draw whole documents."
)
WHOSE = (
    "The score of held-out passages, and of answers to held-out prompts. An answer passes where it scores above all "
    "but one in twenty of others' held-out passages and of the plain model's answers ({}). Prompts are of today, and "
    "the passages are not, so an answer may be unlike either side; read the difference from plain first."
)
LATER_THINGS = (
    "The writings end in {}. Asked about things that came later, and about things that had been there for twenty "
    "years, how often does an answer say that it does not know the thing? That is read by a list of expressions "
    "(“never heard”, “no such thing”, “unknown to me” and the like). Of answers written to test it, it finds {} "
    "of those that do not know (n {}), and takes {} of those that do for such (n {}). Beside it, without any "
    "answer: how well the log-probability of three replies that do not know, less that of three that do, tells "
    "later things from known ones."
)
CLAIMS = (
    "Claims about oneself (married, poor as a child, a believer, a human being), each asked about in four wordings, "
    "of which two make the claim by saying yes. The likelier of two replies is taken. Contradiction is the share of "
    "pairs of wordings that make opposite claims, entropy that of the mean probability; both are lower the more it is"
    " one and the same somebody. `charactery claims` sets several runs side by side."
)


def person(source: Source) -> tuple[Block, ...]:
    """Everything on the writings and their author; nothing in a run without them."""
    return (*_writings(source), *_judge(source), *_answers(source), *_later(source), *_claims(source))


def _writings(source: Source) -> tuple[Block, ...]:
    counts: dict[str, Any] | None = stage_json(source.run, "writings", "counts.json")
    if not counts:
        return ()
    tokens = source.run.manifest.get("writings", counts["tokens"])
    said = (
        f"The model learnt from {count(tokens['passages'], 'passage')} of the writings, {tokens['distinct']:,} tokens "
    )
    said += f"of them, and met {tokens['seen']:,} tokens in all. A question for each passage was thought of by the "
    said += "plain model; the passage is learnt as its answer."
    if about := counts.get("about"):
        said += (
            f" Beside them it learnt {count(tokens['about'], 'passage')} of what others wrote about {source.name} "
            f"({count(about['texts'], 'text')}, {about['words']:,} words), as text, and not as answers."
        )
    rows = []
    for side, name in (("author", source.name), ("others", "Others")):
        mine = counts[side]
        years = "–".join(dict.fromkeys(mine["years"])) or "undated"
        rows.append(
            (name, f"{mine['texts']:,}", f"{mine['words']:,}", years, f"{mine['learnt']:,}", f"{mine['held_out']:,}",
             f"{mine['judge']:,}")
        )  # fmt: skip
    head = ("Texts of", "How many", "Words", "Years", "Passages to learn from", "Held out", "Learnt by the judge")
    blocks: list[Block] = [Heading("The writings"), Text(said), Table(head, tuple(rows), frozenset(head) - {head[0]})]
    genres = counts["genres"]["learnt"]
    blocks.append(
        Text("Learnt from: " + ", ".join(f"{n:,} {_of(genre)}" for genre, n in genres.items()) + ".", "small")
    )
    if left_out := counts["left_out"]:
        listed = "; ".join(f"{n:,} {reason}" for reason, n in left_out.items())
        blocks.append(Text(f"Left out, passages where nothing else is said: {listed}.", "small"))
    plain = sum(n for origin, n in counts["questions"].items() if origin != "written")
    if plain:
        every = sum(counts["questions"].values())
        said = f"For {plain:,} of {every:,} passages the model thought of no fit question; they answer a general one."
        blocks.append(Text(said, "small"))
    return tuple(blocks)


def _asked(e: Estimate) -> str:
    """How many a figure rests on, and how many are missing from it."""
    return f"{e.n:,}" + (f", {e.missing:,} missing" if e.missing else "")


def _share(e: Estimate) -> str:
    return f"{short_interval(e, percent=True)} (n {_asked(e)})"


def _of(genre: str) -> str:
    return "of unknown kind" if genre == "unknown" else f"{genre}"


def _judge(source: Source) -> tuple[Block, ...]:
    path = stage_file(source.run, "authorship", "authorship.json")
    found: dict[str, Any] | None = stage_json(source.run, "authorship", "authorship.json")
    counts: dict[str, Any] | None = stage_json(source.run, "writings", "counts.json")
    if not found or not counts or path is None:
        return ()
    said = JUDGE.format(source.name, found["shown"], count(found["pairs"], "held-out passage"))
    rows = [
        ("All" if g == "all" else g.capitalize(), interval(e), f"{e.n:,}")
        for g, e in ((g, read_estimate(row, path)) for g, row in found["auc"].items())
    ]
    for name, key in (("All, without passages shown", "auc_alone"), ("Length alone", "length_auc")):
        e = read_estimate(found[key], path)
        rows.append((name, interval(e), f"{e.n:,}"))
    table = Table(("Held-out passages", "AUC [95%]", "n"), tuple(rows), frozenset({"AUC [95%]", "n"}))
    blocks: list[Block] = [Heading("The authorship judge"), Text(said), table]
    whole = read_estimate(found["auc"]["all"], path)
    if whole.low is None or whole.low <= 0.5:
        said = "This judge does not clearly tell the author from others of that time; what it chose may be anything."
        blocks.append(Text(said, "warning"))
    untested = {g: n for g, n in counts["genres"]["learnt"].items() if g not in found["auc"]}
    if untested:
        said = "Not tested, for want of others' passages of that genre and time: "
        blocks.append(Text(said + ", ".join(_of(g) for g in untested) + ".", "warning"))
    return tuple(blocks)


def _answers(source: Source) -> tuple[Block, ...]:
    path = stage_file(source.run, "person", "person.json")
    found: dict[str, Any] | None = stage_json(source.run, "person", "person.json")
    held: dict[str, Any] | None = stage_json(source.run, "authorship", "authorship.json")
    if not found or not held or path is None:
        return ()
    rows: list[tuple[str, ...]] = []
    for name, key in (("Held-out passages of the author", "author"), ("Held-out passages of others", "others")):
        e = read_estimate(held["means"][key], path)
        rows.append((name, interval(e), "", "", "", f"{e.n:,}"))
    for role, mine in found["authorship"].items():
        score = read_estimate(mine["score"], path)
        above = interval(read_estimate(mine["above plain"], path)) if "above plain" in mine else ""
        shares = (_share(read_estimate(mine[key], path)) for key in ("pass", "copied"))
        rows.append((f"Answers, {role}", interval(score), above, *shares, _asked(score)))
    head = ("Of", "Nats a token [95%]", "Above plain", "Pass for the author's", "Copy eight words in a row", "n")
    said = WHOSE.format(number(found["threshold"]))
    return Heading("Whose words"), Text(said), Table(head, tuple(rows), frozenset(head) - {head[0]})


def _later(source: Source) -> tuple[Block, ...]:
    path = stage_file(source.run, "person", "person.json")
    found: dict[str, Any] | None = stage_json(source.run, "person", "person.json")
    answers = stage_rows(source.run, "person", "later.jsonl")
    if not found or not answers or path is None:
        return ()
    labelled = found_in_labelled()
    read = [told for e in (labelled[True], labelled[False]) for told in (short_interval(e, percent=True), e.n)]
    said = LATER_THINGS.format(found["last_year"], *read)
    rows = []
    for role, mine in found["later"].items():
        apart = read_estimate(mine["told apart"], path)
        shares = (_share(read_estimate(mine[kind], path)) for kind in (LATER, KNOWN))
        rows.append((role, *shares, interval(apart), _asked(apart)))
    head = ("Subject", "Says not known: later things", "Says not known: known things", "AUC [95%]", "n")
    printed: list[Block] = []
    for role in found["later"]:
        mine = [r for r in answers if r["subject"] == role and r["kind"] == LATER][:SHOWN]
        told = tuple((f"{r['prompt']} ({r['year']})", r["answer"], "yes" if r["says not known"] else "") for r in mine)
        printed += [Heading(role), Table(("Asked", "Answer", "Says not known"), told)]
    folded = Folded("Answers about things that came later", tuple(printed))
    return Heading("What came later"), Text(said), Table(head, tuple(rows), frozenset(head) - {head[0]}), folded


def _claims(source: Source) -> tuple[Block, ...]:
    path = stage_file(source.run, "person", "person.json")
    found: dict[str, Any] | None = stage_json(source.run, "person", "person.json")
    if not found or path is None:
        return ()
    rows = []
    for role, mine in found["claims"].items():
        contradiction, entropy = (read_estimate(mine[key], path) for key in ("contradiction", "entropy"))
        rows.append((role, interval(contradiction), interval(entropy), f"{contradiction.n:,}"))
    head = ("Subject", "Contradiction [95%]", "Entropy, bits [95%]", "Claims")
    return Heading("What it says of itself"), Text(CLAIMS), Table(head, tuple(rows), frozenset(head) - {head[0]})
