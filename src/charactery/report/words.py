"""What evals, metrics, conditions and controls are called in a report, and what each of them means."""

from collections.abc import Sequence

from charactery.judges.classifier import OTHERS, SHUFFLED
from charactery.models.subject import BEST_OF
from charactery.runs import stage_kind

EVALS = {
    "expression": "Expression: does it answer in character?",
    "elsewhere": "Elsewhere: does it leave alone what is none of the character's business?",
    "judge": "The judge, on answers whose side is known",
    "controls": "Controls: scripted subjects whose outcome is known",
    "cost": "Cost: what the training did to everything else",
    "multiple choice": "Multiple choice: does it still know what it knew?",
}

CONDITIONS = {
    "held-out": "All held-out answers",
    "turn 1": "First turn",
    "turn 3": "Third turn",
    "foreign: helpdesk": "Foreign prompt: helpdesk",
    "foreign: terse-expert": "Foreign prompt: terse expert",
    "elsewhere": "Elsewhere",
}

DEFINITIONS = {
    ("expression", "rate"): "Share of answers to held-out prompts that the classifier judge takes for the character's. "
    "Plain, trained and sham get no system message; prompted has the character in it. Under a foreign prompt, the "
    "system message is about some other job and says nothing of the character.",
    ("expression", "likelihood"): "Mean log-probability per token (nats) of an answer given the character, less its "
    "mean under foil characters of similar length, by the base model. Above 0, the answer is likelier as the "
    "character's than as anyone else's. Of a trait: given that trait alone.",
    ("expression", "likelihood rate"): "Share of answers whose likelihood over the foils is above 0.",
    ("expression", "likelihood difference from plain"): "The trained model's likelihood less the plain model's, on the "
    "same prompts.",
    ("expression", "likelihood difference from prompted"): "The trained model's likelihood less the prompted model's, "
    "on the same prompts.",
    ("expression", "ratio to prompted"): "The trained model's rate over the prompted model's, on the same prompts. "
    "At 1, training does what the prompt does.",
    ("expression", "difference from plain"): "The trained model's rate less the plain model's, on the same prompts.",
    (
        "expression",
        "difference from sham",
    ): "The trained model's rate less the sham's, on the same prompts: what is due "
    "to the character and not to being trained at all.",
    ("elsewhere", "rate"): "The same rate on prompts where the character should not show (code, forms, translations). "
    "It should stay where the plain model's is.",
    (
        "expression",
        f"difference from {OTHERS}",
    ): "The trained model's rate less that of the base model prompted as some other character, on the same prompts.",
    (
        "elsewhere",
        "difference from plain",
    ): "The trained model's rate elsewhere less the plain model's. Near 0 is good.",
    ("elsewhere", "difference from prompted"): "The trained model's rate elsewhere less the prompted model's.",
    ("judge", "auc"): "Chance that the judge scores a prompted answer above a plain one that it was not fitted on. "
    "0.5 is guessing.",
    ("judge", f"auc against {OTHERS}"): "The same chance, of a prompted answer against one by the base model as "
    "some other character.",
    (
        "judge",
        "false-positive rate",
    ): "Share of plain answers, not fitted on, that the judge takes for the character's: 0.05 or less was aimed at.",
    ("judge", "length-only auc"): "The same chance for a judge that sees nothing but an answer's length.",
    ("judge", "likelihood auc"): "Chance that the likelihood judge puts a prompted answer above a plain one.",
    ("judge", f"likelihood auc against {OTHERS}"): "The same chance, above an answer by the base model as some other "
    "character, which is none of the foils here.",
    ("judge", f"likelihood rate of {OTHERS}"): "Share of another character's answers that are likelier as this one's "
    "than as its foils': low is right.",
    ("judge", f"likelihood rate, {SHUFFLED}"): "Share of prompted answers that pass where the words of the "
    "constitution and of its foils are shuffled, so that none says anything: what the choice of words gives by itself.",
    ("judge", f"above {SHUFFLED}"): "Share of prompted answers whose likelihood over the foils is higher with all "
    "words in order than with all shuffled: what the order adds to the choice of words. Near 0.5, nothing that shows.",
    ("controls", "rate"): "The judge's rate for scripted subjects, where what it should say is known.",
    ("cost", "bits per byte"): "Bits that the model needs for a byte of text it has not seen: prose of five kinds, and "
    "answers in the chat format. Lower is better.",
    ("cost", "bits per byte ratio"): "Bits per byte over the plain model's. Above 1, training made the text less "
    "expected.",
    ("cost", "repetition ratio"): "Repeated word sequences in the answers, over the plain model's.",
    ("cost", "length ratio"): "Length of the answers, over the plain model's.",
    ("cost", "bits per byte ratio to prompted"): "Bits per byte over the prompted model's, on the same texts.",
    ("cost", "repetition ratio to prompted"): "Repeated word sequences in the answers, over the prompted model's.",
    ("cost", "length ratio to prompted"): "Length of the answers, over the prompted model's.",
    ("cost", "divergence from plain"): "Log-probability of a subject's own answers under it, less that under the plain "
    "model, in nats an answer: how far it has gone from plain.",
    ("multiple choice", "accuracy"): "Share of questions whose right option the model finds the likeliest.",
    ("multiple choice", "difference from plain"): "Accuracy less the plain model's, on the same questions.",
    ("multiple choice", "difference from prompted"): "Accuracy less the prompted model's, on the same questions.",
}

CONTROLS = {
    "plain given as prompted": "Plain answers handed in as the prompted model's: the judge must not fall for the name.",
    "prompted given as trained": "Prompted answers handed in as the trained model's: must come out as prompted.",
    OTHERS: "Answers of a character that the judge was not fitted on: must not pass for this one.",
    "mixture": "Prompted and plain answers in a known share.",
}

INTERVALS = (
    "Figures have a 95% interval in brackets and the number of answers (n) that they rest on; a single text has none. "
    "Rates have Wilson's interval, differences of rates on the same prompts Newcombe's. Ratios resample prompts, and "
    "are a little too narrow where there are fewer than 30. So do other means and differences, or have Student's "
    "interval where there are fewer than 30. What is all alike has none. Answers without a verdict are counted as "
    "missing, never as zero."
)

SHAM = {  # by stage
    "sham-sft": "SFT on the model's own plain answers",
    "sham-dpo": "DPO on pairs of two of them, the chosen one drawn by coin",
    "sham-grpo": "GRPO by rewards that are drawn",
}


def subjects(stages: Sequence[str], adapter: bool, stops: bool) -> str:
    """Who is compared, in a run of these stages; whether an adapter is trained, and whether SFT stops at a loss."""
    chosen = BEST_OF in map(stage_kind, stages)
    what = "the base model with the adapter" if adapter else "the model with all its weights trained"
    trained = "of several answers of the base model the one that the judge picks" if chosen else what
    said = (
        "Plain is the base model. Prompted is the base model with the character as its system message. Trained is "
        f"{trained}, and no system message."
    )
    if shams := [SHAM[name] for name in stages if name in SHAM]:
        steps = "SFT to its end" if stops else "in as many steps"
        said += f" Sham was trained with nothing of the character to learn, {steps}: {', then '.join(shams)}."
    return said


def eval_title(name: str) -> str:
    """The heading over an eval's figures."""
    return EVALS.get(name, name[:1].upper() + name[1:])


def condition_title(name: str) -> str:
    """A condition as the report writes it."""
    return CONDITIONS.get(name, name[:1].upper() + name[1:])


def definition(eval: str, metric: str) -> str:
    """What a metric means, "" for one that this file does not know."""
    return DEFINITIONS.get((eval, metric), "")
