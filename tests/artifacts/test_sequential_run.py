"""A network of item sequences as a run: saved whole, loaded with checks, asked like any other, and grown by items it never saw."""

import json
import shutil

import numpy as np
import pytest

from llmrec.artifacts.new_items import add_items
from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.artifacts.sequential_run import SequentialRun, load_sequential, save_sequential
from llmrec.backbones.model_files import weight_checksums
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.interactions import Histories
from llmrec.errors import ArtifactError, ConfigError, DataError, LlmrecError, RequestError
from llmrec.evaluation.tasks import load_task
from llmrec.recommender import Recommender
from llmrec.recommenders.diversity import MMR
from llmrec.recommenders.requests import Requests
from llmrec.sequential.recommender import SequentialRecommender, make_network
from llmrec.sequential.settings import SasRecSettings, SequentialSettings
from tests.apps.calling import assert_one_sentence, call
from tests.apps.http.running import serving
from tests.artifacts import sequential_runs
from tests.artifacts.sequential_runs import RealRun, nearest_seen

FILES = ["README.md", "items.parquet", "manifest.json", "network.safetensors", "tf_idf/text/tf_idf.json",
         "tf_idf/text/tf_idf.safetensors"]  # fmt: skip


@pytest.fixture(scope="module")
def real(bench_data, tmp_path_factory) -> RealRun:
    return sequential_runs.train(tmp_path_factory.mktemp("sequential"), bench_data)


