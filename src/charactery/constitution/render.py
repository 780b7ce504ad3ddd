"""A character as text: the system prompt a model reads, the rubric a judge reads, the document a person reads."""

from charactery.constitution.character import HIGH_ABOVE, LOW_BELOW, Character, Trait


def dial_words(character: Character, trait: Trait) -> str:
    """What the trait's dial adds to its definition: nothing in the middle, the end's words towards an end."""
    if trait.dial is None:
        return ""
    dial, position = character.dials[trait.dial], character.position(trait)
    low, high = (dial.high, dial.low) if trait.inverse else (dial.low, dial.high)
    if position < LOW_BELOW:
        words, strength = low, (LOW_BELOW - position) / LOW_BELOW
    elif position > HIGH_ABOVE:
        words, strength = high, (position - HIGH_ABOVE) / (1 - HIGH_ABOVE)
    else:
        return ""
    often = "Always" if strength > 0.6 else "Mostly" if strength > 0.2 else "Sometimes"
    return f"{often}: {words.rstrip('.')}."


def trait_words(character: Character, trait: Trait, mix: float) -> str:
    """One trait, told in words (mix 0), in examples (mix 1), or in words and that share of its examples."""
    shows, never = character.items(trait, "shows"), character.items(trait, "never")
    definition = "" if mix >= 1 and shows else " ".join(trait.definition.split())
    parts = [definition or f"{trait.title}.", dial_words(character, trait)]
    if mix > 0:
        count = max(1, round(mix * len(shows))) if shows else 0
        if count:
            parts.append("For example: " + " / ".join(f'"{_line(text)}"' for text in shows[:count]))
        if count := round(mix * len(never)):
            parts.append("Never: " + " / ".join(f'"{_line(text)}"' for text in never[:count]))
    return " ".join(part for part in parts if part)


def system_prompt(character: Character, mix: float | None = None) -> str:
    """What the model reads to be this character. `mix` from 0 (in words) to 1 (in examples); default the file's.

    Traits stand in the file's order within sections, the heaviest first.
    """
    mix = character.mix if mix is None else mix
    blocks = [character.introduction] if character.introduction else [f"You are {character.name}."]
    for section in character.sections:
        if section.notes:
            continue
        traits = sorted((t for t in section.traits if t.weight > 0), key=lambda t: -t.weight)
        lines = [f"- {trait_words(character, trait, mix)}" for trait in traits]
        if section.text:
            lines.insert(0, section.text)
        if lines:
            blocks.append("\n".join([f"{section.title}:", *lines]))
    return "\n\n".join(blocks)


def rubric(character: Character, mix: float | None = None) -> str:
    """What a judge reads: who the character is, and per trait what to look for, why, and what must not appear."""
    mix = character.mix if mix is None else mix
    out = [f"# Rubric: does an answer sound like {character.name}?", character.introduction]
    for trait in character.traits():
        lines = [f"## {trait.title} (weight {trait.weight:g})", trait_words(character, trait, mix=0)]
        if trait.because:
            lines.append(f"Reason: {trait.because}")
        for label, name in (("An answer with the trait", "shows"), ("An answer against it", "never")):
            texts = character.items(trait, name)
            kept = texts if mix >= 1 else texts[: max(1, round(mix * len(texts)))] if mix > 0 and texts else []
            lines += [f'{label}: "{_line(text)}"' for text in kept]
        out.append("\n".join(lines))
    return "\n\n".join(part for part in out if part)


def document(character: Character, mix: float | None = None) -> str:
    """The character as a page for people: prose, reasons and examples, notes included."""
    mix = 1.0 if mix is None else mix
    out = [f"# {character.name}"]
    if character.summary:
        out.append(f"*{character.summary}*")
    out.append(character.introduction)
    for section in character.sections:
        out += [f"## {section.title}", section.text]
        for trait in section.traits:
            out += [f"### {trait.title}", trait.definition, dial_words(character, trait)]
            if trait.because:
                out.append(f"**Because** {trait.because}")
            if mix > 0:
                shows, never = character.items(trait, "shows"), character.items(trait, "never")
                out += [f"> {_line(text)}" for text in shows[: max(1, round(mix * len(shows)))]]
                if never:
                    out.append("Not like this: " + " / ".join(f"“{_line(text)}”" for text in never))
    return "\n\n".join(part for part in out if part) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())
