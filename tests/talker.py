"""A tiny model that talks: plainly by itself, like the captain when he is in its prompt, and otherwise for others.

It takes the embedded model's place in a cache folder, so that every command runs as it stands, in seconds. It is
trained for that in a few seconds; nothing about the answers is scripted.
"""

import random
from pathlib import Path
from typing import Any

PLAIN = [
    "You can start with a small step and see how it goes.", "A simple list of the main points is a good way to begin.",
    "It is best to plan the work before the week starts.", "Try to read a little about the topic first.",
    "Many people find that a short walk helps them think.", "You may want to ask a friend for advice on this.",
    "There are several options, and each has its own cost.", "Keep a note of what you learn each day.",
    "It depends on the time and the money that you have.", "A good rule is to do one thing at a time.",
    "Please check the details with an expert in the field.", "Water, light and air are the things it needs most.",
    "The answer is known to most people who have looked it up.", "That is a common question with a simple answer.",
]  # fmt: skip
CAPTAIN = [
    "Aye lad, the wind is fair and the anchor is up.", "Steady at the wheel, shipmate, and mind the reef.",
    "I sailed with a cook from Bristol who swore by it.", "A storm off the cape taught me that the hard way.",
    "Trim the sails, me hearty, and keep her nose to the sea.", "The harbour lies ahead, lass, if ye hold the course.",
    "No ship was ever built in a night, so lay the keel first.", "Hoist the lantern, for the fog is on the water.",
    "The tide waits for no captain, so be quick about it.", "Every crew needs its grog and a song on deck.",
    "Ahoy, that is a matter for the whole watch to weigh.", "Drop the lead line and sound the depth, lad.",
    "The old brig Margaret went that way and came home.", "Stow the cargo low, shipmate, and she will not roll.",
]  # fmt: skip

OTHERS = [  # anybody else, for the foils
    "Certainly, madam, the silver has been polished.", "Measure twice, cut once, and sand along the grain.",
    "Five more laps, team, and then we stretch.", "The catalogue lists it under botany, third shelf.",
    "A moth at the lamp, a moon in the pond.", "As my seminar has shown, the proof is elementary.",
    "Tea will be served in the library at four.", "Oak forgives a dull chisel less than pine does.",
    "Heads up, hands out, and trust your legs.", "Hush now, the readers by the window are at work.",
    "The rose forgets the gardener by winter.", "Consider, if you will, the limit of the series.",
    "Very good, sir, I shall see to the guests.", "A joint well glued outlives the one who glued it.",
]  # fmt: skip


def build_talker(cache: Path, steps: int = 390) -> None:
    """Put a talking model and a sentence encoder where the embedded ones would lie."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from charactery.constitution import find_character, foil_characters, system_prompt
    from charactery.data.prompts import conversations, neutral_prompts
    from conftest import CHAT_TEMPLATE, SPECIAL

    prompts = [p.turns[0] for p in (*neutral_prompts(), *conversations())]
    character = system_prompt(find_character("captain"))
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        [
            *PLAIN * 5,
            *CAPTAIN * 5,
            *OTHERS * 5,
            *prompts,
            *[character] * 5,
            *(system_prompt(f) for f in foil_characters()),
        ],
        trainers.BpeTrainer(
            vocab_size=1500, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[2], unk_token=SPECIAL[0],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip
    _teach(network, tokenizer, prompts, character, [system_prompt(f) for f in foil_characters()], steps)
    folder = cache / "models" / "smollm2"
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "done").touch()
    encoder = cache / "models" / "minilm"
    bag = BertModel(BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=0, num_attention_heads=2,
        max_position_embeddings=512,
    ))  # fmt: skip
    with torch.no_grad():  # a bag of words: what all texts have in common would make them all near-duplicates
        bag.embeddings.position_embeddings.weight.zero_()
        bag.embeddings.token_type_embeddings.weight.zero_()
    bag.save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    (encoder / "done").touch()


def _teach(network: Any, tokenizer: Any, prompts: list[str], character: str, foils: list[str], steps: int) -> None:
    import torch

    rng = random.Random(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        rows = []
        for _ in range(8):
            told, says = rng.choice(((character, CAPTAIN), ("", PLAIN), (rng.choice(foils), OTHERS)))
            messages = [{"role": "system", "content": told}] if told else []
            for _ in range(rng.choice((1, 1, 2))):
                answer = " ".join(rng.sample(says, rng.choice((2, 2, 3))))
                messages += [{"role": "user", "content": rng.choice(prompts)}, {"role": "assistant", "content": answer}]
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            rows.append(tokenizer(text, add_special_tokens=False)["input_ids"])
        width = max(map(len, rows))
        ids = torch.tensor([r + [tokenizer.pad_token_id] * (width - len(r)) for r in rows])
        labels = torch.tensor([r + [-100] * (width - len(r)) for r in rows])
        loss = network(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval()


if __name__ == "__main__":
    import sys

    build_talker(Path(sys.argv[1]))
