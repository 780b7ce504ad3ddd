"""Messages become the same tokens everywhere, with a frame of Charactery's own for models that have no template."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from trl.data_utils import apply_chat_template

from charactery.errors import CharacteryError
from charactery.models.chat import (
    BASE_TEMPLATE,
    assistant,
    base_template,
    plain_system,
    prompt_text,
    prompt_tokens,
    system,
    user,
)
from charactery.models.local import LocalModel, Request, Sampler
from charactery.train.documents import as_read
from conftest import build_model, build_tokenizer

GEMMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
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


def test_a_base_model_reads_the_token_that_its_tokenizer_begins_with(base_model: LocalModel) -> None:
    tokenizer = base_model.tokenizer
    assert base_template(tokenizer) == BASE_TEMPLATE
    before, frame = prompt_text(tokenizer, TALK), plain_system(tokenizer)
    first = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first[0]} $A", special_tokens=[first])
    tokenizer.chat_template = base_template(tokenizer)
    ids = prompt_tokens(tokenizer, TALK)
    assert ids == tokenizer(before)["input_ids"] and ids.count(first[1]) == 1
    assert plain_system(tokenizer) == frame
    row = {"prompt": TALK, "completion": [assistant("Aye.")]}
    assert (
        as_read([row, {"prompt": [], "completion": [assistant("A text.")]}], tokenizer)[0]["input_ids"][: len(ids)]
        == ids
    )
    assert apply_chat_template(row, tokenizer)["prompt"] == prompt_text(tokenizer, TALK)


def test_a_system_message_that_a_template_refuses_heads_the_first_user_turn(tiny_model: LocalModel) -> None:
    tokenizer = tiny_model.tokenizer
    tokenizer.chat_template = GEMMA_2
    assert prompt_text(tokenizer, TALK) == (
        "<user>Be brief.\n\nHi</user><assistant>Aye.</assistant><user>Tea?</user><assistant>"
    )
    assert prompt_text(tokenizer, TALK[1:]).startswith("<user>Hi</user>")
    for refused in ([system("Be brief.")], [user("a"), user("b")], [system("Be brief."), assistant("a"), user("b")]):
        with pytest.raises(CharacteryError, match=r"System role not supported|Roles must alternate"):
            prompt_text(tokenizer, refused)


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
