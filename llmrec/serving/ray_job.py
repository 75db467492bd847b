"""Many machines: the shards of a job for many users as a Ray Data job of actors, one recommender each. ray is imported here only.

Rows of the data set are shards. An actor reads the users of its shard from the job's folder and writes their answers there, whole: the
order of the result is that of the users whatever order shards end in, what a worker has written outlives it, and of a shard that Ray
gives to another worker after a crash nobody is answered twice. All machines see the run and the result's folder under the same paths.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from llmrec.errors import ConfigError, LlmrecError
from llmrec.serving.asked import Question, Source, answer
from llmrec.serving.work_folder import WorkFolder

LOCAL = "local"
_STORE = 256 << 20  # bytes; only numbers of shards pass through the object store
# What a person sets for this process holds for the actors too.
_PASSED_ON = ("HF_HOME", "HF_HUB_OFFLINE", "LLMREC_CACHE", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM",
              "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND")  # fmt: skip


@dataclass(frozen=True)
class OnRay:
    """Answers shards on a Ray cluster; called as `users_job.Answering`.

    address: of a cluster that runs ("auto", "host:6379"), or "local" for one of this machine that ends with the job.
    workers: actors; None for as many as the cluster has GPUs, or cores where it has none.
    gpus: of each actor, as many as its recommender uses; None for one where there are any.
    """

    address: str
    workers: int | None = None
    gpus: int | None = None

    def __call__(self, source: Source, question: Question, work: WorkFolder, shards: Sequence[int]) -> Iterator[int]:
        """See `users_job.Answering`. Raises ConfigError where Ray is missing, cannot be reached, or has not that many cores or GPUs."""
        with _cluster(self.address) as ray:
            num_workers, gpus = self._resources(ray.cluster_resources(), source)
            data = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
            answered = data.map_batches(
                _Worker,
                fn_constructor_args=(_everywhere(source), question, replace(work, path=work.path.absolute())),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(num_workers, len(shards))),
                num_cpus=1,
                num_gpus=gpus,
                runtime_env={"env_vars": {name: os.environ[name] for name in _PASSED_ON if name in os.environ}},
            )
            for row in answered.iter_rows():
                if row["problem"]:
                    raise LlmrecError(row["problem"])
                yield int(row["shard"])

    def _resources(self, there: dict[str, float], source: Source) -> tuple[int, int]:
        """How many actors there are, and the GPUs of each."""
        cores, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        each = self.gpus if self.gpus is not None else int(gpus > 0 and source.device != "cpu")
        most = min(cores, gpus // each) if each else cores
        wanted = self.workers or most
        if not 1 <= wanted <= most:
            raise ConfigError(
                f"{wanted} workers of a core and {each} GPUs each were asked for, but the Ray cluster has {cores} cores and {gpus} "
                f"GPUs: room for {most}. Name fewer with --workers or --worker-gpus, or start more machines."
            )
        return wanted, each


class _Worker:
    """An actor. What goes wrong for a reason that can be said comes back as a sentence; anything else is for Ray to report."""

    def __init__(self, source: Source, question: Question, work: WorkFolder) -> None:
        self.source, self.question, self.work = source, question, work
        self.recommender = self.users = None

    def __del__(self) -> None:
        if self.recommender is not None:
            self.recommender.close()

    def __call__(self, batch: dict) -> dict:
        """A batch holds one shard."""
        shard = int(batch["shard"][0])
        try:
            self._answer(shard)
            problem = ""
        except LlmrecError as error:
            problem = str(error)
        return {"shard": [shard], "problem": [problem]}

    def _answer(self, shard: int) -> None:
        if not self.work.path.is_dir():
            raise ConfigError(
                f"the machine '{socket.gethostname()}' of the Ray cluster does not see '{self.work.path}'. Name an --out in a folder "
                "that all machines share."
            )
        if self.work.is_whole(shard):  # written by a worker that died before it could say so
            return
        if self.recommender is None:
            self.recommender, self.users = self.source.open(prompt_cache_mib=0), self.work.open_users()
        self.work.write(shard, answer(self.recommender, self.work.users(self.users, shard), self.question))


@contextmanager
def _cluster(address: str) -> Iterator:
    """The module ray, connected; a cluster that was started here is ended."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray ({error}). Install it: pip install 'llmrec[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    _check_address(address)
    if ray.is_initialized():  # by the program that this is called from
        yield ray
        return
    options = {"object_store_memory": _STORE, "include_dashboard": False} if address == LOCAL else {"address": address}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raises ConfigError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():  # local, auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ConfigError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConfigError(
        f"the Ray cluster '{address}' cannot be used: {reason}. Start one with `ray start --head`, or take --ray local."
    )


def _everywhere(source: Source) -> Source:
    """The same with paths that hold in any process."""
    return replace(
        source,
        run=None if source.run is None else source.run.absolute(),
        data=None if source.data is None else source.data.absolute(),
    )
