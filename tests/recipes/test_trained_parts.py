"""recipes/next_item.py with each way of training a language model: what is named moves, is saved, and ranks the same when loaded."""

import pytest
import torch

from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.data.folder import load_data
from llmrec.errors import ConfigError
from llmrec.recommenders.generative import recommender_of
from tests.recipes.running import run_here, settings
from tests.recipes.test_soft_form import SOFT, requests_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "train",
    [
        "[layer_adapter, item_table]",
        "[soft_prompt, item_table]",
        "[lora, soft_prompt, semantic_adapter, item_table]",
        "[last_layers, item_table]",
        "[prefix, item_table]",
        "[lora, item_table] lora.dora=true",
    ],
)
def test_what_is_named_is_trained_saved_and_loaded(few_users, tiny_model, tmp_path, train):
    names, *more = train.split("] ")
    soft = SOFT if "semantic_adapter" in names else ()
    names = names.removesuffix("]") + "]"
    run_here(
        settings(few_users, tiny_model, tmp_path / "run", f"train={names}", *more, *soft, "soft_prompt.num_tokens=3",
                 "prefix.num_tokens=3", "num_last_layers=1", "layer_adapter.hidden_dim=4", "training.max_steps=4")
    )  # fmt: skip
    model = load_artifact(tmp_path / "run")
    assert f"train:\n- {names[1:-1].split(', ')[0]}" in (tmp_path / "run" / "config.yaml").read_text()
    saved = read_manifest(tmp_path / "run")["adapters"]
    assert ("lora" in saved, "layer_adapter" in saved) == ("lora" in names, "layer_adapter" in names)
    assert ("prefix" in saved) == ("prefix" in names.split(" ")[0])
    assert saved.get("last_layers", 0) == ("last_layers" in names)
    if "soft_prompt" in names:
        first = model.backbone.first_vector_id("soft_prompt")
        assert model.encoder.encode([3])[1:4].tolist() == [first, first + 1, first + 2]
    requests = requests_of(load_data(few_users), 4)
    together = recommender_of(model).scores(requests)
    assert torch.isfinite(torch.from_numpy(together)).all()
    alone = recommender_of(load_artifact(tmp_path / "run")).scores(requests.take([2]))
    assert abs(alone[0] - together[2]).max() < 1e-4


def test_a_part_the_form_does_not_have_is_refused(few_users, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match="semantic_adapter, but with these settings the model has none"):
        run_here(settings(few_users, tiny_model, tmp_path / "run", "train=[lora, semantic_adapter]"))
