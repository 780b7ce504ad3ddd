"""Messages become the same tokens everywhere, with a frame of Charactery's own for models that have no template."""

from pathlib import Path
from typing import Any

import pytest
import torch

from charactery.models.chat import assistant, plain_system, prompt_text, prompt_tokens, system, user
from charactery.models.local import LocalModel, Request, Sampler
from conftest import build_model, build_tokenizer

TALK = [system("Be brief."), user("Hi"), assistant("Aye."), user("Tea?")]


@pytest.fixture
def base_model(tmp_path: Path) -> LocalModel:
    """A base model: no chat template."""
    build_model(tmp_path, build_tokenizer(tmp_path, chat_template=None))
    return LocalModel.load(tmp_path, "base", "cpu", torch.float32)


def test_a_base_model_reads_a_dialogue(base_model: LocalModel) -> None:
    assert prompt_text(base_model.tokenizer, TALK) == (
        "Be brief.\n\nUser: Hi\n\nAssistant: Aye.<|im_end|>\n\nUser: Tea?\n\nAssistant:"
    )
    assert plain_system(base_model.tokenizer) == "User: "
    [answer] = base_model.generate([Request((user("Hi"),), 0)], Sampler(max_tokens=5))
    assert 1 <= answer.tokens <= 5


def test_a_beginning_of_the_answer_follows_the_frame(base_model: LocalModel, tiny_model: LocalModel) -> None:
    assert prompt_text(base_model.tokenizer, TALK, "Aye").endswith("\n\nAssistant: Aye")
    assert prompt_text(tiny_model.tokenizer, TALK, "Aye").endswith("<|im_start|>assistant\nAye")
    tokens = prompt_tokens(tiny_model.tokenizer, TALK, "Aye")
    assert tiny_model.tokenizer.decode(tokens).endswith("assistant\nAye")


def test_a_base_model_learns_to_end_its_turn(base_model: LocalModel) -> None:
    """What is trained is what follows the prompt; it must be a prefix match and hold the end token."""
    tokenizer = base_model.tokenizer
    prompt = prompt_text(tokenizer, TALK)
    whole = tokenizer.apply_chat_template([*TALK, assistant("Aye.")], tokenize=False)
    assert whole.startswith(prompt)
    assert tokenizer.eos_token in whole[len(prompt) :]


def test_the_template_speaks_first_where_it_does(tiny_model: LocalModel) -> None:
    assert plain_system(tiny_model.tokenizer) == (
        "<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n<|im_start|>user\n"
    )
    assert "helpful" not in prompt_text(tiny_model.tokenizer, TALK)


def test_tokens_are_the_templates_own(tiny_model: LocalModel) -> None:
    tokenizer: Any = tiny_model.tokenizer
    ids = prompt_tokens(tokenizer, TALK)
    assert tokenizer.decode(ids) == prompt_text(tokenizer, TALK)
    assert ids == tokenizer.apply_chat_template(TALK, add_generation_prompt=True)["input_ids"]
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") and ids[1] != ids[0]
