"""One way to a model that was never trained here, whatever it is asked; what does not fit is said in a sentence."""

import pytest

from llmrec.data.folder import load_data
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation.asked.open import open_asked
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.tasks import load_any_task


@pytest.mark.parametrize(
    ("task", "prompt", "kind"),
    [
        ("clicks", "click/recbench_plain", "AskedClicks"),
        ("sampled_candidates_shuffled", "choose/number_plain", "AskedCandidates"),
        ("leave_one_out", "next_item/instruction", "AskedNextItem"),
    ],
)
def test_the_task_decides_what_is_asked(few_users, tiny_model, task, prompt, kind):
    data, task = load_data(few_users), load_any_task(task)
    settings = AskedSettings(
        model=tiny_model, prompt=prompt, device="cpu", max_title_tokens=8, max_history=2, max_tokens=1000
    )
    assert type(open_asked(settings, data, task, task.make(data))).__name__ == kind


@pytest.mark.parametrize(
    ("task", "changed", "error", "says"),
    [
        ("sampled_candidates", {}, ConfigError, "lists the target first"),
        ("clicks", {"base_url": "http://127.0.0.1:9/v1"}, ConfigError, "the provider is not openai"),
        ("clicks", {"provider": "openai"}, ConfigError, "is named by its URL"),
        ("clicks", {"prompt": "next_item/instruction"}, ConfigError, "belongs to the task next_item"),
        ("clicks", {"prompt": "click/chat"}, ConfigError, "has no chat template"),
        ("leave_one_out", {"provider": "openai", "base_url": "http://127.0.0.1:9/v1"}, ConfigError, "needs the model itself"),
        ("leave_one_out", {"shots": 2}, ConfigError, "users who are not asked"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_a_sentence(few_users, tiny_model, task, changed, error, says):
    data, task = load_data(few_users), load_any_task(task)
    with pytest.raises(error, match=says):
        open_asked(AskedSettings(**{"model": tiny_model, "device": "cpu"} | changed), data, task, task.make(data))


def test_a_folder_that_holds_no_model_is_one(few_users, tmp_path):
    data, task = load_data(few_users), load_any_task("clicks")
    with pytest.raises(ModelError) as caught:
        open_asked(AskedSettings(model=str(tmp_path)), data, task, task.make(data))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
