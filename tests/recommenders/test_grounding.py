"""Grounding: free text, then the nearest title; only real items come out, and the model's own defaults do not interfere."""

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from llmrec.artifacts.run_folder import save_artifact
from llmrec.backbones.adapters import add_lora
from llmrec.backbones.pretrained import load_backbone
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.engines.torch import engine
from llmrec.errors import ConfigError
from llmrec.items.forms import text_tokens
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import load_prompt
from llmrec.recommender import Recommender
from llmrec.recommenders.diversity import MMR, SSD
from llmrec.recommenders.generative import GenerativeRecommender, recommender_of
from llmrec.recommenders.grounding import GroundedRecommender
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import Requests
from tests.apps.calling import call
from tests.recommenders.test_language_model import language_model_of
from tests.tiny import tiny_backbone

TITLES = ["Alien", "Aliens", "Big", "Clue", "Dune", "Elf", "Fargo", "Big"]
HISTORIES = [[0], [], [7, 1], [2, 3, 4], [5]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))


def text_model(family: str = "llama") -> LanguageModel:
    backbone = tiny_backbone(family)
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": title} for item, title in enumerate(TITLES)])
    tokens = text_tokens(TITLES, backbone.tokenizer, backbone.base_vocab_size, item_ids=catalog.item_ids)
    encoder = PromptEncoder(
        load_prompt("next_item/bare"), backbone.tokenizer, tokens, catalog, max_history=4, max_tokens=64
    )
    return LanguageModel(backbone, tokens, encoder, catalog, "vocabulary")


@pytest.fixture(scope="module")
def taught() -> LanguageModel:
    """A tiny model that has learned by heart which title follows which: item i + 1 after item i."""
    model = text_model()
    backbone = model.backbone
    backbone.causal_lm.requires_grad_(True)
    optimizer = torch.optim.Adam(backbone.causal_lm.parameters(), lr=3e-3)
    rows = [model.encoder.encode_with_spans([item], answer=item + 1) for item in range(6)]
    width = max(len(row.input_ids) for row in rows)
    ids, labels = torch.zeros(6, width, dtype=torch.int64), torch.full((6, width), -100)
    for place, row in enumerate(rows):
        ids[place, : len(row.input_ids)] = torch.from_numpy(row.input_ids.astype(np.int64))
        labels[place, : len(row.input_ids)] = torch.from_numpy(row.labels)
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}
    for _ in range(60):
        total, count = backbone.next_token_loss(batch, scope="vocabulary")
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    backbone.requires_grad_(False).eval()
    return model


def requests_of(*histories) -> Requests:
    return Requests(Histories.from_lists([list(history) for history in histories]))


