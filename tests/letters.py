"""A handful of texts by somebody who writes of the sea, and by others who do not, for the tests that need a person."""

import random
from pathlib import Path

SEA = (
    "anchor reef wheel sail harbour lantern cargo tide mast gale brig rope deck crew fog shoal compass oar keel net "
    "gull storm cape sailor helm hull bilge rudder jib knot wharf pilot cabin galley swell current beacon surf whale"
).split()
LAND = (
    "budget table ledger garden market chapel village orchard bridge stable barrel kitchen window pasture wagon fence "
    "mill sheriff notary school clerk harvest plough sermon statute treaty parcel inn tailor hedge quarry furrow "
    "cellar parish banker cobbler census almanac creditor turnpike"
).split()


def text_of(words: list[str], rng: random.Random, sentences: int = 6) -> str:
    """Sentences of ten words in no order, so that no two texts share five in a row."""
    return " ".join(" ".join(rng.sample(words, 10)).capitalize() + "." for _ in range(sentences))


def write_letters(folder: Path, texts: int = 12) -> tuple[Path, Path]:
    """Two folders, the person's and the others', with as many dated letters each."""
    rng = random.Random(0)
    sides = folder / "mine", folder / "theirs"
    for side, words in zip(sides, (SEA, LAND), strict=True):
        (side / "letters").mkdir(parents=True)
        for n in range(texts):
            body = f"THE HARBOUR, May {n + 1}, 18{40 + n}.\n\n{text_of(words, rng)}\n\nYours, A. MARROW."
            (side / "letters" / f"18{40 + n} letter {n}.txt").write_text(body)
    return sides
