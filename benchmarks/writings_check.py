"""How much of what is not the person's own `charactery writings check` finds, and how much of what it doubts is not.

    python benchmarks/writings_check.py lincoln.jsonl               the sample that no rule was made on
    python benchmarks/writings_check.py lincoln.jsonl --sample 0    the one that the newer rules were made on

The writings are Project Gutenberg's number 3253, cut at its headings into 1,558 texts, one a line. The labels are in
writings_labels.jsonl beside this script: the text's line number, what it was found to be, and how it was drawn. None
of the text is there; a digest says whether yours are the same 1,558.

A language model labelled the texts; of long ones it read the first 150 words and the last 80, and the whole where that
left a doubt. It was not told which the check suspects. For sample 0 it knew the kinds of mark in docs/writings.md,
and no more; by sample 1 it had seen the list of suspects and written the newer rules. What it labelled:

    own          the person's, by more than half of the words; official papers in his name too, and double ones
    caption      a heading, a signature block, a title page: no text of his
    quotation    another's words, more than half of it
    other hand   another wrote it: letters received, secretaries' and committees' texts, reports in the third person of
                 what he said, editors' notes ("caption+other hand")

Who wrote what the page gives out as his was not looked into. Texts are drawn from strata, so each stands for as many
as its stratum holds over those drawn. Sample 0: 60 of the then 149 suspects, 80 of the rest. Sample 1, of texts not in
sample 0: 40 of those 149, 20 of the 35 that newer rules add, 100 of the others.

Precision leaves out texts that are doubted as duplicates alone: whether they are his the label says, whether they are
double it does not. Wilson's interval, at the effective number of texts. Recall: a bootstrap within strata.
"""

import argparse
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from charactery.data.writings import read_writings, suspicions
from charactery.errors import BadData, CharacteryError
from charactery.runs import read_rows
from charactery.stats import Estimate, nothing, wilson

LABELS = Path(__file__).with_name("writings_labels.jsonl")
DIGEST = "39699e312cf79d12b4e950d59cd7a9e3ea6cb5142dd3ba9ab6fc7a04c94f908f"
STRATA = {
    0: {"suspects": 149, "rest": 1409},
    1: {"suspects": 149, "added": 35, "neither": 1374},
}  # how many texts each holds
ROUNDS = 10_000


@dataclass(frozen=True)
class LabelledText:
    """A text that was read: its id, the stratum it was drawn from, and what it is."""

    id: str
    stratum: str
    label: str

    @property
    def own(self) -> bool:
        """Whether it is the person's."""
        return self.label == "own"


def figures(
    labelled: Sequence[LabelledText], kinds: Mapping[str, set[str]], held: Mapping[str, int]
) -> dict[str, Estimate]:
    """Precision, in all and by kind of doubt, and recall. `kinds` is what each suspect is doubted for, by id; `held`
    is how many texts each stratum holds."""
    drawn = Counter(one.stratum for one in labelled)
    weight = {stratum: held[stratum] / drawn[stratum] for stratum in drawn}
    doubted = [one for one in labelled if kinds.get(one.id, set()) - {"duplicate"}]
    given = {"precision": precision(doubted, weight)}
    for kind in sorted({kind for one in doubted for kind in kinds[one.id]} - {"duplicate"}):
        given[f"precision, {kind}"] = precision([one for one in doubted if kind in kinds[one.id]], weight)
    return given | {"recall": recall(labelled, set(kinds), weight)}


def precision(doubted: Sequence[LabelledText], weight: Mapping[str, float]) -> Estimate:
    """Weighted share of texts doubted that are not the person's own."""
    if not doubted:
        return nothing()
    weights = np.array([weight[one.stratum] for one in doubted])
    share = float(weights @ [not one.own for one in doubted] / weights.sum())
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    # all or none of them are bounds, which rounding would miss
    share = float(round(share)) if abs(share - round(share)) < 1e-9 else share
    low, high = wilson(share * effective, effective)
    return Estimate(share, low, high, len(doubted), method="Wilson, effective n of weights")


def recall(labelled: Sequence[LabelledText], suspects: set[str], weight: Mapping[str, float]) -> Estimate:
    """Weighted share of texts not the person's own that are suspects."""
    strata: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for one in labelled:
        strata[one.stratum].append((not one.own, not one.own and one.id in suspects))
    rng = np.random.default_rng(0)
    value, sums = np.zeros(2), np.zeros((ROUNDS, 2))
    for stratum, pairs in strata.items():
        pairs_N_2 = weight[stratum] * np.array(pairs)
        value += pairs_N_2.sum(0)
        sums += pairs_N_2[rng.integers(0, len(pairs), (ROUNDS, len(pairs)))].sum(1)
    if not value[0]:
        return nothing()
    sums = sums[sums[:, 0] > 0]
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [0.025, 0.975])
    n = sum(not one.own for one in labelled)
    return Estimate(float(value[1] / value[0]), float(low), float(high), n, method="bootstrap within strata")


def main() -> None:
    """Prints the figures of a sample, and the texts that the check missed or doubted for nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("writings", type=Path)
    parser.add_argument("--sample", type=int, choices=sorted(STRATA), default=1)
    asked = parser.parse_args()
    try:
        writings = read_writings(asked.writings)
        if hashlib.sha256("\n".join(w.text for w in writings).encode()).hexdigest() != DIGEST:
            raise BadData("holds other texts than the 1,558 that the labels are of", asked.writings)
    except CharacteryError as error:
        parser.error(str(error))
    kinds: dict[str, set[str]] = defaultdict(set)
    for one in suspicions(writings, "Abraham Lincoln"):
        kinds[one.id].add(one.kind)
    rows = [row for row in read_rows(LABELS) if row["sample"] == asked.sample]
    labelled = [LabelledText(str(row["line"]), row["stratum"], row["label"]) for row in rows]
    print(f"{len(kinds)} of {len(writings)} texts come under suspicion, {len(labelled)} of all were read")
    for name, figure in figures(labelled, kinds, STRATA[asked.sample]).items():
        print(f"{name:24} {figure}")
    missed = [f"{one.id} ({one.label})" for one in labelled if not one.own and one.id not in kinds]
    doubted = [one for one in labelled if one.own and kinds.get(one.id, set()) - {"duplicate"}]
    print("missed:", ", ".join(missed) or "none")
    print("his own:", ", ".join(f"{one.id} ({', '.join(sorted(kinds[one.id]))})" for one in doubted) or "none")


if __name__ == "__main__":
    main()
