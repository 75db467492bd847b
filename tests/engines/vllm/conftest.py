"""Runs of every form that answers, on the real small model, each served by both engines. One vLLM engine is in memory at a time."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.data.folder import Data, load_data, save_data
from llmrec.data.interactions import Histories
from llmrec.files import write_json
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.recommender import Recommender
from tests.recipes.running import run_here, settings
from tests.tiny import tiny_backbone

NAME = "SmolLM2-135M-Instruct"
FORMS = {
    # 1,682 tokens of one level: more than a request may allow
    "unique_id": ("items.form=unique_id",),
    # codes in the answer and in the prompt, next to soft tokens and after a soft prompt: vectors that no softmax may count
    "semantic_id": (
        "items.form=semantic_id", "items.prompt_form=[semantic_id,soft]", "soft.features=[taste]",
        "soft.adapter.hidden_dim=32", "train=[lora,item_table,semantic_adapter,soft_prompt]", "soft_prompt.num_tokens=3",
        "prompt.targets=last_item",
    ),
    # titles under their trie, a prompt in words
    "text": ("items.form=text", "prompt.name=next_item/instruction", "prompt.targets=last_item", "prompt.max_history=12"),
    # soft tokens in the prompt, rows made of them as answers
    "soft": ("items.form=soft", "soft.features=[taste]", "soft.adapter.hidden_dim=32", "soft.adapter.num_query_tokens=2"),
}  # fmt: skip


@pytest.fixture(scope="session")
def served_data(few_users: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of `few_users` with a matrix "taste" of numbers at random, and random codes of the films: the folders data and codes."""
    data, folder = load_data(few_users), tmp_path_factory.mktemp("served")
    rng, num_items = np.random.default_rng(0), data.catalog.num_items
    data.features.add("taste", rng.normal(size=(num_items, 8)))
    (folder / "data").mkdir()
    save_data(Data(data.catalog, data.interactions, data.features, data.user_ids, data.card, folder), folder / "data")
    # a first level of 200 codes: more than a request may name; others of 16
    places = rng.permutation(200 * 16 * 16)[:num_items]
    codes = np.stack([places // 256, places // 16 % 16, places % 16], axis=1).astype(np.int32)
    SemanticIDs(codes, (200, 16, 16)).save(folder / "codes")
    return folder


@dataclass(frozen=True)
class Served:
    """One run on both engines, in float32."""

    form: str
    run: Path
    torch: Recommender
    vllm: Recommender


@pytest.fixture(scope="session")
def parity_table():
    """Rows of what was compared, written to the file that LLMREC_PARITY_OUT names."""
    rows: list[dict] = []
    yield rows
    if out := os.environ.get("LLMREC_PARITY_OUT"):
        import vllm

        how = {"command": "make test-vllm-full", "vllm": vllm.__version__, "torch": torch.__version__,
               "model": f"{NAME}, 4 layers, float32", "num_beams": 6, "machine": f"{os.cpu_count()} cores, no accelerator"}  # fmt: skip
        write_json(out, {**how, "rows": rows})


@pytest.fixture(scope="session", params=FORMS)
def served(request: pytest.FixtureRequest, served_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run of each form; tests that share one stand together, so that each engine starts once."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    more = FORMS[request.param]
    if "items.form=semantic_id" in more:
        more = (*more, f"items.semantic_ids={served_data / 'codes'}")
    run_here(
        settings(
            served_data / "data", NAME, run, "backbone.num_layers=4", "training.max_steps=2", "training.evaluate_every=2",
            "validation.max_users=2", "validation.num_beams=4", *more,
        )
    )  # fmt: skip
    torch_engine = Recommender.from_pretrained(run, dtype=torch.float32)
    vllm_engine = Recommender.from_pretrained(run, dtype=torch.float32, engine="vllm")
    yield Served(request.param, run, torch_engine, vllm_engine)
    vllm_engine.close()


def histories(num_items: int, number: int) -> Histories:
    """Nobody's, everybody's: an empty one, one of 700 films, six of one length, the rest of 1 to 40."""
    rng = np.random.default_rng(1)
    lengths = [0, 700, *[9] * 6, *rng.integers(1, 41, size=number - 8)]
    return Histories.from_lists([rng.choice(num_items, size=length, replace=False).tolist() for length in lengths])


@pytest.fixture(scope="session")
def tiny_served_run(few_users: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of unique ids on a tiny model whose heads are as wide as vLLM's attention on a CPU wants them."""
    folder = tmp_path_factory.mktemp("tiny_served")
    backbone = tiny_backbone("llama", head_dim=32)
    backbone.causal_lm.save_pretrained(folder / "model")
    backbone.tokenizer.save_pretrained(folder / "model")
    run_here(
        settings(few_users, str(folder / "model"), folder / "run", "training.max_steps=2", "training.evaluate_every=2")
    )
    return folder / "run"