@pytest.fixture(scope="module")
def grown(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown") / "run"
    return add_items(real.folder, real.new, out=folder)


@pytest.fixture
def copy(real, tmp_path):
    shutil.copytree(real.folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def opened(real) -> Recommender:
    return Recommender.from_pretrained(real.folder)


@pytest.fixture(scope="module")
def history(opened) -> list[str]:
    return opened.catalog.item_ids[100:104]


def tiny_run(features: int | None) -> SequentialRun:
    """Untrained, of six items; features: how wide the matrix is that knows them, None for none."""
    settings = SequentialSettings(dim=8) if features else SasRecSettings(dim=8)
    network = make_network(settings, 6, {} if features is None else {"mine": features})
    if features:
        network.inputs.frozen("mine").fit(np.random.default_rng(0).normal(size=(6, features)), np.ones(6, bool))
    catalog = Catalog.from_rows([{"item_id": str(n), "title": f"Item {n}"} for n in range(6)])
    sources = {} if features is None else {"mine": {"matrix": "mine"}}
    return SequentialRun(SequentialRecommender(network.eval(), settings, {}), catalog, sources, {})


def test_what_is_saved_ranks_and_scores_as_before(tmp_path):
    run = tiny_run(3)
    save_sequential(tmp_path / "model", run, {"seed": 0})
    loaded = load_sequential(tmp_path)
    asked = Requests(Histories.from_lists([[0, 3], [5], []]))
    assert (loaded.recommender.scores(asked) == run.recommender.scores(asked)).all()
    assert loaded.recommender.card == run.recommender.card and loaded.sources == run.sources
    assert (loaded.recommender.item_vectors() == run.recommender.item_vectors()).all()
    save_sequential(tmp_path / "model", tiny_run(None), {"seed": 1})  # in place of the older one
    assert load_sequential(tmp_path).recommender.settings == SasRecSettings(dim=8)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(LlmrecError, match="holds something else"):
        save_sequential(tmp_path / "other", run, {})
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_run_holds_all_it_needs_in_safe_formats(real):
    model = real.folder / "model"
    assert sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()) == FILES
    manifest = read_manifest(real.folder)
    assert manifest["kind"] == "sequential" and manifest["protocol"]["fit"] == "train"
    assert manifest["sources"]["text"] == {
        "encoder": "tf_idf", "fields": ["title", "categories", "keywords"], "max_tokens": 256,
    }  # fmt: skip
    card = (model / "README.md").read_text()
    assert "no language model" in card and "tf_idf" in card and "content_hash" in card


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("network.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9]), "does not hold the bytes"),
        ("tf_idf/text/tf_idf.safetensors", lambda path: path.unlink(), "is missing"),
        ("items.parquet", lambda path: path.write_bytes(path.read_bytes()[:99]), "items.parquet"),
        ("tf_idf/text/tf_idf.json", lambda path: path.write_text('{"format_version": 1, "words": ["a"]}'), "TF-IDF"),
        ("manifest.json", lambda path: path.write_text("{"), "not valid JSON"),
    ],
)
def test_a_damaged_run_is_refused_in_a_sentence(copy, capsys, name, change, sentence):
    change(copy / "model" / name)
    with pytest.raises(LlmrecError, match=sentence):
        load_sequential(copy)
    assert_one_sentence(call(capsys, "recommend", copy), sentence)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"format_version": 2}, "expected a run of format version 1"),
        ({"kind": "oracle"}, "of the kind 'oracle', but this llmrec knows language_model, sequential"),
        ({"kind": "language_model"}, "expected a run of format version 3"),
        ({"settings": {"dim": 10**6}}, "of the sizes that manifest.json says"),
        ({"settings": {"num_layers": 10**9}}, "of the sizes that manifest.json says"),
        ({"settings": {"width": 3}}, "a complete run"),
        ({"network": "mine"}, "has the network 'mine'"),
        ({"widths": {"text": 7}}, "of the sizes that manifest.json says"),
        ({"num_items": 5}, "is not the catalogue of this run"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused_before_anything_is_built(copy, said, sentence):
    path = copy / "model" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    with pytest.raises(ArtifactError, match=sentence):
        load_sequential(copy)


def test_a_run_answers_like_any_other(opened, history, real, tmp_path, capsys):
    found = opened.recommend(history, k=5)
    assert len(found) == 5 and not {item.item_id for item in found} & set(history)
    scores = opened.score(history, [item.item_id for item in found])
    assert np.allclose(scores, [item.score for item in found], atol=1e-4)
    spread = opened.recommend(history, k=5, diversity=MMR(0.9))
    assert [item.item_id for item in spread] != [item.item_id for item in found]
    explained = opened.explain(history, found[0].item_id)
    assert "no language model of its own" in explained.note and explained.evidence.rank == 1
    opened.save_pretrained(tmp_path / "copied")
    assert Recommender.from_pretrained(tmp_path / "copied").recommend(history, k=5) == found
    asked = [word for item in history for word in ("--history", item)]
    listed = call(capsys, "recommend", real.folder, *asked, "-k", "5", "--json").json["recommendations"]
    assert [item["item_id"] for item in listed] == [item.item_id for item in found]
    scored = call(capsys, "score", real.folder, *asked, "--candidate", found[2].item_id, "--json").json
    assert scored["scores"][0]["score"] == pytest.approx(found[2].score, abs=1e-4)


def test_who_has_met_nothing_is_asked_as_the_mean_of_all_who_have_met_one_item():
    recommender = tiny_run(3).recommender
    recommender.network.seen[4] = False
    ones = recommender.scores(Requests(Histories.from_lists([[0], [1], [2], [3], [5]])))
    found = recommender.scores(Requests(Histories.from_lists([[2, 1], []])))
    assert np.allclose(found[1], ones.mean(axis=0), atol=1e-5) and np.ptp(found[1]) > 0


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"num_beams": 5}, "num_beams is a setting of language models. Leave it out"),
        ({"engine": "vllm", "softmax_scope": "trie"}, "softmax_scope and engine are settings of language models"),
        ({"decoding": "grounding"}, "decoding is a setting of language models"),
        ({"device": "abacus"}, "the device 'abacus' cannot be used here"),
    ],
)
def test_what_only_a_language_model_has_is_refused(real, setting, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Recommender.from_pretrained(real.folder, **setting)


def test_there_is_no_prompt_to_show_and_no_checkpoint_to_export(real, opened, tmp_path, capsys):
    sentence = "is a network of item sequences and no language model"
    with pytest.raises(ArtifactError, match=sentence):
        load_artifact(real.folder)
    assert_one_sentence(call(capsys, "export", real.folder, tmp_path / "out"), sentence)
    assert not (tmp_path / "out").exists() and opened.language_model is None
    with pytest.raises(RequestError, match="reads no words, so the instruction would be lost"):
        opened.recommend([], k=3, instruction="something light")
    with pytest.raises(ArtifactError, match="so its items have no soft tokens"):
        opened.replace_image(opened.catalog.item_id(0), "image.png")


def test_an_evaluation_is_of_the_whole_catalogue_and_checks_the_data(real, opened, tmp_path, capsys):
    found = call(capsys, "eval", real.folder, "--json").json
    data = load_data(real.data)
    test = load_task("leave_one_out").make(data).test
    lists = opened.ranker.rank(Requests.from_instances(test), 10, exclude_seen=True).items
    assert found["metrics"]["recall@10"]["value"] == pytest.approx((lists == test.targets[:, None]).any(axis=1).mean())
    assert found["metrics"]["recall@10"]["value"] > 0.02, "of 2,528 items, at random .004"
    assert found["protocol"]["ranked_by"] == "scores of all items" and found["protocol"]["num_users"] == len(test)
    shutil.copytree(real.data, tmp_path / "data")
    other = Catalog(Catalog.load(tmp_path / "data" / "items.parquet").table.slice(1))
    other.save(tmp_path / "data" / "items.parquet")
    assert call(capsys, "eval", real.folder, "--data", tmp_path / "data").status == 2


def test_a_server_lists_and_converses_without_a_language_model(real, opened, history):
    with serving(real.folder) as running:
        listed = running.client.post("/v1/recommend", {"history": history, "k": 3})
        said = running.client.post(
            "/v1/chat/completions",
            {"model": running.client.get("/v1/models").json["data"][0]["id"], "messages": [
                {"role": "user", "content": opened.catalog.title(100)}]},
        )  # fmt: skip
    assert listed.status == 200, listed.body
    assert [item["item_id"] for item in listed.json["recommendations"]] == [
        item.item_id for item in opened.recommend(history, 3)
    ]
    assert said.status == 200 and said.json["recommendations"] and said.json["usage"]["prompt_tokens"] > 0


def test_users_who_met_the_nearest_neighbour_of_a_new_item_find_it_at_once(real, grown):
    run, recommender = load_sequential(real.folder), Recommender.from_pretrained(grown.folder)
    assert (grown.num_new, grown.num_unknown, grown.without) == (len(real.new.titles), 0, {})
    neighbours, alike = nearest_seen(run, real.new)
    lists = recommender.recommend_batch([[run.catalog.item_id(item)] for item in neighbours], k=10)
    found = [new in {item.item_id for item in listed} for new, listed in zip(real.new.item_ids, lists, strict=True)]
    assert found[alike.argmax()] and np.mean(found) > 0.25, "of more than two thousand items"


def test_old_items_keep_their_scores_and_nothing_else_changes(real, opened, grown, history):
    recommender = Recommender.from_pretrained(grown.folder)
    old = opened.catalog.item_ids
    assert np.allclose(recommender.score(history, old), opened.score(history, old), atol=1e-5)
    assert recommender.catalog.item_ids == old + real.new.item_ids
    before, after = (weight_checksums(folder) for folder in (real.folder / "model", grown.folder))
    assert {name for name in after if before[name] != after[name]} == {"network.safetensors"}
    assert read_manifest(grown.folder)["protocol"]["added_items"] == grown.num_new
    assert "were added without training" in (grown.folder / "README.md").read_text()
    vectors = load_sequential(grown.folder).recommender.network.inputs.fields[0]
    assert not vectors.table()[-grown.num_new :].any(), "a new item has no trained embedding"


def test_items_that_share_no_word_are_told_and_come_last(copy, tmp_path, capsys, history):
    rows = [{"item_id": "n1", "title": "Zzyzx qwrtzp"}, {"item_id": "n2", "title": "Shampoo", "size": "12 oz"}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    called = call(capsys, "add-items", copy, tmp_path / "new.jsonl", "--json")
    assert called.json["without"] == {"text": 1} and called.json["num_unknown"] == 1
    assert "1 of 2 new items share no word with the items before" in called.err and "Left out" in called.err
    listed = [item.item_id for item in Recommender.from_pretrained(copy).recommend(history, k=10_000)]
    assert listed.index("n1") > len(listed) - 10 and listed.index("n2") < listed.index("n1")
    assert_one_sentence(call(capsys, "add-items", copy, tmp_path / "new.jsonl"), "are in the catalog")


def test_matrices_of_new_items_are_given_and_checked(tmp_path):
    save_sequential(tmp_path / "run", tiny_run(3), {})
    new = Catalog.from_rows([{"item_id": "n", "title": "New"}])
    for given in ({}, {"mine": np.ones((1, 2))}, {"mine": np.ones((1, 3)), "other": np.ones((1, 1))}):
        with pytest.raises(DataError, match="mine"):
            add_items(tmp_path / "run", new, features=given)
    like = load_sequential(tmp_path / "run").recommender.network.inputs.frozen("mine")
    same_as_4 = (like.matrix[4] * like.scale + like.centre).numpy()[None]
    added = add_items(tmp_path / "run", new, features={"mine": same_as_4})
    assert (added.num_items, added.num_unknown) == (7, 0)
    vectors = load_sequential(tmp_path / "run").recommender.item_vectors()
    assert np.allclose(vectors[6], vectors[4], atol=1e-5), "embeddings started at zero, so features are all there is"
    save_sequential(tmp_path / "ids", tiny_run(None), {})
    with pytest.raises(ArtifactError, match="knows every item by a trained embedding alone"):
        add_items(tmp_path / "ids", new)
