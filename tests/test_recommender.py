"""The outer Recommender: item ids in, real items out, whole artifacts only."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import HFValidationError
from safetensors.numpy import load_file, save_file

import llmrec
from llmrec import recommender as module
from llmrec.artifacts import copies
from llmrec.baselines.popularity import Popularity
from llmrec.data.folder import load_data
from llmrec.errors import ArtifactError, ConfigError, LlmrecError, ModelError, RequestError
from llmrec.recommender import Recommender
from llmrec.recommenders.diversity import MMR, SSD

HISTORY = ["50", "181", "172", "1"]


@pytest.fixture(scope="module")
def one_token(tiny_run) -> Recommender:
    """Scores all items at once."""
    return Recommender.from_pretrained(tiny_run)


@pytest.fixture(scope="module")
def by_beams(tiny_code_run) -> Recommender:
    """Writes items code by code."""
    return Recommender.from_pretrained(tiny_code_run)


@pytest.fixture(params=["one_token", "by_beams"])
def recommender(request) -> Recommender:
    return request.getfixturevalue(request.param)


def ids(found) -> list[str]:
    return [item.item_id for item in found]


def test_only_new_real_items_come_out_best_first(recommender):
    found = recommender.recommend(HISTORY, k=10)
    assert len(set(ids(found))) == 10 and not set(ids(found)) & set(HISTORY)
    titles = dict(zip(recommender.catalog.item_ids, recommender.catalog.titles, strict=True))
    assert [item.title for item in found] == [titles[item_id] for item_id in ids(found)]
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True) and all(isinstance(score, float) for score in scores)


def test_a_batch_gives_what_single_requests_give(recommender):
    histories = [HISTORY, [], ["7"], [str(item) for item in range(1, 60)]]
    together = recommender.recommend_batch(histories, k=5)
    alone = [recommender.recommend(history, k=5) for history in histories]
    assert [ids(found) for found in together] == [ids(found) for found in alone]
    assert recommender.recommend_batch([]) == []
    assert [[item.score for item in found] for found in together] == [
        pytest.approx([item.score for item in found], abs=1e-4) for found in alone
    ]


def test_many_users_are_asked_about_a_few_at_a_time(one_token, monkeypatch):
    histories = [HISTORY, [], ["7"], ["50"], ["1", "2"]]
    whole = one_token.recommend_batch(histories, k=5)
    asked, rank = [], one_token.ranker.rank
    monkeypatch.setattr(one_token.ranker, "rank", lambda r, *a, **k: asked.append(len(r)) or rank(r, *a, **k))
    monkeypatch.setattr(module, "SCORES_A_CALL", 2 * one_token.catalog.num_items)
    assert [ids(found) for found in one_token.recommend_batch(histories, k=5)] == [ids(found) for found in whole]
    assert asked == [2, 2, 1]


def test_candidates_are_all_that_comes_out_and_seen_ones_only_where_asked_for(recommender):
    candidates = ["181", "2", "3", "4", "2"]
    assert set(ids(recommender.recommend(HISTORY, candidates=candidates))) == {"2", "3", "4"}
    assert set(ids(recommender.recommend(HISTORY, candidates=candidates, exclude_seen=False))) == {"181", "2", "3", "4"}


def test_scores_of_candidates_are_those_of_the_ranking(recommender):
    found = recommender.recommend(HISTORY, k=10, exclude_seen=False)
    assert recommender.score(HISTORY, ids(found)) == pytest.approx([item.score for item in found], abs=1e-4)


def test_rules_leave_only_what_they_say(recommender):
    rows = {row["item_id"]: row for row in recommender.catalog.table.to_pylist()}
    histories = [HISTORY, [], ["7"]]
    for found in recommender.recommend_batch(histories, k=20, where=["genres=Drama", "year<=1995"], exclude=["64"]):
        assert len(found) == 20 and "64" not in ids(found)
        assert all("Drama" in rows[item]["genres"] and int(rows[item]["year"]) <= 1995 for item in ids(found))
    stocked = recommender.recommend(HISTORY, in_stock=["1", "2", "3", "9999"])
    assert set(ids(stocked)) == {"2", "3"}  # 1 was seen; 9999 is of a catalogue to come


def test_scores_of_many_users_are_those_of_each_alone(recommender):
    histories, candidates = [HISTORY, [], ["7"]], [["1", "2"], ["50"], ["4", "3", "50", "100"]]
    together = recommender.score_batch(histories, candidates)
    for history, wanted, scores in zip(histories, candidates, together, strict=True):
        assert recommender.score(history, wanted) == pytest.approx(scores, abs=1e-4)
    assert recommender.score_batch([], []) == []
    with pytest.raises(RequestError, match="one list of candidates for each of the 2 histories, not 1"):
        recommender.score_batch([["1"], ["2"]], [["3"]])


def test_more_than_there_is_gives_all_there_is(one_token):
    found = one_token.recommend(HISTORY, k=10_000)
    assert len(found) == one_token.catalog.num_items - len(HISTORY)


def test_of_a_history_longer_than_the_model_reads_the_latest_count(recommender):
    long = recommender.catalog.item_ids * 2  # thousands of items; the runs read 20
    assert ids(recommender.recommend(long, k=5, exclude_seen=False)) == ids(
        recommender.recommend(long[-20:], k=5, exclude_seen=False)
    )


def test_saved_and_loaded_it_recommends_the_same(recommender, tmp_path):
    before = recommender.recommend(HISTORY, k=10)
    for _ in range(2):  # an older artifact is replaced
        recommender.save_pretrained(tmp_path / "copy")
    again = Recommender.from_pretrained(tmp_path / "copy")
    found = again.recommend(HISTORY, k=10)
    assert ids(found) == ids(before)
    assert [item.score for item in found] == pytest.approx([item.score for item in before], abs=1e-5)
    again.save_pretrained(tmp_path / "copy")  # onto itself: nothing to do
    kinds = {path.suffix for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".parquet", ".json", ".yaml", ".md"}


def test_saving_never_deletes_what_is_no_artifact(one_token, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ArtifactError, match="left as it is"):
            one_token.save_pretrained(place)
    with pytest.raises(LlmrecError, match="cannot write"):
        one_token.save_pretrained(tmp_path / "thesis.tex" / "below")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_any_ranker_can_stand_inside(few_users, tmp_path):
    data = load_data(few_users)
    recommender = Recommender(Popularity().fit(data.interactions), data.catalog)
    order = np.argsort(-data.interactions.counts(), kind="stable")
    best, second = (data.catalog.item_ids[item] for item in order[:2])
    assert ids(recommender.recommend([best], k=1)) == [second]
    with pytest.raises(ArtifactError, match="made in memory"):
        recommender.save_pretrained(tmp_path / "copy")


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda r: r.recommend(["5o"]), "no item id '5o'. The nearest ids are: '5'"),
        (lambda r: r.recommend([50]), "holds 50, a int. Write '50' if that is the id"),
        (lambda r: r.recommend([np.int32(50)]), "a int32"),
        (lambda r: r.recommend("50"), r"Write \['50'\]"),
        (lambda r: r.recommend_batch(["50"]), r"Write \['50'\]"),
        (lambda r: r.recommend(HISTORY, k=0), "k counts the items"),
        (lambda r: r.recommend(HISTORY, candidates=[]), "list of candidates is empty"),
        (lambda r: r.recommend(HISTORY, candidates=["nope"]), "no item id 'nope'"),
        (lambda r: r.score(HISTORY, []), "list of candidates is empty"),
        (lambda r: r.recommend_batch([HISTORY], instructions=["a", "b"]), "one entry for each of the 1 histories"),
        (lambda r: r.recommend(None), "a history should come as a list of ids, but None came"),
        (lambda r: r.recommend({"50": 1}), "a history should come as a list of ids, but {'50': 1} \\(dict\\) came"),
        (lambda r: r.recommend({"50"}), "a history has an order, oldest first, but a set came"),
        (lambda r: r.recommend(["50", None]), "holds None, a NoneType"),
        (lambda r: r.recommend(item for item in HISTORY), "a history should come as a list of ids, but <generator"),
        (lambda r: r.recommend(b"50"), "a history should come as a list of ids"),
        (lambda r: r.recommend(np.array("50")), "a history should come as a list of ids"),
        (lambda r: r.recommend(HISTORY, k=2.0), r"a whole number, 1 or more, but it is 2.0 \(float\)"),
        (lambda r: r.recommend(HISTORY, k="2"), r"a whole number, 1 or more, but it is '2' \(str\)"),
        (lambda r: r.recommend(HISTORY, k=None), "1 or more, but it is None"),
        (lambda r: r.recommend(HISTORY, k=True), r"but it is True \(bool\)"),
        (lambda r: r.recommend(HISTORY, k=float("nan")), "but it is nan"),
        (
            lambda r: r.recommend(HISTORY, exclude_seen="false"),
            "exclude_seen should be True or False, but it is 'false'",
        ),
        (
            lambda r: r.recommend(HISTORY, exclude=None),
            "the excluded items should come as a list of ids, but None came",
        ),
        (lambda r: r.recommend(HISTORY, exclude=[None]), "holds None"),
        (lambda r: r.recommend(HISTORY, candidates="50"), r"Write \['50'\]"),
        (lambda r: r.recommend(HISTORY, candidates=7), "the candidates should come as a list of ids, but 7"),
        (lambda r: r.recommend(HISTORY, in_stock=7), "the items in stock should come as a list of ids, but 7"),
        (
            lambda r: r.recommend(HISTORY, where=None),
            "a filter should be a text such as 'genres=Comedy'.*but it is None",
        ),
        (lambda r: r.recommend(HISTORY, where=[3]), "a filter should be a text"),
        (lambda r: r.recommend(HISTORY, where={"genres": "Comedy"}), "a filter should be a text"),
        (lambda r: r.recommend(HISTORY, diversity="mmr:0.3"), r"diversity should be MMR\(...\), SSD\(...\) or None"),
        (lambda r: r.recommend(HISTORY, instruction=5), r"an instruction should be a text, but it is 5 \(int\)"),
        (lambda r: r.recommend_batch(None), "the histories should come as a list, one entry per user, but None came"),
        (lambda r: r.recommend_batch("50"), "the histories should come as a list, one entry per user, but '50'"),
        (lambda r: r.recommend_batch({"u": HISTORY}), "the histories should come as a list"),
        (lambda r: r.recommend_batch([HISTORY, None]), "a history should come as a list of ids, but None came"),
        (lambda r: r.recommend_batch([HISTORY], instructions="x"), "the instructions should come as a list"),
        (lambda r: r.score(HISTORY, None), "the candidates should come as a list of ids, but None came"),
        (lambda r: r.score(HISTORY, "50"), r"Write \['50'\]"),
        (lambda r: r.score(None, ["50"]), "a history should come as a list of ids"),
        (lambda r: r.score(HISTORY, [1]), "holds 1, a int"),
        (lambda r: r.score_batch([HISTORY], None), "the candidates should come as a list"),
        (lambda r: r.score_batch(None, [["50"]]), "the histories should come as a list"),
        (lambda r: r.explain(None, "1"), "a history should come as a list of ids"),
        (lambda r: r.explain(HISTORY, None), "the item should be a list of item ids.*holds None"),
        (lambda r: r.explain(HISTORY, ["7"]), "the item should be a list of item ids.*holds \\['7'\\]"),
        (lambda r: r.replace_image(None, "a.png"), "the item should be a list of item ids.*holds None"),
        (lambda r: r.replace_image("50", None), "the image should come as a path, but it is None"),
        (lambda r: r.save_pretrained(None), "the folder to write should come as a path, but it is None"),
        (lambda r: r.push_to_hub(None), "a model of the hub is named by a text, 'owner/name', but it is None"),
        (
            lambda r: r.explain(HISTORY, "7", 5),
            "a language model is named by a text, or None for the run's own, but it is 5",
        ),
        (lambda r: r.from_pretrained(None), "the run folder should come as a path, but it is None"),
    ],
)
def test_a_request_that_cannot_be_answered_is_said_in_words(one_token, ask, sentence):
    with pytest.raises(RequestError, match=sentence):
        ask(one_token)


def test_numbers_and_collections_of_numpy_are_taken_as_pythons_own(one_token):
    expected = one_token.recommend(HISTORY, k=3, candidates=["2", "3", "4", "7"], exclude=["7"])
    taken = one_token.recommend(np.array(HISTORY), k=np.int32(3), candidates=np.array(["2", "3", "4", "7"]),
                                exclude={"7"}, exclude_seen=np.True_)  # fmt: skip
    assert taken == expected and len(taken) == 3
    assert one_token.recommend(tuple(HISTORY), k=np.int64(3), candidates={"2": 0, "3": 0, "4": 0}.keys()) == expected
    assert one_token.score(np.array(HISTORY), ("2",)) == pytest.approx(one_token.score(HISTORY, ["2"]))


def test_an_instruction_the_prompt_has_no_place_for_is_not_lost_silently(recommender):
    with pytest.raises(ConfigError, match=r"no \{\{ instruction \}\}"):
        recommender.recommend(HISTORY, instruction="something light")


def test_settings_that_do_not_exist_are_said_in_words(tiny_run):
    with pytest.raises(ConfigError, match="the device 'abacus' cannot be used"):
        Recommender.from_pretrained(tiny_run, device="abacus")
    for setting, value, sentence in (
        ("num_beams", 0, "num_beams should be 1 or more"),
        ("num_beams", "4", "a whole number, but it is '4'"),
        ("num_beams", 2.0, "a whole number, but it is 2.0"),
        ("prompt_cache_mib", -1, "prompt_cache_mib should be 0 or more"),
        ("dtype", "float32", "dtype should be one of torch's, such as torch.float32, or None, but it is 'float32'"),
        ("device", "", "the device '' cannot be used"),
        ("engine", "jax", "engine should be torch or vllm, but it is 'jax'"),
        (
            "engine_options",
            {"seed": 1},
            "engine_options and align_prompts are settings of vLLM, but the engine is torch",
        ),
    ):
        with pytest.raises(ConfigError, match=sentence):
            Recommender.from_pretrained(tiny_run, **{setting: value})
    for make in (lambda: MMR("0.3"), lambda: SSD(0.5, 2.5), lambda: SSD(float("inf"))):
        with pytest.raises(ConfigError, match="but it is"):
            make()


def edit_manifest(model, **changes):
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip_last_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shorten_table(path):
    save_file({name: value[:3] if value.ndim else value for name, value in load_file(path).items()}, path)


def turn_round(path):
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), path)


HOSTILE = """
name: bare
task: next_item
kind: plain
variables: [history]
template: "{% for item in history %}{{ item }}{% endfor %}{{ ''.__class__.__mro__ }}"
"""


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda m: edit_manifest(m, format_version=99), "format version 3 .*found 99"),
        (lambda m: edit_manifest(m, protocol=None), "does not say what the run was trained on"),
        (lambda m: edit_manifest(m, dtype="float1"), "damaged or was changed"),
        (lambda m: (m / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda m: cut_short(m / "item_table.safetensors"), "damaged or was changed"),
        (lambda m: cut_short(m / "adapter" / "adapter_model.safetensors"), "damaged or was changed"),
        (lambda m: (m / "item_table.safetensors").unlink(), "damaged or was changed"),
        (lambda m: shorten_table(m / "item_table.safetensors"), "damaged or was changed"),
        (lambda m: (m / "adapter" / "adapter_model.safetensors").unlink(), "adapter_model.safetensors' is missing"),
        (lambda m: save_file({}, m / "more.safetensors"), "'more.safetensors' was not written with it"),
        (lambda m: flip_last_bit(m / "item_table.safetensors"), "'item_table.safetensors' does not hold the bytes"),
        (lambda m: flip_last_bit(m / "adapter" / "adapter_model.safetensors"), "adapter_model.safetensors' does not hold"),
        (lambda m: edit_json(m / "adapter" / "adapter_config.json", r=10**8), "r 100000000 .* does not belong to the adapter"),
        (lambda m: edit_json(m / "adapter" / "adapter_config.json", rank_pattern={"q_proj": 10**8}), "sets rank_pattern"),
        (lambda m: edit_json(m / "adapter" / "adapter_config.json", lora_dropout=float("nan")), "does not belong to the adapter"),
        (lambda m: (m / "manifest.json").write_text('{"a":' * 100_000), "nested too deep"),
        (lambda m: edit_manifest(m, max_tokens=10**9), "max_tokens '1000000000', but this llmrec knows less than"),
        (lambda m: edit_manifest(m, adapters={"prefix": {"num_tokens": 5}}), "prefix.safetensors'; loading it failed"),
        (lambda m: (m / "adapter" / "adapter_config.json").unlink(), "adapter_config.json is missing"),
        (lambda m: turn_round(m / "items.parquet"), "not the catalogue this run was trained on"),
        (lambda m: edit_manifest(m, form="sound"), "the form 'sound', but this llmrec knows text, unique_id, semantic_id"),
        (lambda m: edit_manifest(m, softmax_scope="wild"), "the softmax_scope 'wild', but this llmrec knows vocabulary, level"),
        (lambda m: cut_short(m / "items.parquet"), "could not be read as the catalog"),
        (lambda m: (m / "prompt.yaml").write_text(HOSTILE), "reads the attribute '__class__'|attribute '__mro__'"),
        (lambda m: (m / "prompt.yaml").write_text("name: [oh"), "not valid YAML"),
        (lambda m: (m / "prompt.yaml").write_text((m / "prompt.yaml").read_text().replace("bare", "bear", 1)),
         "not the prompt this run was trained with"),
    ],
)  # fmt: skip
def test_a_damaged_artifact_is_refused_in_words(tiny_run, tmp_path, damage, sentence):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(LlmrecError, match=sentence):
        Recommender.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda m: cut_short(m / "item_table.safetensors"), "damaged or was changed"),
        (lambda m: cut_short(m / "adapter" / "adapter_model.safetensors"), "expected a LoRA adapter"),
        (lambda m: (m / "item_table.safetensors").unlink(), "damaged or was changed"),
        (lambda m: shorten_table(m / "item_table.safetensors"), "damaged or was changed"),
        (lambda m: (m / "adapter" / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda m: None, None),
    ],
)
def test_a_run_without_checksums_loads_and_is_checked_by_what_its_files_say(tiny_run, tmp_path, damage, sentence):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert set(manifest.pop("weights")) == {"item_table.safetensors", "adapter/adapter_model.safetensors"}
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(manifest))
    damage(tmp_path / "model")
    if sentence is None:
        history = Recommender.from_pretrained(tiny_run).catalog.item_ids[:3]
        ours, before = (Recommender.from_pretrained(run).recommend(history) for run in (tmp_path, tiny_run))
        assert ours == before
    else:
        with pytest.raises(LlmrecError, match=sentence):
            Recommender.from_pretrained(tmp_path)


def test_a_run_on_a_users_own_checkpoint_finds_it_wherever_it_lies(
    one_token, tiny_run, tiny_model, tmp_path, monkeypatch
):
    shutil.copytree(tiny_run / "model", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    name = manifest["backbone"]["name"]
    assert name == manifest["source"]["name"] and "/" not in name
    edit_manifest(tmp_path / "run", backbone={**manifest["backbone"], "folder": str(tmp_path / "gone")})
    with pytest.raises(ArtifactError, match=rf"trained on the checkpoint '{name}' .*LLMREC_MODELS=FOLDER"):
        Recommender.from_pretrained(tmp_path / "run")
    shutil.copytree(tiny_model, tmp_path / "models" / name)
    monkeypatch.setenv("LLMREC_MODELS", str(tmp_path / "models"))
    assert Recommender.from_pretrained(tmp_path / "run").recommend(HISTORY) == one_token.recommend(HISTORY)


def test_a_run_of_the_format_before_gives_the_same(tiny_run, tmp_path, one_token):
    """Format 2 had other names for three facts, and no checksums."""
    shutil.copytree(tiny_run, tmp_path / "run")
    path = tmp_path / "run" / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    for today, before in (
        ("softmax_scope", "score_rule"),
        ("prompt_forms", "mention_forms"),
        ("full_fine_tuning", "trained_whole"),
    ):
        manifest[before] = manifest.pop(today)
    del manifest["weights"]
    path.write_text(json.dumps({**manifest, "format_version": 2}))
    assert Recommender.from_pretrained(tmp_path / "run").recommend(HISTORY) == one_token.recommend(HISTORY)


def test_a_run_of_before_test_instances_had_their_name_is_paired_and_evaluated(tiny_run, few_users, tmp_path):
    from llmrec.artifacts.run_folder import read_manifest
    from llmrec.data.folder import load_data
    from llmrec.data.splits import leave_one_out
    from llmrec.evaluation.runs import check_belongs, check_pair

    shutil.copytree(tiny_run, tmp_path / "run")
    path = tmp_path / "run" / "model" / "manifest.json"
    path.write_text(path.read_text().replace('"instances":', '"cases":'))
    assert '"cases":' in path.read_text()
    check_pair(tiny_run, tmp_path / "run")
    data = load_data(few_users)
    check_belongs(read_manifest(tmp_path / "run"), data, leave_one_out(data.interactions))


def test_a_folder_that_is_no_artifact_is_refused_in_words(tmp_path):
    for folder, sentence in ((tmp_path, "holds none"), (tmp_path / "nowhere", "does not exist")):
        with pytest.raises(ArtifactError, match=sentence):
            Recommender.from_pretrained(folder)


def test_uploading_says_where_the_hub_cannot_be_reached_or_refuses(one_token, monkeypatch):
    monkeypatch.setattr(copies, "hub_reachable", lambda: False)
    with pytest.raises(ModelError, match="cannot be reached from here, so 'me/films' was not uploaded"):
        one_token.push_to_hub("me/films")

    class Refusing:
        def create_repo(self, repo_id, **_):
            raise HFValidationError(f"bad name: {repo_id}")

    monkeypatch.setattr(copies, "hub_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(ModelError, match="did not take 'me/films': bad name"):
        one_token.push_to_hub("me/films")


def test_uploading_sends_the_model_folder_and_keeps_it_private(one_token, monkeypatch):
    calls = []

    class Hub:
        def create_repo(self, repo_id, *, private, exist_ok):
            calls.append((repo_id, private, exist_ok))
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, repo_id, folder_path):
            calls.append((repo_id, folder_path))

    monkeypatch.setattr(copies, "hub_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert one_token.push_to_hub("me/films") == "https://hub/me/films"
    assert calls == [("me/films", True, True), ("me/films", one_token.folder)]


def test_importing_the_package_loads_no_torch_until_the_class_is_used():
    code = (
        "import sys, llmrec; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules); "
        "llmrec.Recommender; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert llmrec.Recommender is Recommender
    with pytest.raises(AttributeError, match="has no attribute 'Recomender'"):
        llmrec.Recomender  # noqa: B018


def test_many_threads_get_the_answers_of_one(tiny_code_run):
    recommender = Recommender.from_pretrained(tiny_code_run)
    histories = [["50", "181"], ["1"], ["172", "174", "50"], []] * 3
    expected = [ids(recommender.recommend(history, k=5)) for history in histories]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda history: ids(recommender.recommend(history, k=5)), histories))
    assert found == expected
