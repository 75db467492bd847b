"""Many machines, of which this one plays two workers: the rows of one process, in their order, whatever dies meanwhile."""

import os
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llmrec.errors import ConfigError, LlmrecError
from llmrec.serving.asked import Question, Source
from llmrec.serving.ray_job import OnRay
from llmrec.serving.users_job import UsersJob, answer_here, run_job
from llmrec.serving.work_folder import WorkFolder
from tests.apps.calling import assert_one_sentence, call
from tests.serving.test_users_job import hidden, saved

ROWS = [{"user_id": f"u{n}", "history": [str(1 + (7 * n + 13 * step) % 1600) for step in range(9)]} for n in range(60)]


@pytest.fixture(scope="module")
def cluster():
    """A local cluster with room for two workers, ended with these tests."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=128 << 20, log_to_driver=False, logging_level=40)
    yield
    ray.shutdown()


def workers() -> set[int]:
    """The processes of the cluster's actors that this process has started, by their id."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_text().startswith("ray::MapWorker") and _is_ours(int(folder.name)):
                found.add(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def _is_ours(pid: int) -> bool:
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_two_workers_give_the_rows_of_one_process_though_one_is_killed(cluster, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    users = saved(tmp_path, ROWS)
    alone = UsersJob(Source(tiny_run), Question(5), tmp_path / "alone.parquet", users)
    run_job(alone)
    # Two shards are there from a process that was interrupted, and relative paths hold on any machine.
    job = UsersJob(Source(tiny_run), Question(5), Path("out.parquet"), users, shard=2)

    def interrupted(source, question, work, shards):
        yield from answer_here(source, question, work, shards[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, interrupted)
    killed, times = [], {}

    def killing(source, question, work, shards):
        assert len(shards) == 28
        for shard in OnRay("local", workers=2)(source, question, work, shards):
            if not killed:
                killed.append(workers().pop())
                os.kill(killed[0], signal.SIGKILL)
            yield shard
        times.update({path.name: path.stat().st_mtime_ns for path in work.path.glob("0*.parquet")})

    done = run_job(job, killing)
    assert killed and (done.num_users, done.num_kept) == (60, 4)
    assert len(times) == 30 and pq.read_table(job.out).equals(pq.read_table(alone.out)), "rows, order and scores"
    assert hidden(tmp_path) == []


@pytest.mark.slow
def test_what_workers_cannot_do_is_one_sentence(cluster, tiny_run, tmp_path, capsys):
    users = saved(tmp_path, [{"user_id": "a", "history": [], "instruction": "something light"}])
    with pytest.raises(LlmrecError, match=r"has no {{ instruction }}"):
        run_job(UsersJob(Source(tiny_run), Question(2), tmp_path / "out.parquet", users), OnRay("local", 1))
    elsewhere = WorkFolder(tmp_path / "not shared")
    with pytest.raises(
        LlmrecError, match=r"does not see '.*not shared'. Name an --out in a folder that all machines share"
    ):
        list(OnRay("local", 1)(Source(tiny_run), Question(2), elsewhere, [0]))
    many = ("--users", saved(tmp_path, ROWS), "--out", tmp_path / "many.parquet", "--ray", "local")
    sentence = (
        "3 workers of a core and 0 GPUs each were asked for, but the Ray cluster has 2 cores and 0 GPUs: room for 2."
    )
    assert_one_sentence(call(capsys, "recommend", tiny_run, *many, "--workers", 3), sentence)
    assert_one_sentence(call(capsys, "recommend", tiny_run, *many, "--worker-gpus", 1), "room for 0")


def test_workers_without_a_cluster_are_refused(tiny_run, tmp_path, capsys):
    asked = ("recommend", tiny_run, "--users", saved(tmp_path, ROWS), "--out", tmp_path / "out.parquet")
    assert_one_sentence(call(capsys, *asked, "--workers", "2"), "are of a Ray cluster. Name it with --ray ADDRESS")


def test_an_address_where_nobody_listens_is_said_at_once(tiny_run, tmp_path, capsys):
    asked = ("recommend", tiny_run, "--users", saved(tmp_path, ROWS), "--out", tmp_path / "out.parquet")
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        assert_one_sentence(call(capsys, *asked, "--ray", address), f"the Ray cluster '{address}' cannot be used")


def test_without_ray_the_extra_is_named(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    job = UsersJob(Source(tiny_run), Question(2), tmp_path / "out.parquet", saved(tmp_path, ROWS))
    with pytest.raises(ConfigError, match=r"Install it: pip install 'llmrec\[ray\]'"):
        run_job(job, OnRay("local"))
