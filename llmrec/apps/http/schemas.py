"""Bodies of requests and answers. What may be large is bounded by settings, where routes read it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

_MAX_KEYS = 100
Texts = Annotated[
    list[str], Field(fail_fast=True)
]  # a list of wrong entries is wrong at the first: half a million errors take seconds
_HISTORY = ["Star Wars (1977)", "Return of the Jedi (1983)", "172"]
History = Annotated[Texts, Field(description="Item ids or titles, oldest first; [] for a new user.")]
Instruction = Annotated[str | None, Field(description="A wish in words, for runs whose prompt takes one.")]


class Body(BaseModel):
    """What a client sends: nothing that it does not have, and no number for a text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_keys(cls, given: Any) -> Any:
        """Each key that is none would be an error of its own."""
        if isinstance(given, dict) and len(given) > _MAX_KEYS:
            raise ValueError(f"an object of {len(given)} keys is none of this route's")
        return given


class RecommendBody(Body):
    """A list for one user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"history": _HISTORY, "k": 5},
                {
                    "history": _HISTORY,
                    "k": 5,
                    "where": ["genres=Comedy|Drama"],
                    "exclude": ["50"],
                    "diversity": "mmr:0.3",
                },
            ]
        }
    )

    history: History
    k: int = Field(10, ge=1, description="Items to recommend.")
    where: str | Texts = Field(
        [], description="What columns must say: genres=Comedy|Drama, genres!=Horror, year>=1990."
    )
    in_stock: str | Texts | None = Field(None, description="The ids in stock, or the column that says so.")
    exclude: Texts = Field([], description="Ids or titles that must not come out.")
    candidates: Texts | None = Field(None, description="Ids or titles to choose from; null for the whole catalogue.")
    exclude_seen: bool = Field(True, description="Whether items of the history are kept out.")
    diversity: str | None = Field(None, description="mmr:0.3 (weight 0 to 1), or ssd:0.5:5 (gamma, window).")
    instruction: Instruction = None


class ScoreBody(Body):
    """Items to score for one user."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"history": _HISTORY, "candidates": ["181", "Fargo (1996)"]}]}
    )

    history: History
    candidates: Texts = Field(min_length=1, description="Ids or titles to score.")
    instruction: Instruction = None


class ExplainBody(Body):
    """A recommendation to explain."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": _HISTORY, "item": "181"}]})

    history: Annotated[Texts, Field(min_length=1, description="Item ids or titles, oldest first.")]
    item: str = Field(description="The id or title to explain.")
    words: bool = Field(False, description="Whether a language model is asked to say it, too. It takes seconds.")
    instruction: Instruction = None


class NewItemsBody(Body):
    """Items to add without training."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [{"item_id": "new-1", "title": "A New Film (2026)", "genres": ["Comedy"]}]}]
        }
    )

    items: Annotated[list[dict[str, Any]], Field(fail_fast=True)] = Field(
        min_length=1, description="Rows of the catalogue: item_id, title and its other columns."
    )
    features: dict[str, Annotated[list[Annotated[list[float], Field(fail_fast=True)]], Field(fail_fast=True)]] = Field(
        {}, description="Vectors, one row an item, where codes or soft tokens were made from matrices of your own."
    )


class ReloadBody(Body):
    """The run to serve from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"run": "mine"}]})

    run: str | None = Field(
        None, description="A run folder's name under the runs folder; null: the one in service, read anew."
    )


class Item(BaseModel):
    """An item."""

    item_id: str
    title: str


class ScoredItem(Item):
    """An item and the ranker's score, higher is better; null where it is infinite."""

    score: float | None


class RankedItem(ScoredItem):
    """An item of a list; rank 1 is best."""

    rank: int


class RecommendAnswer(BaseModel):
    """A list. history: the ids that the names were read as; missing: by how many it is shorter than asked for."""

    model: str
    history: list[str]
    recommendations: list[RankedItem]
    missing: int


class ScoreAnswer(BaseModel):
    """Scores in the order of the candidates."""

    model: str
    history: list[str]
    scores: list[ScoredItem]


class SearchAnswer(BaseModel):
    """What a title may mean. match: sure, one item; open, one of these; near, none, but these come nearest."""

    query: str
    match: str
    items: list[Item]


class AddedAnswer(BaseModel):
    """What was added. run: the folder that was written for it, null where nothing is kept; see `llmrec add-items` for the rest."""

    model: str
    added: int
    num_items: int
    run: str | None
    codes: list[list[int]] | None
    missing_columns: list[str]
    unused_columns: list[str]
    without: dict[str, int]


class ReloadAnswer(BaseModel):
    """The model in service from now on. seconds: that loading took."""

    model: str
    num_items: int
    seconds: float


class Error(BaseModel):
    """message: a sentence; type, code: a word for programs, in both places because clients of OpenAI's read either."""

    message: str
    type: str
    code: str


class ErrorAnswer(BaseModel):
    """Every answer that is none."""

    error: Error
