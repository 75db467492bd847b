"""The tables of docs/benchmarks.md from what benchmarks/quality.py wrote: no number there is typed by hand."""

from __future__ import annotations

from harness import ROOT

from llmrec.files import read_json, write_text

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- peers: written by `python benchmarks/quality.py --page` -->", "<!-- end of peers -->"
HEADER = ("", "package", "Recall@10", "NDCG@10", "95 % interval", "validation NDCG@10", "training, CPU min", "scoring")


def write() -> None:
    """benchmarks/results/quality_*.json into the page, between its markers."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n{section()}\n{rest[rest.index(END) :]}")


def section() -> str:
    """Every result that is kept: data, machine, tables."""
    files = sorted(RESULTS.glob("quality_*.json"))
    if not files:
        return "Not run yet at a commit of this history."
    return "\n\n".join(tables(read_json(file, "result of a bench")) for file in files)


def tables(result: dict) -> str:
    """One table for each choice of training events: two of them never stand in one column."""
    machine, counts = result["machine"], result["data"]["counts"]
    head = (
        f"**{result['data']['name']}**, {counts['users']:,} users, {counts['items']:,} items, leave-one-out, "
        "whole catalogue, seen items filtered, "
        f"seed {result['seed']}, {machine['threads']} thread of {machine['cpu']} ({machine['instructions']}), commit "
        f"{machine['commit']}, {machine['date']}, at most {result['budget_min']:g} CPU minutes of training a model:"
    )
    parts = [f"{head}\n```\n{result['command']}\n```"]
    for fit in dict.fromkeys(row["fit"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["fit"] == fit and "test" in row]
        rows.sort(key=lambda row: -row["test"]["metrics"]["ndcg@10"]["value"])
        header = tuple(cell for cell in HEADER if fit == "train" or not cell.startswith("validation"))
        lines = [header, ["---"] * len(header), *(_cells(row, fit) for row in rows)]
        parts.append(f"Training events `{fit}`:\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
        absent = [f"{row['name']} ({row['absent']})" for row in result["rows"] if row["fit"] == fit and "absent" in row]
        if absent:
            parts.append(f"Without a row: {'; '.join(absent)}")
    return "\n\n".join(parts)


def _cells(row: dict, fit: str) -> list[str]:
    ndcg, minutes = row["test"]["metrics"]["ndcg@10"], row["cpu_minutes"]
    epochs = row["facts"].get("epochs")
    name = row["name"] if epochs is None else f"{row['name']}, {epochs:g} epoch{'' if epochs == 1 else 's'}"
    if row["facts"].get("ended_by_budget"):
        name += " (ended by the budget)"
    cells = [name, row["package"], _short(row["test"]["metrics"]["recall@10"]["value"]), _short(ndcg["value"])]
    cells.append(f"{_short(ndcg['low'])} to {_short(ndcg['high'])}")
    if fit == "train":
        cells.append(_short(row["valid"]["metrics"]["ndcg@10"]["value"]))
    return [*cells, f"{minutes['train']:.2f}", f"{minutes['score']:.2f}"]


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