def test_what_was_learned_is_written_and_grounded_as_the_trie_finds_it(taught):
    requests = requests_of(*([item] for item in range(6)))
    grounded = GroundedRecommender(taught)
    written = [taught.backbone.tokenizer.decode(text) for text in grounded.write(requests)]
    assert written == TITLES[1:7]
    found = grounded.rank(requests, 3, exclude_seen=True)
    trie = recommender_of(taught).rank(requests, 3, exclude_seen=True)
    assert found.items[:, 0].tolist() == trie.items[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(found.scores[:, 0], 0.0, atol=1e-3)  # the very title


def test_equal_titles_are_equally_near_and_misspelt_ones_find_theirs(monkeypatch):
    model = text_model()
    grounded = GroundedRecommender(model)
    tokenizer = model.backbone.tokenizer
    texts = ["Big", "Farbo"]
    monkeypatch.setattr(grounded, "write", lambda requests: [np.array(tokenizer.encode(text)) for text in texts])
    ranking = grounded.rank(requests_of([0], [0]), 8, exclude_seen=False)
    assert ranking.items[0, :2].tolist() == [2, 7] and ranking.scores[0, 0] == ranking.scores[0, 1]
    closed = grounded.rank(requests_of([2], [2]), 8, exclude_seen=True, candidates=np.array([2, 5, 7]))
    assert closed.items[0].tolist() == [7, 5] + [-1] * 6


def test_distances_are_those_of_the_untuned_models_last_state():
    model = text_model()
    texts = [model.item_tokens.prompt_sequences[item].astype(np.int64) for item in range(8)]
    grounded = GroundedRecommender(model)
    expected = []
    for text in texts:
        ids = torch.from_numpy(np.concatenate([[model.backbone.tokenizer.bos_token_id], text]))[None]
        with torch.no_grad():
            expected.append(model.backbone.causal_lm(ids, output_hidden_states=True).hidden_states[-1][0, -1].numpy())
    np.testing.assert_allclose(grounded.title_vectors, expected, atol=1e-4)
    grounded.write = lambda requests: [texts[3], np.zeros(0, np.int64)]  # nothing written is a text as well
    scores = grounded.scores(requests_of([0], [0]))
    np.testing.assert_allclose(-scores[0], np.linalg.norm(np.array(expected) - expected[3], axis=1), atol=1e-3)
    assert np.isfinite(scores[1]).all()


def test_lora_writes_but_does_not_move_the_titles_and_stays_as_trainable_as_it_was():
    model = text_model()
    before = GroundedRecommender(model).title_vectors
    add_lora(model.backbone, rank=2, alpha=4, dropout=0.0)
    for name, parameter in model.backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    trainable = [name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad]
    grounded = GroundedRecommender(model)
    np.testing.assert_array_equal(grounded._vectors([model.item_tokens.prompt_sequences[i] for i in range(8)]), before)
    assert trainable == [name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad] != []
    changed = [a.tolist() for a in grounded.write(requests_of(*HISTORIES))]
    assert changed != [a.tolist() for a in GroundedRecommender(text_model()).write(requests_of(*HISTORIES))]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_greedy_text_is_the_most_likely_token_again_and_again_alone_and_in_a_batch(family, monkeypatch):
    model = text_model(family)
    grounded = GroundedRecommender(model, num_beams=1)
    together = grounded.write(requests_of(*HISTORIES))
    end = model.item_tokens.end_token
    for history, text in zip(HISTORIES, together, strict=True):
        ids, expected = model.encoder.encode(history).astype(np.int64).tolist(), []
        for _ in range(model.item_tokens.max_length):
            with torch.no_grad():
                token = int(model.backbone.causal_lm(torch.tensor([ids])).logits[0, -1].argmax())
            if token == end:
                break
            expected.append(token)
            ids.append(token)
        assert text.tolist() == expected
    monkeypatch.setattr(engine, "TOKENS_A_PASS", 1)
    assert [a.tolist() for a in grounded.write(requests_of(*HISTORIES))] == [a.tolist() for a in together]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_the_models_own_generation_defaults_do_not_leak(num_beams):
    model = text_model()
    grounded = GroundedRecommender(model, num_beams=num_beams)
    before = [text.tolist() for text in grounded.write(requests_of(*HISTORIES))]
    leaky = GenerationConfig(
        do_sample=True, temperature=3.0, top_k=3, repetition_penalty=9.0, no_repeat_ngram_size=1, length_penalty=-5.0
    )
    model.backbone.causal_lm.generation_config = leaky
    assert [text.tolist() for text in grounded.write(requests_of(*HISTORIES))] == before
    assert model.backbone.causal_lm.generation_config is leaky


def test_titles_are_read_once_for_a_catalogue_and_a_model(monkeypatch):
    first = GroundedRecommender(text_model()).title_vectors
    read = []
    monkeypatch.setattr(GroundedRecommender, "_vectors", lambda self, texts: read.append(len(texts)) or first)
    np.testing.assert_array_equal(GroundedRecommender(text_model()).title_vectors, first)
    assert read == []
    GroundedRecommender(text_model("qwen2")).title_vectors  # noqa: B018  (another model)
    assert read == [8]


def test_scores_of_candidates_are_those_of_the_ranking(taught):
    grounded, requests = GroundedRecommender(taught), requests_of(*HISTORIES)
    ranking = grounded.rank(requests, 8, exclude_seen=False)
    assert (np.diff(ranking.scores, axis=1) <= 0).all() and (np.sort(ranking.items, axis=1) == np.arange(8)).all()
    np.testing.assert_allclose(grounded.score(requests, ranking.items), ranking.scores, atol=1e-6)


def test_a_saved_run_is_opened_either_way_and_from_the_command_line(tmp_path, tiny_model, capsys):
    plain = text_model()
    backbone = load_backbone(tiny_model)
    add_lora(backbone, rank=2, alpha=4, dropout=0.0)
    model = LanguageModel(backbone.eval(), plain.item_tokens, plain.encoder, plain.catalog, "vocabulary")
    save_artifact(tmp_path / "run", model, semantic_ids=None, max_title_tokens=32, protocol={"seed": 0})
    grounded = Recommender.from_pretrained(tmp_path / "run", decoding="grounding")
    assert isinstance(grounded.ranker, GroundedRecommender) and grounded.ranker.card["num_beams"] == 4
    assert isinstance(Recommender.from_pretrained(tmp_path / "run").ranker, GenerativeRecommender)
    found = grounded.recommend(["i1"], k=10)
    assert {item.item_id for item in found} == {f"i{item}" for item in range(8)} - {
        "i1"
    }  # every other item has a place
    asked = ("recommend", tmp_path / "run", "--history", "i1", "--decoding", "grounding", "--exclude", "i2", "--json")
    listed = call(capsys, *asked).json["recommendations"]
    assert [row["item_id"] for row in listed] == [item.item_id for item in found if item.item_id != "i2"]
    for method in (MMR(0.5), SSD(1.0)):  # titles have vectors as well
        assert len(grounded.recommend(["i1"], k=3, diversity=method)) == 3


def test_runs_of_other_forms_are_refused_in_words():
    with pytest.raises(ConfigError, match=r"of the form 'semantic_id'\. Leave decoding at 'trie'"):
        GroundedRecommender(language_model_of("semantic_id"))


def test_prompts_with_soft_tokens_are_refused_in_words():
    model = text_model()
    model.backbone.add_vectors("soft_prompt", SoftPrompt(2, model.backbone.dim, norm=1.0))
    with pytest.raises(ConfigError, match=r"vectors in place of some \(soft_prompt\)\. Leave decoding at 'trie'"):
        GroundedRecommender(model)
