"""What a run with alignment has learned: does it know items by their words, and words by their items?

    python benchmarks/alignment.py --data DATA --run RUN [--without RUN_WITHOUT]

| asked | compared with |
|---|---|
| the title after an item's tokens: nats per token under everything the model can say | the same title after another item's tokens |
| the item after a title: in the first ten of the whole catalogue | the item of another title, and chance |
| the next item of users held out: NDCG@10 and recall@10 | the run without alignment, if named |

The other item is a fixed shuffle of the same items, so both sides ask for the same texts and the same items: what the model has learned
about titles as such, or about popular codes, is in both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import harness
import numpy as np
import torch

from llmrec.artifacts.run_folder import load_artifact
from llmrec.data.folder import Data, load_data
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.trie import TokenTrie
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.items.forms import NO_TARGET
from llmrec.prompting.alignment import AlignmentTexts, alignment_examples
from llmrec.prompting.alignment_examples import AlignmentExamples
from llmrec.prompting.collators import Collator
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.language_model import LanguageModel

ROWS_AT_ONCE = 32


def flags() -> argparse.ArgumentParser:
    """The command line."""
    result = harness.parser(__doc__, quick={"items": 40, "users": 20}, rounds=1)
    result.add_argument("--data", type=Path, required=True, help="the data folder of the runs")
    result.add_argument("--run", type=Path, required=True, help="a finished run with alignment")
    result.add_argument("--without", type=Path, help="a finished run without")
    result.add_argument("--items", type=int, default=400, help="items that are asked about, sampled by seed")
    result.add_argument("--users", type=int, default=1000, help="users that are asked for their next item, at most")
    result.add_argument("--seed", type=int, default=0, help="of the draw and the shuffle")
    return result


def rows_of(task: str, model: LanguageModel, data: Data) -> AlignmentExamples:
    """The examples of a task as training made them; no history is read by tasks about items."""
    texts = AlignmentTexts(data.catalog.titles)
    histories = data.interactions.histories
    return alignment_examples(task, texts, histories, data.catalog, model.encoder, max_answer_tokens=64)


@torch.no_grad()
def answer_nats(model: LanguageModel, rows: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Negative log-likelihood of each example's answer, nats per token, under words and item tokens together: float64 (N,)."""
    found = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        hidden, targets = model.backbone.labelled_states(Collator(0)(some))
        log_probs = model.backbone.logits(hidden).log_softmax(1).gather(1, targets[:, None])[:, 0].double().numpy()
        counts = [int((row["labels"][1:] != NO_TARGET).sum()) for row in some]
        found += [-part.mean() for part in np.split(log_probs, np.cumsum(counts)[:-1])]
    return np.array(found)


def joined(prompt: dict[str, np.ndarray], answer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One example's prompt and another example's answer."""
    kept, asked = prompt["labels"] == NO_TARGET, answer["labels"] != NO_TARGET
    return {name: np.concatenate([prompt[name][kept], answer[name][asked]]) for name in ("input_ids", "labels")}


def titles_of_items(model: LanguageModel, data: Data, items: int, seed: int) -> dict:
    """Titles after their own items' tokens and after others'."""
    rows = rows_of("item_to_title", model, data)
    rng = np.random.default_rng(seed)
    asked = [rows[int(row)] for row in rng.permutation(len(rows))[:items]]
    other = np.roll(np.arange(len(asked)), 1)  # nobody keeps its own
    own = answer_nats(model, asked)
    shuffled = answer_nats(model, [joined(asked[o], row) for o, row in zip(other, asked, strict=True)])
    difference = shuffled - own
    return {
        "items": len(asked),
        "own_nats_a_token": float(own.mean()),
        "shuffled_nats_a_token": float(shuffled.mean()),
        "difference": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / np.sqrt(len(asked))),
        "own_is_likelier": float((difference > 0).mean()),
    }


def items_of_titles(model: LanguageModel, data: Data, items: int, seed: int) -> dict:
    """Whether the item with a title is among the first ten that the model names for it, and whether another's is."""
    rows = rows_of("title_to_item", model, data)
    sampled = np.random.default_rng(seed).permutation(len(rows))[:items]
    trie = TokenTrie.from_item_tokens(model.item_tokens, model.backbone.device)
    prompts = [row["input_ids"][row["labels"] == NO_TARGET] for row in (rows[int(row)] for row in sampled)]
    found = np.concatenate([
        beam_search(model.backbone, trie, prompts[start : start + ROWS_AT_ONCE], 10, softmax_scope=model.softmax_scope)[0].numpy()
        for start in range(0, len(prompts), ROWS_AT_ONCE)
    ])  # fmt: skip
    true = rows.shown.about[sampled]
    hits, controls = found == true[:, None], found == np.roll(true, 1)[:, None]
    return {
        "items": len(sampled),
        "recall@1": float(hits[:, 0].mean()),
        "recall@10": float(hits.any(1).mean()),
        "shuffled_recall@10": float(controls.any(1).mean()),
        "chance@10": 10 / model.item_tokens.num_items,
    }


def next_items(model: LanguageModel, data: Data, users: int) -> dict:
    """The test instances of leave_one_out over the whole catalogue."""
    task = load_task("leave_one_out").model_copy(update={"metrics": ("recall", "ndcg"), "ks": (10,)})
    return evaluate(recommender_of(model), data, task, max_instances=users).metrics


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    data = load_data(options.data)
    results = {}
    for name, folder in (("aligned", options.run), ("without", options.without)):
        if folder is not None:
            model = load_artifact(folder)
            model.backbone.eval()
            results[name] = {
                "run": {key: model.card[key] for key in ("form", "softmax_scope", "layers")},
                "item_to_title": titles_of_items(model, data, options.items, options.seed),
                "title_to_item": items_of_titles(model, data, options.items, options.seed),
                "next_item": next_items(model, data, options.users),
            }
    return {"items": data.catalog.num_items, "users": data.interactions.num_users, "results": results}


if __name__ == "__main__":
    harness.main(flags(), run)
