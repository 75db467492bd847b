"""One cell of a suite, in a process of its own so that its memory is given back: python -m llmrec.evaluation.suite.measure DIR CELL.

Letters: I items.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec.config import load_config
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import Data, load_data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError, LlmrecError
from llmrec.evaluation.cost import Cost, measure_cost, training_cost
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.results import Result
from llmrec.evaluation.suite.kept import save_cell
from llmrec.evaluation.suite.layout import Layout
from llmrec.evaluation.suite.settings import Asked, ByName, Cell, Ctr, SuiteFile, Tuned
from llmrec.evaluation.tasks import ClicksTask, NextItemTask, Task, load_any_task
from llmrec.processes import end_with_parent, with_parent
from llmrec.recommenders.clicks import ClickScorer
from llmrec.recommenders.requests import Ranker, Requests
from llmrec.resources import resource_path

if TYPE_CHECKING:
    from llmrec.evaluation.asked.settings import AskedSettings

# Where a recipe reads its task.
TASK_SETTINGS = {"clicks": "clicks.task", "next_item": "validation.task", "sequential": "validation.task"}


def main(arguments: list[str]) -> int:
    """Measures the cell and keeps it. A mistake of the user's: one sentence on standard error, 2."""
    end_with_parent()
    try:
        layout = Layout(Path(arguments[0]))
        suite, data_folder = layout.begun_with()
        cell = next(cell for cell in suite.expanded() if cell.name == arguments[1])
        measure_cell(suite, cell, load_data(data_folder), layout)
    except LlmrecError as error:
        print(f"llmrec: {error}", file=sys.stderr)
        return 2
    return 0


def measure_cell(suite: SuiteFile, cell: Cell, data: Data, layout: Layout) -> None:
    """Trains what is to be trained, asks every test example of the task, and keeps the result."""
    task = load_any_task(layout.task(cell.task))
    check_fits(cell, task)
    if isinstance(task, ClicksTask):
        result = _clicks(cell, data, task, layout, suite.cost_seconds)
    else:
        result = _next_item(cell, data, task, layout, suite.cost_seconds)
    facts = {
        **provenance(f"llmrec suite {suite.name}", cell.seed),
        "cell": cell.cells.model_dump(mode="json"),
        "digest": layout.digest(suite, cell),
        "cpu_minutes": cpu_minutes(),
    }
    save_cell(layout.cell(cell.name), result, facts)


def check_fits(cell: Cell, task: Task) -> None:
    """Raises ConfigError for a cell that cannot answer the task."""
    cells = cell.cells
    if not isinstance(cells, Ctr | Tuned):
        return
    answers_clicks = isinstance(cells, Ctr) or cells.recipe == "clicks"
    if isinstance(task, ClicksTask) == answers_clicks:
        return
    what = f"the recipe {cells.recipe}" if isinstance(cells, Tuned) else f"a cell of the kind {cells.kind}"
    raise ConfigError(
        f"the cell '{cell.name}' does not fit the task '{cell.task}': {what} answers "
        f"{'clicks' if answers_clicks else 'which item comes next'}, and the task is of the kind '{task.kind}'."
    )


