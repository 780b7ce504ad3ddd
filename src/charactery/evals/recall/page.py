"""A page of recitals: the text, coloured by how often each clause came back, and what was invented."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from charactery.evals.asks import Reading
from charactery.evals.definition import Case
from charactery.evals.recall.alignment import KEPT, LEFT_OUT, VERDICTS, back, invented, stems, text_of
from charactery.stats import clustered_rate

ALIKE = 0.6  # of two sentences' words, the share in both, from which they are one invention
LISTED = 40
STYLE = (
    "body{font:16px/1.55 Georgia,serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1,h2,h3{font-family:system-ui,sans-serif}p{margin:.4rem 0}.k{font:12px system-ui,sans-serif;color:#555}"
    "mark{color:inherit;padding:.1rem .2rem;border-radius:.2rem}table{border-collapse:collapse}"
    "td{padding:.15rem .6rem;vertical-align:top}"
)


def recall_page(subject: str, told: Sequence[tuple[Case, Mapping[str, Reading]]]) -> str:
    """One HTML page without outside parts. A clause is the greener the more recitals bring it back, denied or not asked
    for apart; its number and its share are those of the metric `clause`."""
    recitals = [(case, readings["recital"].text) for case, readings in told]
    out = [f"<h1>What {escape(subject)} remembers</h1>", f"<p>{len(recitals)} recitals.</p>"]
    names = list(dict.fromkeys(name for case, _ in recitals for name in case.about["texts"]))
    for name in names:
        out += _coloured(name, [(case, text) for case, text in recitals if name in case.about["texts"]])
    out += ["<h2>Invented</h2>", *_inventions(recitals)]
    title = f"Recall: {escape(subject)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<body>{''.join(out)}</body></html>\n"
    )


def _coloured(name: str, recitals: Sequence[tuple[Case, str]]) -> list[str]:
    """The text of this name. A recital of one section counts for the clauses of that section alone."""
    clauses: list[list[str]] = recitals[0][0].about["texts"][name]
    text = text_of(tuple(clause for _, clause in clauses))
    found: list[list[tuple[str, str]]] = [[] for _ in clauses]  # by clause, verdicts and the recitals' clusters
    for case, recital in recitals:
        for mine, (section, _), verdict in zip(found, clauses, text.recalled(recital), strict=True):
            if case.about["section"] in ("", section):
                mine.append((verdict, case.cluster))
    out, last = [f"<h2>{escape(name)}</h2>"], ""
    for number, ((section, clause), mine) in enumerate(zip(clauses, found, strict=True), 1):
        if section != last:
            out.append(f"<h3>{escape(section)}</h3>")
            last = section
        told = clustered_rate([float(back(verdict)) for verdict, _ in mine], [cluster for _, cluster in mine])
        count = Counter(verdict for verdict, _ in mine)
        forms = ", ".join(f"{count[v]} {v}" for v in VERDICTS if v not in (KEPT, LEFT_OUT) and count[v])
        shade = f"background:rgba(40,150,80,{0.75 * (told.value or 0):.2f})"
        span = "" if told.low is None or told.high is None else f", 95% {told.low:.2f} to {told.high:.2f}"
        out.append(
            f'<p><span class="k">{number}</span> <mark style="{shade}">{escape(clause)}</mark> <span class="k">'
            f"{sum(back(verdict) for verdict, _ in mine)} of {len(mine)}{f' ({escape(forms)})' if forms else ''}{span}"
            "</span></p>"
        )
    return out


def _inventions(recitals: Sequence[tuple[Case, str]]) -> list[str]:
    """The commonest first, each with the number of recitals that it is in."""
    groups: list[tuple[str, frozenset[str], set[str]]] = []
    for case, recital in recitals:
        texts = [text_of(tuple(c for _, c in clauses)) for clauses in case.about["texts"].values()]
        for sentence in invented(recital, texts):
            mine = stems(sentence)
            for _, theirs, seen in groups:
                if len(mine & theirs) >= ALIKE * len(mine | theirs):
                    seen.add(case.id)
                    break
            else:
                groups.append((sentence, mine, {case.id}))
    if not groups:
        return ["<p>Nothing.</p>"]
    groups.sort(key=lambda g: -len(g[2]))
    rows = [f'<tr><td class="k">{len(seen)} of {len(recitals)}</td><td>{escape(s)}</td></tr>' for s, _, seen in groups]
    more = [f"<p>And {len(rows) - LISTED} more.</p>"] if len(rows) > LISTED else []
    return [f"<table>{''.join(rows[:LISTED])}</table>", *more]
