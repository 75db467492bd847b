"""What a reasoning model says is told from what it thought, however its kind marks that."""

import copy

import pytest
import torch

from llmrec.text_models.generation import generate_texts
from llmrec.text_models.protocol import Chat
from llmrec.text_models.reasoning import SpokenPieces, opened_by, spoken
from llmrec.text_models.transformers import TransformersModel
from tests.tiny import tiny_backbone

THOUGHTS = [
    "<think>\nOkay, the user wants one film.\n</think>\n\nA slow film.",
    "<think>\n\n</think>\n\nA slow film.",
    "<thinking>It is [slow] & 1 < 2.</thinking>A slow film.",
    "<reasoning>\nSlow.\n</reasoning>\nA slow film.",
    "<seed:think>Slow.<seed:cot_budget_reflect>0</seed:cot_budget_reflect></seed:think>A slow film.",
    "[THINK]Slow.[/THINK]A slow film.",
    "<|channel>thought\nSlow.<channel|>A slow film.",
    "<|channel|>analysis<|message|>Slow.<|end|><|start|>assistant<|channel|>final<|message|>A slow film.<|return|>",
    "analysisWe need one film.assistantfinalA slow film.",
    "Here is my thought process: slow. Here is my response: A slow film.",
    "<think>One.</think><think>Two.</think> A slow film.",
]


@pytest.mark.parametrize("answer", THOUGHTS)
def test_thoughts_are_no_part_of_what_is_said(answer):
    found = spoken(answer)
    assert found.text == "A slow film." and not found.is_thinking


@pytest.mark.parametrize("end", ["</think>", "</reasoning>", "[/THINK]"])
def test_thoughts_that_began_in_the_prompt_are_known_by_their_end(end):
    found = spoken(f"The user wants one film. I will write it.\n{end}\n\nA slow film.")
    assert found.text == "A slow film." and found.opened_before


@pytest.mark.parametrize(
    "answer",
    ["<think>\nOkay, it may", "[THINK]it may", "<|channel|>analysis<|message|>it may", "<|channel>thought\nit may"],
)
def test_an_answer_that_ends_within_its_thoughts_says_nothing(answer):
    assert spoken(answer).text.strip() == "" and spoken(answer).is_thinking


@pytest.mark.parametrize(
    "text", ["", " a film about <thin> ice [1] and \n thought", "Analysis of a film.", "I think> so"]
)
def test_a_text_without_thoughts_stays_as_it_is(text):
    assert spoken(text).text == text


@pytest.mark.parametrize(("prompt", "mark"), [("<|im_start|>assistant\n<think>\n", "<think>\n"), ("assistant\n", "")])
def test_a_prompt_may_open_the_thoughts(prompt, mark):
    assert opened_by(prompt) == mark


@pytest.mark.parametrize("answer", [*THOUGHTS[:8], "A slow film."])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_in_pieces_the_same_is_shown(answer, size):
    shown: list[str] = []
    pieces = SpokenPieces(shown.append)
    for start in range(0, len(answer), size):
        pieces.add(answer[start : start + size])
    pieces.add("", is_last=True)
    assert "".join(shown).strip() == "A slow film."


class Script:
    """A hook that puts the next token of a text in front of all others, and at last the end token."""

    def __init__(self, tokenizer, text: str) -> None:
        self.left = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]

    def __call__(self, module, arguments, keywords, output):
        output.logits[:, -1, self.left.pop(0)] = 1e4
        return output


@pytest.fixture
def thinking():
    """(text) -> a model whose chat template knows no switch, and which writes that text."""

    def made(text: str, template: str = "{{ messages[0]['content'] }}\nassistant: ") -> TransformersModel:
        backbone = tiny_backbone("llama")
        tokenizer = copy.deepcopy(backbone.tokenizer)
        tokenizer.chat_template = template
        backbone.causal_lm.register_forward_hook(Script(tokenizer, text), with_kwargs=True)
        stops = (tokenizer.eos_token_id,)
        return TransformersModel(backbone.causal_lm, tokenizer, backbone.source, backbone.layers, torch.float32, stops)

    return made


ASKED = [Chat((("user", "Which film?"),))]


def test_what_a_model_writes_comes_without_its_thoughts_shown_or_returned(thinking):
    shown: list[str] = []
    model = thinking("<think>\nHm, one film.\n</think>\n\nA slow film.")
    (found,) = generate_texts(model, ASKED, max_new_tokens=80, on_text=shown.append)
    assert found.text == "A slow film." and "".join(shown).strip() == "A slow film." and found.finished


def test_thoughts_that_the_template_opens_are_left_out_too(thinking):
    model = thinking("Hm.\n</think>\n\nA slow film.", "{{ messages[0]['content'] }}\nassistant: <think>\n")
    shown: list[str] = []
    (found,) = generate_texts(model, ASKED, max_new_tokens=80, on_text=shown.append)
    assert found.text == "A slow film." and "".join(shown).strip() == "A slow film."


def test_models_that_can_be_told_not_to_think_are(thinking):
    switch = "{{ messages[0]['content'] }}{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}"
    model = thinking("A slow film.", switch)
    assert model.prompts.tokenizer.decode(model.prompts.prompt_ids(ASKED[0])).endswith("<think>\n\n</think>")
