"""A training on a mixture: other rows in each epoch, the same ones in a run that was interrupted."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from llmrec.backbones.adapters import add_lora
from llmrec.prompting.collators import Collator
from llmrec.prompting.generated_text_examples import GeneratedTextExamples
from llmrec.prompting.mixture import Mixture, Source
from llmrec.training.objectives import Objective
from llmrec.training.samplers import LengthSampler, MixtureSampler
from llmrec.training.settings import TrainingSettings
from llmrec.training.trainer import train
from tests.tiny import tiny_backbone


class At(TrainerCallback):
    """Knows the step, and what had been read before the first; interrupts the training before one."""

    def __init__(self, read: list, interrupted: int | None):
        self.read, self.interrupted, self.step, self.before = read, interrupted, 0, 0

    def on_train_begin(self, args, state, control, **_):
        self.before = len(self.read)  # the estimate has tried some batches

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.interrupted:
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, **_):
        self.step = state.global_step


def run(folder: Path, *, by_user: bool = False, interrupted: int | None = None) -> tuple[list, list]:
    """Three epochs of four steps: 4 of 8 rows of one source and 4 of 4 of another. What each step read, and the weights at its end."""
    backbone, read = tiny_backbone("llama"), []
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)

    def rows(name: str, number: int) -> GeneratedTextExamples:
        texts = [f"{name} {n}" for n in range(number)]
        return GeneratedTextExamples(backbone.tokenizer, None, texts, np.arange(number), max_text_tokens=9)

    mixture = Mixture([Source("film", rows("film", 8), 0.5), Source("book", rows("book", 4), 1)], seed=4)

    def compute_loss(backbone, batch):
        read.append(sorted(backbone.tokenizer.decode(row, skip_special_tokens=True) for row in batch["input_ids"]))
        return backbone.next_token_loss(batch, scope="vocabulary")

    settings = TrainingSettings(
        batch_size=2,
        epochs=3,
        evaluate_every=3,
        patience=9,
        log_every=1,
        packing="branches" if by_user else "none",
        adapter_lr=0.01,
        weight_decay=0,
    )
    at = At(read, interrupted)
    trainer = train(
        Objective(backbone, compute_loss), mixture,
        Collator(0), lambda *_: {"ndcg@10": float(at.step)}, settings, folder, seed=0, callbacks=[at],
    )  # fmt: skip
    return read[at.before :], list(trainer.model.state_dict().values())


@pytest.mark.parametrize("by_user", [False, True])
def test_epochs_differ_and_an_interrupted_run_reads_what_an_unbroken_one_reads(tmp_path, by_user):
    read, weights = run(tmp_path / "whole", by_user=by_user)
    assert len(read) == 12
    epochs = [sorted(chain(*read[at : at + 4])) for at in (0, 4, 8)]
    films = [[text for text in epoch if text.startswith("film")] for epoch in epochs]
    assert [len(each) for each in films] == [4, 4, 4] and sorted(films[0] + films[1]) == [f"film {n}" for n in range(8)]
    assert all(epoch[:4] == [f"book {n}" for n in range(4)] for epoch in epochs)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", by_user=by_user, interrupted=7)
    rest, resumed = run(tmp_path / "broken", by_user=by_user)
    assert rest == read[6:], "the checkpoint after step 6 lies within the second epoch"
    assert all(torch.equal(one, other) for one, other in zip(weights, resumed, strict=True))


def test_processes_share_the_rows_of_one_draw():
    class Rows:
        lengths, users = list(range(1, 13)), np.arange(12)

        def __len__(self):
            return 12

        def __getitem__(self, row):
            return {"input_ids": np.full(self.lengths[row], row), "labels": np.full(self.lengths[row], row)}

    seen = []
    for process in range(2):
        mixture = Mixture([Source("a", Rows(), 0.5)], seed=0)
        sampler = MixtureSampler(mixture, lambda mixture=mixture: LengthSampler(2, mixture.lengths, 0))
        loader = DataLoader(mixture, batch_size=1, sampler=sampler, collate_fn=lambda rows: int(rows[0]["labels"][0]))
        for epoch in (0, 1, 2):
            shard = prepare_data_loader(loader, num_processes=2, process_index=process, put_on_device=False)
            shard = skip_first_batches(shard, 1) if epoch == 2 else shard
            sampler.set_epoch(epoch)  # as RankingTrainer does: accelerate does not reach it below skipped batches
            shard.set_epoch(epoch)
            seen.append((epoch, sorted(shard)))
    rows = [set(chain(*(found for of, found in seen if of == epoch))) for epoch in range(3)]
    assert len(rows[0]) == len(rows[1]) == 6 and rows[0] | rows[1] == set(range(12))
    assert len(rows[2]) == 4
