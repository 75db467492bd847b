"""recipes/ease.py: what the adapter learns, what it leaves alone, and CTR models that never meet the language model."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from llmrec.artifacts.run_folder import load_artifact
from llmrec.artifacts.vector_tokens import load_item_vectors
from llmrec.config import load_config
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import load_data, save_data
from llmrec.enrich.generated_texts import GeneratedTexts, load_generated_texts
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.training.checkpoints import read_log
from tests.recipes.running import load_recipe

pytestmark = pytest.mark.slow


def settings(data, model, output, *more):
    """Overrides of a run of seconds."""
    return [
        f"data={data}", f"output={output}", f"backbone.name={model}", "backbone.dtype=float32", "soft.features=[text]",
        "soft.adapter.num_query_tokens=2", "soft.adapter.hidden_dim=32", "reconstruction.max_text_tokens=40",
        "training.batch_size=8", "training.adapter_lr=0.01", "training.epochs=12", "training.evaluate_every=20",
        "training.log_every=1", *more,
    ]  # fmt: skip


def run(stage, overrides, *, fresh=False):
    """One stage in this process."""
    recipe = load_recipe("ease")
    return recipe.main(load_config(recipe.Ease, None, [*overrides, f"stage={stage}"]), fresh=fresh)


@pytest.fixture(scope="module")
def known_items(few_items, tmp_path_factory):
    """100 films of MovieLens with texts about them: their genres in words, which their features know; two films have none."""
    folder = tmp_path_factory.mktemp("known_items") / "data"
    shutil.copytree(few_items, folder)
    catalog = load_data(folder).catalog
    texts = {item: (catalog.text(item, "genres"), "ok") for item in range(98)}
    card = {"about": "items", "num_rows": catalog.num_items, "settings": {"keep_flagged": False}}
    card["catalog_hash"] = catalog.content_hash
    GeneratedTexts.of(catalog.num_items, texts, card).save(folder / "generated_texts" / "genres")
    return folder


@pytest.fixture(scope="module")
def adapter_run(known_items, tiny_model, tmp_path_factory):
    """A finished stage `adapter`."""
    output = tmp_path_factory.mktemp("ease") / "run"
    run("adapter", settings(known_items, tiny_model, output))
    return output


def found_in(output):
    """What the run says of held-out texts, in nats a token."""
    return json.loads((output / "adapter" / "model" / "manifest.json").read_text())["protocol"]["reconstruction"]


def test_the_loss_falls_and_held_out_items_are_reported(adapter_run):
    losses = [record["loss"] for record in read_log(adapter_run / "adapter" / "training_log.jsonl") if "loss" in record]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    found = found_in(adapter_run)
    assert (found["held_out_items"], found["training_items"]) == (10, 88)
    assert found["true_features"] < found["no_soft_tokens"]


def test_the_real_model_says_texts_of_items_it_never_met_from_their_features_not_from_others(known_items, tmp_path):
    more = ("training.epochs=10", "training.adapter_lr=0.002", "soft.adapter.hidden_dim=256", "soft.adapter.dropout=0")
    run("adapter", settings(known_items, "SmolLM2-135M-Instruct", tmp_path / "run", *more))
    found = found_in(tmp_path / "run")
    assert found["gain"]["low"] > 0.05, (
        "each text is likelier after its own item's features, whichever items are sampled"
    )
    assert found["true_features"] < found["no_soft_tokens"] - 0.5


def test_no_weight_of_the_language_model_has_a_gradient(known_items, tiny_model):
    from llmrec.backbones.pretrained import load_backbone
    from llmrec.backbones.trained_parts import PartSettings, train_parts
    from llmrec.items.forms import soft_sequences
    from llmrec.prompting.collators import Collator
    from llmrec.prompting.generated_text_examples import GeneratedTextExamples
    from llmrec.training.item_features import SoftTokenSettings, make_soft_tokens, soft_features

    data, wanted = load_data(known_items), SoftTokenSettings()
    backbone = load_backbone(tiny_model)
    soft = make_soft_tokens(wanted, soft_features(wanted, data, None, seed=0), backbone, seed=0)
    backbone.add_vectors("soft", soft)
    train_parts(backbone, ["semantic_adapter"], PartSettings())
    texts = [f"film {item}" for item in range(100)]
    prompt_sequences = soft_sequences(100, 1, backbone.first_vector_id("soft"))
    rows = GeneratedTextExamples(backbone.tokenizer, prompt_sequences, texts, np.arange(4), max_text_tokens=20)
    before = {name: parameter.clone() for name, parameter in backbone.causal_lm.named_parameters()}
    loss, count = backbone.train().next_token_loss(Collator(0)([rows[row] for row in range(4)]), scope="vocabulary")
    loss.backward()
    assert count == 4 * (len("film 1") + 1)  # one token a byte, and the end
    assert all(parameter.grad is None for parameter in backbone.causal_lm.parameters())
    with_gradient = [name for name, parameter in soft.adapter.named_parameters() if parameter.grad is not None]
    assert len(with_gradient) > 5
    torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=0.1).step()
    assert all(torch.equal(parameter, before[name]) for name, parameter in backbone.causal_lm.named_parameters())


def test_the_run_keeps_vectors_of_every_item_trained_and_untrained(adapter_run, known_items):
    vectors = load_item_vectors(adapter_run / "adapter", 100)
    assert vectors["trained"].shape == vectors["untrained"].shape == (100, 32)
    assert not np.allclose(vectors["trained"], vectors["untrained"])
    with pytest.raises(ArtifactError, match=r"does not recommend; name a run of next_item"):
        load_artifact(adapter_run / "adapter")
    with pytest.raises(ArtifactError, match="expected a finished semantic adapter"):
        load_item_vectors(known_items, 100)


def test_a_finished_stage_is_left_as_it_is_and_another_seed_is_refused_there(
    adapter_run, known_items, tiny_model, capsys
):
    before = load_file(adapter_run / "adapter" / "model" / "item_vectors" / "trained.safetensors")["vectors"]
    run("adapter", settings(known_items, tiny_model, adapter_run))
    assert "finished and left as it is" in capsys.readouterr().out
    after = load_file(adapter_run / "adapter" / "model" / "item_vectors" / "trained.safetensors")["vectors"]
    np.testing.assert_array_equal(before, after)


def test_the_contrast_pulls_content_towards_collaborative_vectors(known_items, tiny_model, tmp_path, adapter_run):
    from llmrec.baselines.item_embeddings import collaborative_embeddings
    from llmrec.data.splits import leave_one_out

    more = ("reconstruction.contrast_weight=2", "reconstruction.contrast_dim=16")
    run("adapter", settings(known_items, tiny_model, tmp_path / "run", *more))
    factors, _ = collaborative_embeddings("ease_r", leave_one_out(load_data(known_items).interactions).train, 16)
    touched = np.linalg.norm(factors, axis=1) > 0

    def alike(folder):
        """How well cosines of item vectors follow those of collaborative embeddings."""
        vectors = load_item_vectors(folder / "adapter", 100)["trained"][touched]
        cosines = [
            unit @ unit.T
            for unit in (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, factors[touched]))
        ]
        upper = np.triu_indices(int(touched.sum()), 1)
        return np.corrcoef(cosines[0][upper], cosines[1][upper])[0, 1]

    assert alike(tmp_path / "run") > alike(adapter_run) + 0.1


def keys_of(cells):
    return [json.loads(line)["key"] for line in cells.splitlines()]


def test_ctr_models_compare_every_variant_and_their_cells_are_not_trained_twice(
    adapter_run, known_items, tiny_model, capsys
):
    more = (
        "table.models=[dnn]", "table.seeds=[0]", "table.model.epochs=1", "table.sasrec_seeds=[]",
    )  # fmt: skip
    overrides = settings(known_items, tiny_model, adapter_run, *more)
    run("ctr", overrides)
    folder = adapter_run / "ctr"
    results = json.loads((folder / "results.json").read_text())
    variants = {record["variant"] for record in results["ctr"]}
    assert variants == {
        "item_mean",
        "user_item_mean",
        "ids",
        "raw features",
        "generated text",
        "untrained adapter",
        "adapter",
    }
    assert (folder / "auc.svg").read_text().count("<svg") == 1
    cells = folder / "cells.jsonl"
    marked = re.sub(r'"seconds": [0-9.]+', '"seconds": 777.0', cells.read_text())
    cells.write_text(marked)
    run("ctr", overrides)
    assert cells.read_text() == marked, "what was trained is not trained twice"
    run("ctr", overrides, fresh=True)
    anew = cells.read_text()
    assert "777.0" not in anew, "--fresh trains every cell anew"
    assert keys_of(anew) == keys_of(marked)


def test_generated_texts_that_are_not_there_is_one_sentence(few_items, tiny_model, tmp_path):
    with pytest.raises(DataError, match="llmrec enrich"):
        run("adapter", settings(few_items, tiny_model, tmp_path / "run"))


def test_vectors_and_an_adapter_of_other_data_are_refused(adapter_run, known_items, tiny_model, tmp_path):
    shutil.copytree(adapter_run, tmp_path / "run")
    shutil.copytree(known_items, tmp_path / "data")
    known = load_data(known_items)
    turned = Catalog(known.catalog.table.take(list(range(99, -1, -1))))  # the same items, in another order
    save_data(replace(known, catalog=turned, features=Features(100)), tmp_path / "data")
    card = {"about": "items", "num_rows": 100, "settings": {"keep_flagged": False}, "catalog_hash": turned.content_hash}
    texts = {item: (turned.text(item, "genres"), "ok") for item in range(2, 100)}
    GeneratedTexts.of(100, texts, card).save(tmp_path / "data" / "generated_texts" / "genres")
    with pytest.raises(ArtifactError, match="was trained on other data than these: the data folder was prepared again"):
        run("ctr", settings(tmp_path / "data", tiny_model, tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "adapter" / "model")
    path = tmp_path / "run" / "adapter" / "config.yaml"
    path.write_text(path.read_text().replace(f"data: {known_items}", f"data: {tmp_path / 'data'}"))
    with pytest.raises(ConfigError, match=r"changed since \(items and events, generated texts"):
        run("adapter", settings(tmp_path / "data", tiny_model, tmp_path / "run"))


def test_serving_item_vectors_needs_no_language_model(adapter_run):
    folder = adapter_run / "adapter" / "model" / "item_vectors"
    code = (
        "import sys; from llmrec.data.features import Features; import llmrec.ctr.model; "
        f"assert Features.load({str(folder)!r}, 100)['trained'].shape == (100, 32); "
        "assert not {'transformers', 'peft'} & set(sys.modules), 'a language model library was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_stage_enrich_writes_what_the_adapter_reads_and_asks_nothing_twice(few_items, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(few_items, data)
    more = (
        "enrich.model=SmolLM2-135M-Instruct",
        "enrich.max_items=3",
        "enrich.max_new_tokens=12",
        "enrich.prompt=enrich/film_knowledge",
        "generated_texts=mine",
    )
    overrides = settings(data, "SmolLM2-135M-Instruct", tmp_path / "run", *more)
    run("enrich", overrides)
    first = load_generated_texts(load_data(data), "mine")
    assert [text is not None for text in first.all_texts] == [True] * 3 + [False] * 97
    run("enrich", overrides)
    assert load_generated_texts(load_data(data), "mine").all_texts == first.all_texts
    with pytest.raises(ConfigError, match=r"delete '.*mine' first"):
        run("enrich", overrides, fresh=True)
    assert load_generated_texts(load_data(data), "mine").all_texts == first.all_texts
