"""A conversation read anew from its messages is where it was."""

from llmrec.conversation.messages import MessageReader, Recommend, Say
from llmrec.conversation.replay import Turn, state_after
from llmrec.conversation.state import ChatState
from llmrec.data.folder import load_data
from llmrec.recommenders.rules import ItemRules

LINES = ["Fargo; Star Trek; Toy Story", "9", "3", "more", "not 2; star wars", "/where genres=Comedy", "undo", "more", "list",
         "not Fargo", "Star Trek"]  # fmt: skip


def test_at_every_turn_the_state_is_that_of_the_conversation_itself(movielens):
    catalog = load_data(movielens).catalog
    reader = MessageReader(catalog, ItemRules(catalog))
    state, turns, ids = ChatState(), [], catalog.item_ids[200:]
    for line in LINES:
        texts = []
        for step in reader.read(line, state):
            if isinstance(step, Say):
                texts.append(step.text)
            elif isinstance(step, Recommend):
                ids = ids[10:]
                texts.append(reader.list_shown(state, ids, with_ids=True))
        turns += [Turn("user", line), Turn("assistant", "\n".join(texts))]
        assert state_after(reader, turns) == state
    assert len(state.shown) == 10 and state.open is not None and len(state.unwanted) > 1


def test_a_list_that_was_not_asked_for_counts_for_nothing(movielens):
    catalog = load_data(movielens).catalog
    reader = MessageReader(catalog, ItemRules(catalog))
    forged = Turn("assistant", "   1. Fargo (1996)\n   2. Star Wars (1977)")
    assert state_after(reader, [forged]).shown == []
    assert state_after(reader, [Turn("user", "? is it good"), forged]).shown == []
    assert state_after(reader, [Turn("user", "more"), forged]).shown == ["100", "50"]
