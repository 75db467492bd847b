"""`llmrec explain`: what is measured, who writes, and what cannot be explained."""

import pytest

from llmrec.explain.evidence import measure
from llmrec.explain.words import explain
from llmrec.recommender import Recommender
from llmrec.text_models.open_model import open_text_model
from llmrec.text_models.settings import TextModelSettings
from tests.apps.calling import assert_one_sentence, call, call_alone
from tests.enrich.serving import ChatServer, Reply
from tests.recipes.running import run_here, settings

ASKED = ("--history", "50", "--history", "181", "--item", "172")


@pytest.fixture(scope="module")
def shallow_run(few_users, tmp_path_factory):
    """A run on one layer of the real model, trained for one step: it cannot write, and hardly recommends."""
    run = tmp_path_factory.mktemp("shallow_run") / "run"
    more = ("backbone.num_layers=1", "training.max_steps=1", "training.evaluate_every=1", "validation.max_users=5")
    run_here(settings(few_users, "SmolLM2-135M-Instruct", run, *more))
    return run


def item_that_suits(recommender: Recommender) -> str:
    """An item that the measurement speaks for: no language model is asked about others."""
    best = [item.item_id for item in recommender.recommend(["50", "181"], 50)]
    return next(item for item in best if measure(recommender, ["50", "181"], item).suits)


@pytest.mark.slow
def test_a_run_of_one_layer_explains_with_all_thirty(shallow_run, capsys):
    recommender = Recommender.from_pretrained(shallow_run)
    item = item_that_suits(recommender)  # trained for one step, it knows no better than which items come first
    found = call(capsys, "explain", shallow_run, *ASKED[:4], "--item", item, "--json").json
    assert recommender.ranker.card["layers"] == "1 of 30 layers"
    assert found["language_model"]["layers"] == "30 of 30 layers" and found["language_model"]["source"] == "wheel"
    whole = open_text_model(TextModelSettings(model="SmolLM2-135M-Instruct"))  # that never saw the run
    alone = explain(recommender.catalog, ["50", "181"], measure(recommender, ["50", "181"], item), whole)
    assert found["text"] == alone.text and found["written_by"] == alone.written_by == "language model"
    assert found["evidence"]["score"] == pytest.approx(recommender.score(["50", "181"], [item])[0], abs=1e-4)


@pytest.mark.slow
def test_nothing_but_the_object_is_on_standard_output(tiny_run):
    found = call_alone("explain", tiny_run, *ASKED, "--json").json
    assert set(found) == {
        "run",
        "history",
        "item",
        "text",
        "written_by",
        "refused",
        "evidence",
        "language_model",
        "note",
    }


def test_people_read_who_wrote_and_a_table_of_what_was_measured(tiny_run, capsys):
    recommender = Recommender.from_pretrained(tiny_run)
    evidence = measure(recommender, ["50", "181"], "172")
    lines = call(capsys, "explain", tiny_run, *ASKED).out.splitlines()
    at = lines.index("Measured by the recommender:")
    assert lines[at + 1].strip() == f"The Empire Strikes Back: {evidence.place}, score {evidence.score:.3f}"
    assert [line.split(" without ")[1] for line in lines[at + 2 : at + 4]] == [i.title for i in evidence.influences]
    assert f"s by {abs(evidence.influences[0].drop):.3f} without" in lines[at + 2]
    shared = [line for line in lines[at + 4 :] if line.strip().startswith("genres")]
    catalog = recommender.catalog
    share = sum("War" in (genres or []) for genres in catalog.table["genres"].to_pylist()) / catalog.num_items
    assert f"  genres War: also Star Wars; Return of the Jedi; {share:.0%} of the catalogue" in shared


def test_a_long_history_is_cut_in_the_table_and_said_so(tiny_run, capsys):
    history = [word for item in range(1, 31) for word in ("--history", str(item))]
    out = call(capsys, "explain", tiny_run, *history, "--item", "172").out
    assert out.count(" without ") - out.count("falls most without") == 8 and "  and 22 more of the history" in out
    assert "and more; " in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--history", "50", "--item", "50"], "'50' is in the history itself"),
        (["--history", "50", "--item", "nothing"], "no item id 'nothing'"),
        (["--history", "50000", "--item", "50"], "no item id '50000'"),
        ([*ASKED, "--model", "/no/such/folder"], "expected a model folder"),
        ([*ASKED, "--provider", "openai"], "name the model, too: --model NAME"),
        ([*ASKED, "--base-url", "http://localhost:1/v1"], "name the model, too: --model NAME"),
        ([*ASKED, "--model", "m", "--provider", "openai"], "is named by its URL"),
        ([*ASKED, "--model", "m", "--base-url", "http://localhost:1/v1"], "the provider is not openai"),
        ([*ASKED, "--model", "m", "--provider", "opnai"], "provider"),
        ([*ASKED, "--language-model", "m"], "--language-model is called --model now"),
        ([*ASKED, "--instruction", "funny"], "has no {{ instruction }}"),
        ([*ASKED, "--device", "abacus"], "the device 'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(tiny_run, capsys, arguments, sentence):
    assert_one_sentence(call(capsys, "explain", tiny_run, *arguments), sentence)


@pytest.fixture(scope="module")
def suiting(tiny_run) -> tuple[str, ...]:
    """What asks for an item that suits, up to the address of the server that explains it."""
    item = item_that_suits(Recommender.from_pretrained(tiny_run))
    return ("explain", str(tiny_run), "--history", "50", "--history", "181", "--item", item, "--provider", "openai",
            "--model", "shop/big-model", "--base-url")  # fmt: skip


def test_a_server_explains_and_is_named(suiting, capsys):
    with ChatServer(lambda body, n: "<think>Hm.</think>They are about wars in space. It is good. More.") as server:
        found = call(capsys, *suiting, server.url, "--json").json
        lines = call(capsys, *suiting, server.url).out.splitlines()
    assert found["text"] == "They are about wars in space. It is good." and found["written_by"] == "language model"
    assert found["language_model"] == {
        "provider": "openai", "name": "shop/big-model", "server": server.url, "chat_template": True,
    }  # fmt: skip
    assert lines[0] == f"big-model (at {server.url}) writes: {found['text']}"
    (message,) = server.bodies[0]["messages"]  # the start of the answer is not sent: a server would not go on from it
    assert message["role"] == "user" and "- Star Wars (" in message["content"]
    assert server.bodies[0]["model"] == "shop/big-model"


def test_a_servers_draft_that_names_another_title_is_drawn_anew_and_then_replaced(suiting, capsys):
    with ChatServer(lambda body, n: 'It is like "The Blue Goat", only longer.') as server:
        found = call(capsys, *suiting, server.url, "--json").json
    assert found["written_by"] == "evidence" and found["refused"] == ["The Blue Goat"]
    assert [body["temperature"] for body in server.bodies] == [0.0, 0.7]


def test_a_server_that_refuses_to_explain_is_one_sentence(suiting, capsys):
    with ChatServer(lambda body, n: Reply(401, b"no key")) as server:
        assert_one_sentence(call(capsys, *suiting, server.url), "refuses: status 401")


def test_a_history_has_to_be_given(tiny_run, capsys):
    called = call(capsys, "explain", tiny_run, "--item", "50")
    assert called.status == 2 and "--history" in called.err
