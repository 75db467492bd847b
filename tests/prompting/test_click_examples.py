"""Click prompts: what they may say, the candidate in them, their two answer words, rows with one target."""

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import PADDING, ClickExamples
from llmrec.errors import ConfigError
from llmrec.items.forms import NO_TARGET, joined, soft_sequences, text_tokens
from llmrec.prompting.answer_words import answer_words
from llmrec.prompting.click_examples import ClickPromptExamples
from llmrec.prompting.collators import Collator
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.packing import PackingCollator
from llmrec.prompting.templates import Prompt, load_prompt, read_prompt
from tests.tiny import VOCAB, tiny_tokenizer

TITLES = ["Alien", "Brazil", "Casablanca", "Dune"]
CATALOG = Catalog.from_rows([{"item_id": f"m{item}", "title": title} for item, title in enumerate(TITLES)])


def click_prompt(template, answers=("Yes", "No"), variables=("history", "candidate"), fields=(), task="click"):
    return Prompt(
        name="test", task=task, kind="plain", template=template, answers=answers, variables=variables, fields=fields
    )


SHORT = click_prompt("{% for item in history %}{{ item }},{% endfor %}{{ candidate }}?")


def encoder_of(prompt=SHORT, soft=False, max_history=3, max_tokens=80):
    titles = text_tokens(TITLES, tiny_tokenizer(), VOCAB, item_ids=CATALOG.item_ids)
    prompt_sequences = joined([titles.prompt_sequences, soft_sequences(4, 1, VOCAB)]) if soft else None
    return PromptEncoder(
        prompt,
        tiny_tokenizer(),
        titles,
        CATALOG,
        max_history=max_history,
        max_tokens=max_tokens,
        prompt_sequences=prompt_sequences,
    )


def click_examples(histories, items, labels, users):
    width = max(len(history) for history in histories)
    padded = np.array([[PADDING] * (width - len(history)) + history for history in histories], dtype=np.int32)
    zeros = np.zeros(len(items), np.int32)
    return ClickExamples(
        np.array(users, np.int32), np.array(items, np.int32), np.array(labels), padded, zeros, zeros.copy(), None
    )


def test_the_candidate_stands_where_the_prompt_says_and_is_written_as_items_are():
    encoder = encoder_of()
    assert tiny_tokenizer().decode(encoder.encode([2, 0], candidate=3)) == "Casablanca,Alien,Dune?"
    soft = encoder_of(soft=True).encode([0], candidate=3)
    assert soft.tolist()[5] == VOCAB and soft.tolist()[-2] == VOCAB + 3
    np.testing.assert_array_equal(soft[soft < VOCAB], encoder.encode([0], candidate=3))


def test_a_candidate_may_be_read_by_its_fields_and_inside_the_loop():
    prompt = click_prompt(
        "{% for item in history %}{{ item.title }}<{{ candidate.title }};{% endfor %}", fields=("title",)
    )
    assert tiny_tokenizer().decode(encoder_of(prompt).encode([1], candidate=0)) == "Brazil<Alien;"


def test_of_a_long_history_the_oldest_go_and_the_candidate_stays():
    encoder = encoder_of(max_tokens=25)
    text = tiny_tokenizer().decode(encoder.encode([2, 1, 0], candidate=3))
    assert text == "Brazil,Alien,Dune?" and len(text) <= 24


def test_a_click_prompt_needs_a_candidate_and_others_have_no_room_for_one():
    with pytest.raises(ConfigError, match=r"uses \{\{ candidate \}\}, but none was given"):
        encoder_of().encode([1])
    with pytest.raises(ConfigError, match="the candidate that was given would be lost"):
        encoder_of(load_prompt("next_item/instruction"), max_tokens=300).encode([1], candidate=0)


@pytest.mark.parametrize(
    ("task", "answers", "text", "said"),
    [
        ("next_item", ("Yes", "No"), "", "names two `answers`; no other does"),
        ("click", None, "{{ candidate }}", "names two `answers`"),
        ("click", ("Yes", "No"), "", r"asks about \{\{ candidate.title \}\}"),
        ("next_item", None, "{{ candidate }}", r"uses \{\{ candidate \}\}; prompts know history, instruction"),
    ],
)
def test_answers_and_candidates_belong_to_click_prompts(task, answers, text, said):
    variables = ("history", "candidate") if text else ("history",)
    with pytest.raises(ValueError, match=said):
        click_prompt(
            "{% for item in history %}{{ item }}{% endfor %}" + text, answers=answers, variables=variables, task=task
        )


def test_a_loop_may_not_call_its_item_candidate():
    with pytest.raises(ValueError, match="a loop has to read"):
        click_prompt("{% for candidate in history %}{{ candidate }}{% endfor %}")


def test_the_answers_are_part_of_the_hash():
    assert SHORT.hash != click_prompt(SHORT.template, answers=("Si", "No")).hash
    assert read_prompt(SHORT.to_yaml(), "again").hash == SHORT.hash


def test_what_both_answers_begin_with_ends_the_prompt():
    words = answer_words(
        click_prompt("{{ candidate }}{% for item in history %}{% endfor %}", (" Yes", " No")), tiny_tokenizer()
    )
    spell = tiny_tokenizer().decode
    assert (spell(list(words.cue)), spell([words.liked]), spell([words.disliked])) == (" ", "Y", "N")
    encoder = encoder_of(click_prompt("{{ candidate }}:{% for item in history %}{% endfor %}", (" Yes", " No")))
    assert spell(encoder.encode([], candidate=0)) == "Alien: "


def test_answers_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ConfigError, match="one is the beginning of the other"):
        answer_words(click_prompt(SHORT.template, ("Yes", "Yes!")), tiny_tokenizer())
    with pytest.raises(ConfigError, match="choose a prompt of the task click"):
        answer_words(load_prompt("next_item/instruction"), tiny_tokenizer())


def test_a_row_is_a_prompt_and_one_answer_word_users_ascending():
    rows = ClickPromptExamples(
        encoder_of(), click_examples([[2], [1, 0], []], [3, 3, 1], [True, False, True], [5, 2, 5])
    )
    assert rows.users.tolist() == [2, 5, 5] and rows.lengths == [3, 2, 1]
    shown = [tiny_tokenizer().decode(rows[row]["input_ids"]) for row in range(3)]
    assert shown == ["Brazil,Alien,Dune?N", "Casablanca,Dune?Y", "Brazil?Y"]
    for row in range(3):
        labels = rows[row]["labels"]
        assert (labels[:-1] == NO_TARGET).all() and labels[-1] == rows[row]["input_ids"][-1]


def test_packed_and_padded_batches_have_the_same_targets():
    rows = ClickPromptExamples(encoder_of(), click_examples([[2], [1, 0]], [3, 3], [True, False], [0, 1]))
    padded, packed = (collate([rows[0], rows[1]]) for collate in (Collator(0), PackingCollator()))
    assert padded["labels"][padded["labels"] >= 0].tolist() == packed["labels"].tolist()
