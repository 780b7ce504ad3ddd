"""Questions that passages answer, thought of by a model, so that a person's writings can be learnt as answers.

After instruction backtranslation (Li et al. 2023, arXiv 2308.06259): the text is a person's, the prompt is made up.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from charactery.data.filters import leaks
from charactery.data.passages import Passage
from charactery.data.writings import surname
from charactery.models.chat import user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import Speaker, answer_all
from charactery.runs import Journal

ASK = (
    "Here is a passage that somebody wrote:\n\n{text}\n\nWrite one short question that somebody might have put to its "
    "writer and that the passage answers. Write the question alone."
)
PLAIN = "What have you to say of this?"  # where the model thought of none
SAMPLER = Sampler(max_tokens=32, temperature=0.3)
SHORTEST, LONGEST = 4, 30  # words of a question


def ask_for(
    passages: Sequence[Passage], author: str, speaker: Speaker, seed: int, journal: Journal,
    progress: Callable[[int], None], batch: int,
) -> tuple[dict[str, str], dict[str, int]]:  # fmt: skip
    """A question for each passage, by id, and how many are of which origin ("written", or why there was none).

    None names the author: of whom a model thinks must be in its answer, and not in what it is asked.
    """
    distinct = list({p.id: p for p in passages}.values())
    asks = [(speaker, Request((user(ASK.format(text=p.text)),), derive_seed(seed, "question", p.id))) for p in distinct]
    answers = answer_all(asks, SAMPLER, journal, progress, batch)
    origins: Counter[str] = Counter()
    questions = {}
    for passage, answer in zip(distinct, answers, strict=True):
        question, origin = question_in(answer.text, passage.text, surname(author))
        questions[passage.id] = question
        origins[origin] += 1
    return questions, dict(origins)


def question_in(said: str, passage: str, name: str) -> tuple[str, str]:
    """The first question in what a model said, and "written"; or a plain one, and what was wrong."""
    found = re.search(r"[^.!?\n]*\?", said)
    question = re.sub(r"^(?:question|q)?\W+(?=\w)", "", found[0].strip(), flags=re.IGNORECASE) if found else ""
    if not found:
        return PLAIN, "no question"
    if not SHORTEST <= len(question.split()) <= LONGEST:
        return PLAIN, "too short or too long"
    if re.search(rf"\b{re.escape(name)}\b", question, re.IGNORECASE):
        return PLAIN, "names the author"
    if leaks(question, passage):
        return PLAIN, "repeats the passage"
    return question, "written"
