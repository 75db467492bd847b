"""What is worth keeping: real texts of a small model and of refusing, looping and copying ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.enrich.quality import GOOD, judge, said, up_to_last_sentence
from llmrec.prompting.templates import VALUE_CLOSE, VALUE_OPEN
from llmrec.text_models.protocol import Chat, Completion

CHAT = Chat(
    (
        ("user", "Casablanca (1942), drama"),
        ("assistant", "Casablanca is a wartime romance in which a nightclub owner meets his lost love again."),
        ("user", "Toy Story (1995), animation"),
    ),
    "Toy Story is",
)  # fmt: skip


def status(text: str, finish: str = "stop", chat: Chat = CHAT) -> str:
    return judge(chat, Completion(text, finish, 10, 10))[1]


@pytest.mark.parametrize(
    "text",
    [
        " a thrilling sci-fi drama about a group of astronauts who must survive on a spaceship after their ship is destroyed.",
        " a comedy. It is so, so funny.",  # a word said twice is style
        " a documentary about Dr. No, and I'm not sorry it is short.",
        "这是一部关于两个兄弟继承老电影院的喜剧。",
        "Eine Komödie über zwei Brüder, die ein altes Kino erben.",
        " a horror film about an AI. The machine cannot help the crew, and nobody will answer.",
    ],
)
def test_ordinary_texts_are_good(text):
    assert status(text) == "ok"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("...", "empty"),
        (" a film", "empty"),
        ("I'm sorry, but I can't assist with that request.", "refusal"),
        ("I’m sorry, I cannot describe this film.", "refusal"),
        ("As an AI language model, I have no access to films.", "refusal"),
        ("I don't have any information about this film.", "refusal"),
        (" a crime drama. Its themes are justice, justice, justice, and it suits viewers.", "looping"),
        (" a film about the blurred lines, the blurred lines, the blurred lines between right and wrong.", "looping"),
        (" a film. It is good. It has songs. It is good. It has jokes. It is good.", "looping"),
        (" aaaa" * 100, "looping"),
        ("电影" * 200, "looping"),
        (" a wartime romance in which a nightclub owner meets his lost love again.", "echo"),
    ],
)
def test_each_fault_is_named(text, expected):
    assert status(text) == expected


def test_an_items_own_title_may_be_said_again_and_a_history_may_not_be_listed():
    title = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb"
    chat = Chat((("user", f"Describe {VALUE_OPEN}{title}{VALUE_CLOSE}"),))
    assert status(f"{title} is a dark satire.", chat=chat) == "ok"
    titles = ["Heat", "Toy Story", "Star Wars", "Twelve Monkeys", "Fargo"]
    chat = Chat((("user", "\n".join(f"{VALUE_OPEN}{one}{VALUE_CLOSE}" for one in titles)),))
    assert status(f"This person likes {', '.join(titles)}.", chat=chat) == "echo"


def test_a_cut_off_text_is_trimmed_to_its_last_full_sentence():
    text, kept = judge(CHAT, Completion(" a film about toys. It suits families who", "length", 10, 64))
    assert (text, kept) == ("Toy Story is a film about toys.", "trimmed")


def test_a_cut_off_text_without_a_full_sentence_is_flagged():
    text, kept = judge(CHAT, Completion(" a film by Mr. Lasseter about toys that", "length", 10, 64))
    assert (text, kept) == ("Toy Story is a film by Mr. Lasseter about toys that", "cut_off")


def test_a_text_the_model_ended_is_not_trimmed():
    assert (
        judge(CHAT, Completion(" a film about toys. For families", "stop", 10, 9))[0]
        == "Toy Story is a film about toys. For families"
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It cost 3.5 million. Then", "It cost 3.5 million."),
        ('He said "go." And then', 'He said "go."'),
        ("一部电影。另一", "一部电影。"),
        ("By J. R. R. Tolkien and", ""),
        ("What?! Then", "What?!"),
    ],
)
def test_sentences_end_where_a_reader_would_say(text, kept):
    assert up_to_last_sentence(text) == kept


def test_texts_of_different_items_are_compared_without_their_titles():
    other = Chat(CHAT.turns, "Heat is")
    assert said("Toy Story is a fine film.", CHAT) == said("Heat is a fine film!", other) == "a fine film"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.sampled_from(["stop", "length"]))
def test_any_text_gets_a_status_and_a_good_one_is_not_empty(text, finish):
    kept, found = judge(CHAT, Completion(text, finish, 1, 1))
    assert found not in GOOD or len(kept) > len(CHAT.answer_start)
    assert kept == " ".join(kept.split()) or found == "empty"


@pytest.mark.parametrize(
    "thoughts", ["<think>\nOkay, one film.\n</think>\n\n", "<think>\n\n</think>\n\n", "Okay.\n</think>\n\n"]
)
def test_the_thoughts_of_a_reasoning_model_are_not_kept(thoughts):
    chat = Chat(CHAT.turns)
    found = judge(chat, Completion(f"{thoughts}A slow, tender film about two brothers.", "stop", 10, 10))
    assert found == ("A slow, tender film about two brothers.", "ok")


@pytest.mark.parametrize("text", ["<think>\nOkay. I should recall the plot first. It may", "", " \n"])
def test_thoughts_alone_are_cut_off_and_never_a_text(text):
    assert judge(CHAT, Completion(text, "length", 10, 64)) == ("", "cut_off")
