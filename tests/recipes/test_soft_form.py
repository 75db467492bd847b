"""recipes/next_item.py with items as soft tokens: trained, saved, loaded, decoded; real texts through the real encoder."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from llmrec.artifacts.run_folder import load_artifact
from llmrec.data.folder import load_data
from llmrec.data.interactions import Histories
from llmrec.errors import ConfigError
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.requests import Requests
from llmrec.training.checkpoints import read_log
from tests.recipes.running import run_here, settings

pytestmark = pytest.mark.slow
SOFT = (
    "items.form=soft",
    "soft.adapter.hidden_dim=32",
    "soft.features=[text,collaborative]",
    "soft.collaborative_dim=16",
)


@pytest.fixture(scope="module")
def soft_run(few_users, tiny_model, tmp_path_factory):
    """Soft tokens in the prompt, inner product as the answer, every history item a target."""
    run = tmp_path_factory.mktemp("soft") / "run"
    run_here(settings(few_users, tiny_model, run, *SOFT, "soft.adapter.num_query_tokens=2", "training.max_steps=24"))
    return run


def requests_of(data, number=6):
    """The beginnings of some users' histories."""
    rows = [data.interactions.items[data.interactions.indptr[user] :][: 3 + user] for user in range(number)]
    return Requests(Histories.from_lists([row.tolist() for row in rows]))


def test_the_loss_falls_and_the_adapter_is_what_was_trained(soft_run):
    losses = [record["loss"] for record in read_log(soft_run / "training_log.jsonl") if "loss" in record]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    saved = load_file(soft_run / "model" / "vector_tokens" / "soft.safetensors")
    assert {"log_scale", "empty"} <= set(saved)
    assert set(load_file(soft_run / "model" / "item_table.safetensors")) == {"projection.weight", "log_scale"}


def test_a_prompt_of_an_item_is_its_soft_tokens(soft_run):
    model = load_artifact(soft_run)
    first = model.backbone.first_vector_id("soft")
    assert first == model.backbone.base_vocab_size + model.catalog.num_items
    assert model.encoder.encode([5, 3])[-4:].tolist() == [first + 10, first + 11, first + 6, first + 7]
    assert model.card["form"] == "soft" and model.card["prompt_forms"] == ["soft"]


def test_a_loaded_run_ranks_alike_alone_in_a_batch_and_from_memory(soft_run, few_users):
    data = load_data(few_users)
    recommender, requests = recommender_of(load_artifact(soft_run)), requests_of(data)
    together = recommender.scores(requests)
    assert together.shape == (6, data.catalog.num_items)
    for row in range(6):
        np.testing.assert_allclose(recommender.scores(requests.take([row])), together[row : row + 1], atol=1e-4)
    np.testing.assert_allclose(np.exp(together).sum(axis=1), 1, rtol=1e-3)


def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(soft_run, few_users):
    from llmrec.data.splits import leave_one_out
    from llmrec.prompting.collators import AllPositionExamples, Collator
    from llmrec.prompting.packing import PackingCollator

    model = load_artifact(soft_run)
    soft = model.backbone.vector_tokens["soft"]
    rows = AllPositionExamples(model.encoder, leave_one_out(load_data(few_users).interactions).train.histories)
    parameters = [p.requires_grad_(True) for p in [*soft.parameters(), *model.backbone.item_table.parameters()]]
    found = {}
    for name, collate in (("padded", Collator(0)), ("packed", PackingCollator())):
        loss, count = model.backbone.next_token_loss(collate([rows[row] for row in (0, 1, 2)]), scope="level")
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        found[name] = float(loss), count, [gradient for gradient in gradients if gradient is not None]
    assert found["padded"][1] == found["packed"][1] > 10
    assert found["padded"][0] == pytest.approx(found["packed"][0], rel=1e-5)
    for one, other in zip(found["padded"][2], found["packed"][2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_semantic_ids_answer_prompts_of_titles_and_soft_tokens(few_items, tiny_model, tmp_path):
    prompt_form = (
        "items.form=semantic_id",
        "items.prompt_form=[text,soft]",
        "prompt.targets=last_item",
        "prompt.name=next_item/instruction",
    )
    run_here(
        settings(
            few_items, tiny_model, tmp_path / "run", *prompt_form, *SOFT[1:], "training.max_steps=2",
            "training.evaluate_every=2", "validation.max_users=4", "validation.num_beams=5",
        )
    )  # fmt: skip
    model = load_artifact(tmp_path / "run")
    data = load_data(few_items)
    ids = model.encoder.encode([7])
    assert model.backbone.first_vector_id("soft") + 7 in ids
    assert (
        model.encoder.tokenizer.decode(ids[ids < model.backbone.base_vocab_size]).count(data.catalog.titles[7][:20])
        == 1
    )
    recommender, requests = recommender_of(model, num_beams=10), requests_of(data)
    ranking = recommender.rank(requests, 5, exclude_seen=True)
    assert (ranking.items >= 0).all()
    for row in range(3):
        alone = recommender.rank(requests.take([row]), 5, exclude_seen=True)
        np.testing.assert_allclose(alone.scores[0], ranking.scores[row], atol=1e-4)


def test_what_cannot_be_trained_on_all_positions_says_how_it_can(few_items, tiny_model, tmp_path):
    more = ("items.form=semantic_id", "items.prompt_form=[soft]", *SOFT[1:])
    with pytest.raises(ConfigError, match=r"prompt\.targets=last_item"):
        run_here(settings(few_items, tiny_model, tmp_path / "run", *more))
    with pytest.raises(ConfigError, match="the item form in the prompt cannot be 'unique_id'"):
        run_here(
            settings(
                few_items, tiny_model, tmp_path / "other", "items.form=semantic_id", "items.prompt_form=[unique_id]"
            )
        )
