"""Figures of probabilities of clicks, with intervals over users: of one recommender, and of a table of CTR models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec import metrics
from llmrec.data.click_rows import ClickRows
from llmrec.evaluation.significance import verdict_of


def click_report(rows: ClickRows, scores: np.ndarray) -> dict:
    """auc and gauc of scores, float (N,): value, and low and high of 95 % of the values over redrawn users; None of a figure that
    does not exist, such as the gauc where no user has rows of both classes."""
    found = {}
    for name, value, resampled in (
        ("auc", metrics.auc(rows.labels, scores), metrics.auc_resamples(rows.labels, scores, rows.users)),
        (
            "gauc",
            metrics.gauc(rows.labels, scores, rows.users),
            metrics.gauc_resamples(rows.labels, scores, rows.users),
        ),
    ):
        if np.isnan(value):
            found[name] = {"value": None, "low": None, "high": None}
            continue
        low, high = np.nanquantile(resampled, [0.025, 0.975])
        found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found


def click_table(
    rows: ClickRows,
    lines: Sequence[dict],
    scores: Sequence[np.ndarray],
    *,
    only: np.ndarray | None = None,
    reference: str = "ids",
    resamples: int = 1000,
    level: float = 0.95,
) -> list[dict]:
    """One record for each arm and model: test figures over the seeds, intervals over users, and the paired difference to `reference`.

    rows: the test rows; lines: finished cells (arm, model, seconds), one a seed; scores: float (N,) of each; only: bool (N,), which of
    the rows count, such as those of rare items. For auc and gauc: value (mean over seeds), seed_std, low and high (percentile bootstrap
    over users of the mean over seeds), and for each arm but the reference `minus_reference`: value, low, high and verdict
    (`significance.verdict_of`) against the reference with the same model.
    """
    counted = np.ones(len(rows), bool) if only is None else only
    asked = rows.take(counted)
    groups: dict[tuple[str, str], list[tuple[dict, np.ndarray]]] = {}
    for line, of_line in zip(lines, scores, strict=True):
        groups.setdefault((line["arm"], line["model"]), []).append((line, of_line[counted]))
    figures, redrawn = {}, {}
    for group, cells in groups.items():
        figures[group] = [metrics.click_figures(asked.labels, one, asked.users) for _, one in cells]
        redrawn[group] = {
            name: np.mean([draw(asked.labels, one, asked.users, resamples=resamples) for _, one in cells], axis=0)
            for name, draw in (("auc", metrics.auc_resamples), ("gauc", metrics.gauc_resamples))
        }
    of_users = metrics.user_auc(asked.labels, np.zeros(len(asked)), asked.users)
    counts = {
        "rows": len(asked),
        "users": len(np.unique(asked.users)),
        "gauc_users": len(of_users.users),
        "gauc_users_left_out": of_users.num_left_out,
    }
    table = []
    for (arm, model), cells in groups.items():
        record = {"arm": arm, "model": model, "seeds": len(cells), **counts}
        record["logloss"] = float(np.mean([found["logloss"] for found in figures[arm, model]]))
        record["seconds"] = float(np.mean([cell["seconds"] for cell, _ in cells]))
        for name in ("auc", "gauc"):
            values = [found[name] for found in figures[arm, model]]
            record[name] = {"value": float(np.mean(values)), "seed_std": float(np.std(values))}
            record[name] |= _interval(redrawn[arm, model][name], level)
            if arm != reference and (reference, model) in groups:
                base = np.mean([found[name] for found in figures[reference, model]])
                interval = _interval(redrawn[arm, model][name] - redrawn[reference, model][name], level)
                record[name]["minus_reference"] = {
                    "value": float(np.mean(values) - base),
                    **interval,
                    "verdict": verdict_of(**interval),
                }
        table.append(record)
    return table


def _interval(values: np.ndarray, level: float) -> dict[str, float]:
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return {"low": float(low), "high": float(high)}