def cpu_minutes() -> float:
    """Of this process and those it waited for, over all threads."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) / 60


# -- clicks ---------------------------------------------------------------------------------------------------------------------
def _clicks(cell: Cell, data: Data, task: ClicksTask, layout: Layout, cost_seconds: float) -> Result:
    from llmrec.evaluation.clicks import ask_clicks, click_protocol

    split, cells = task.make(data), cell.cells
    protocol = click_protocol(data, task, split, "test", split.test)
    search, known = None, Cost()
    if isinstance(cells, Ctr):
        from llmrec.ctr.from_task import ctr_settings, train_ctr_from_task

        settings, search = _searched(cell, cells, split, task, data, layout)
        chosen = ctr_settings(cell.model, [*settings, f"seed={cell.seed}"])
        scorer: ClickScorer = train_ctr_from_task(data, split, chosen, folder=layout.work(cell.name))
        known = Cost(training_cpu_minutes=scorer.fit_cpu_minutes)
    elif isinstance(cells, ByName):
        from llmrec.baselines.click_means import make_click_baseline

        scorer = make_click_baseline(cell.model, cells.settings).fit(split)
    elif isinstance(cells, Asked):
        from llmrec.evaluation.asked.open import open_asked

        scorer = open_asked(_asked_settings(cell), data, task, split)
    else:
        scorer, known = _trained(cells, cell, data, layout)
    kind = "baseline" if isinstance(cells, Ctr | ByName) else "model"
    with layout.answers(cell) as work:
        result = ask_clicks(scorer, split.test, protocol, task, kind=kind, work=work)
    return _completed(result, scorer, split.test, search, known, cost_seconds)


# -- the next item --------------------------------------------------------------------------------------------------------------
def _next_item(cell: Cell, data: Data, task: NextItemTask, layout: Layout, cost_seconds: float) -> Result:
    from llmrec.evaluation.code_hits import codes_of
    from llmrec.evaluation.runner import evaluate

    split, cells = task.make(data), cell.cells
    search, known = None, Cost()
    if isinstance(cells, ByName):
        from llmrec.baselines.baseline import fitted_on
        from llmrec.baselines.by_name import baseline_type, make_baseline

        settings, search = _searched(cell, cells, split, task, data, layout)
        has_seed = "seed" in baseline_type(cell.model).Settings.model_fields
        made = make_baseline(cell.model, [*settings, *([f"seed={cell.seed}"] if has_seed else [])], data.catalog)
        ranker: Ranker = fitted_on(made, split, task.fit, folder=layout.work(cell.name))
    elif isinstance(cells, Asked):
        from llmrec.evaluation.asked.open import open_asked

        ranker = open_asked(_asked_settings(cell), data, task, split)
    else:
        ranker, known = _trained(cells, cell, data, layout)
    codes = codes_of(layout.work(cell.name)) if isinstance(cells, Tuned) else None
    with layout.answers(cell) as work:
        result = evaluate(ranker, data, task, split=split, work=work, codes=codes)
    return _completed(result, ranker, Requests.from_instances(split.test), search, known, cost_seconds)


# -- shared ---------------------------------------------------------------------------------------------------------------------
def _trained(cells: Tuned, cell: Cell, data: Data, layout: Layout) -> tuple[Any, Cost]:
    """The recipe's run, trained now or gone on with, and its recommender."""
    run = layout.work(cell.name)
    recipes = resource_path("recipes")
    config = (
        [] if cells.config is None else ["--config", str(recipes / "configs" / cells.recipe / f"{cells.config}.yaml")]
    )
    task = layout.task(cell.task)
    settings = [f"data={data.folder}", f"output={run}", f"{TASK_SETTINGS[cells.recipe]}={task}", f"seed={cell.seed}"]
    command = [sys.executable, str(recipes / f"{cells.recipe}.py"), *config, *settings, *cells.settings]
    status = subprocess.run(command, env=with_parent(), check=False).returncode
    if status:
        raise ConfigError(f"the training of '{cell.name}' ended with status {status}: see what it says above.")
    if cells.recipe == "sequential":
        from llmrec.artifacts.sequential_run import load_sequential

        return load_sequential(run).recommender, training_cost(run)
    from llmrec.artifacts.run_folder import load_artifact
    from llmrec.recommenders.generative import recommender_of

    return recommender_of(load_artifact(run), num_beams=cells.num_beams), training_cost(run)


def _asked_settings(cell: Cell) -> AskedSettings:
    from llmrec.evaluation.asked.settings import AskedSettings

    return load_config(AskedSettings, None, [f"model={cell.model}", f"seed={cell.seed}", *cell.cells.settings])


def _searched(
    cell: Cell, cells: Ctr | ByName, split: Split | ClickSplit, task: Task, data: Data, layout: Layout
) -> tuple[list[str], dict[str, Any] | None]:
    """The settings that validation chose, for all seeds the same, and what the search says of itself; None without one."""
    if cells.trials == 1:
        return list(cells.settings), None
    from llmrec.evaluation.tuning import tuned_baseline

    folder = layout.work(f"{cell.group}-trials")
    tuned = tuned_baseline(
        cell.model, split, task, data, trials=cells.trials, given=cells.settings, folder=folder
    )  # fmt: skip
    print(tuned.sentence)
    return tuned.overrides, tuned.card


def _completed(
    result: Result, model: Any, asked: Any, search: dict[str, Any] | None, known: Cost, seconds: float
) -> Result:
    """The result with its cost, and with how its settings were searched on the model's card."""
    card = result.protocol["recommender"] | ({} if search is None else {"tuning": search})
    cost = measure_cost(model, asked, known=known, seconds=seconds) if seconds else known
    return replace(result, protocol={**result.protocol, "recommender": card}, cost=cost)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
