"""Fixtures shared by all tests: real data sets, the real small model, loaded once a session."""

import importlib.util
import os
from pathlib import Path

import pytest

from llmrec.data.folder import Data, load_data, save_data
from llmrec.data.interactions import Interactions
from llmrec.data.movielens import movielens_100k
from llmrec.data.prepare import prepare


@pytest.hookimpl(tryfirst=True)  # before any fixture is made
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `vllm` needs vLLM; in CI its absence is a failure, elsewhere a skip."""
    if item.get_closest_marker("vllm") is None or importlib.util.find_spec("vllm") is not None:
        return
    reason = "vLLM is not installed: make setup-vllm"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def bench_data() -> Path:
    """The folder of benchmark data sets named by LLMREC_BENCH_DATA; in CI its absence is a failure, elsewhere a skip."""
    folder = os.environ.get("LLMREC_BENCH_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = "LLMREC_BENCH_DATA does not name a folder of benchmark data sets (see docs/benchmarks.md)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def smollm2_tokenizer():
    """The real tokenizer of SmolLM2-135M-Instruct: vocabulary 49,152, ChatML, BOS <|im_start|>, EOS <|im_end|>."""
    from llmrec.backbones.load import load_tokenizer

    return load_tokenizer("SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MovieLens-100K, real rows, as a prepared data folder."""
    items, interactions, terms = movielens_100k()
    folder = tmp_path_factory.mktemp("movielens") / "data"
    prepare(items, interactions, folder, name="ml-100k", terms=terms)
    return folder


@pytest.fixture(scope="session")
def few_users(movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 80 users of MovieLens-100K and the whole catalogue: enough for training to learn something in seconds."""
    data = load_data(movielens)
    events, folder = data.interactions, tmp_path_factory.mktemp("few_users") / "data"
    stop = int(events.indptr[80])
    part = Interactions(
        events.indptr[:81], events.items[:stop], events.num_items, events.times[:stop], events.ratings[:stop]
    )
    folder.mkdir()
    save_data(Data(data.catalog, part, data.features, data.user_ids[:80], data.card, folder), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny random Llama and a byte tokenizer, as a user's own checkpoint would lie there."""
    from tests.tiny import tiny_backbone

    folder = tmp_path_factory.mktemp("tiny_model")
    backbone = tiny_backbone("llama")
    backbone.causal_lm.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_run(few_users: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of recipes/next_item.py on the tiny model, one token an item. Tests leave it as it is."""
    from tests.recipes.running import run_here, settings

    run = tmp_path_factory.mktemp("tiny_run") / "run"
    run_here(settings(few_users, tiny_model, run, "training.max_steps=4"))
    return run


@pytest.fixture(scope="session")
def tiny_code_run(few_users: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with semantic IDs of random codes and a prompt in words, so that items are decoded by beam search."""
    import numpy as np

    from llmrec.items.semantic_ids import SemanticIDs
    from tests.recipes.running import run_here, settings

    num_items = load_data(few_users).catalog.num_items
    places = np.random.default_rng(0).permutation(16**3)[:num_items]
    codes = tmp_path_factory.mktemp("codes") / "random"
    SemanticIDs(np.stack([places // 256, places // 16 % 16, places % 16], axis=1).astype(np.int32), (16, 16, 16)).save(
        codes
    )
    run = tmp_path_factory.mktemp("tiny_code_run") / "run"
    run_here(
        settings(
            few_users, tiny_model, run, "items.form=semantic_id", f"items.semantic_ids={codes}", "prompt.targets=last_item",
            "prompt.name=next_item/instruction", "training.max_steps=2", "training.evaluate_every=2",
            "validation.max_users=4", "validation.num_beams=10",
        )
    )  # fmt: skip
    return run


@pytest.fixture(scope="session")
def few_items(movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 100 films of MovieLens-100K and the events with them, tokenised by title and genres."""
    import numpy as np

    from llmrec.apps.tokenize_command import tokenize
    from llmrec.data.catalog import Catalog
    from llmrec.data.features import Features

    data = load_data(movielens)
    events, folder = data.interactions, tmp_path_factory.mktemp("few_items") / "data"
    users = np.repeat(np.arange(events.num_users), events.lengths)
    kept = (events.items < 100) & (users < 80)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(users[kept], minlength=80))])
    part = Interactions(indptr, events.items[kept], 100, events.times[kept], events.ratings[kept])
    folder.mkdir()
    catalog = Catalog(data.catalog.table.slice(0, 100))
    save_data(Data(catalog, part, Features(100), data.user_ids[:80], data.card, folder), folder)
    tokenize(folder, field=["title", "genres"], codebook_size=8, json=True)
    return folder


@pytest.fixture(scope="session")
def growing_run(few_items: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `few_items` with semantic IDs that kept their codebooks. Tests leave it as it is."""
    from tests.recipes.running import run_here, settings

    run = tmp_path_factory.mktemp("growing_run") / "run"
    more = ("items.form=semantic_id", "training.max_steps=2", "training.evaluate_every=2", "validation.max_users=4")
    run_here(settings(few_items, tiny_model, run, *more, "validation.num_beams=5"))
    return run


@pytest.fixture(scope="session")
def imaged_items(few_items: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same films, each but the eighth with a title card as its image, and a matrix "taste" of numbers at random."""
    import numpy as np
    import pyarrow as pa

    from llmrec.apps.title_cards import title_card
    from llmrec.data.catalog import Catalog
    from llmrec.data.features import Features

    data, folder = load_data(few_items), tmp_path_factory.mktemp("imaged_items") / "data"
    (folder / "images").mkdir(parents=True)
    names = [f"images/{item_id}.png" for item_id in data.catalog.item_ids]
    for title, genres, name in zip(data.catalog.titles, data.catalog.table["genres"].to_pylist(), names, strict=True):
        title_card(title, genres).save(folder / name)
    names[7] = None
    features = Features(100)
    features.add("taste", np.random.default_rng(0).normal(size=(100, 4)))
    catalog = Catalog(data.catalog.table.append_column("image", pa.array(names)))
    save_data(Data(catalog, data.interactions, features, data.user_ids, data.card, folder), folder)
    return folder


@pytest.fixture(scope="session")
def poster_run(imaged_items: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose items are soft tokens of texts and images. Tests leave it as it is."""
    from tests.recipes.running import run_here, settings

    run = tmp_path_factory.mktemp("poster_run") / "run"
    more = (
        "items.form=soft",
        "soft.features=[text,image]",
        "soft.adapter.hidden_dim=32",
        "soft.adapter.num_query_tokens=2",
    )
    run_here(settings(imaged_items, tiny_model, run, *more, "training.max_steps=8", "training.evaluate_every=8"))
    return run
