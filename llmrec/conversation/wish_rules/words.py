"""A message as words: contractions written out, hyphens as spaces, numbers in one form, each word with its place in the message."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

MAX_CHARACTERS = 2_000  # of a message that are read
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*(?:['’]?s|st|nd|rd|th)?(?!\w)|\w+(?:['’]\w+)*|[^\w\s]")
_STOPS = {".": ".", "!": ".", "?": ".", ";": ".", "…": ".", ",": ",", ":": ",", "(": ",", ")": ",", "–": ",", "—": ","}
_QUOTES = '"“”«»'
_SIGNS = {"&": ("and",), "$": ("dollars",), "€": ("euros",), "£": ("pounds",), "#": ("number",), "/": ("or",)}
_SAME = {
    "dont": "do not", "doesnt": "does not", "didnt": "did not", "cant": "can not", "cannot": "can not", "couldnt": "could not",
    "wont": "will not", "wouldnt": "would not", "shouldnt": "should not", "isnt": "is not", "arent": "are not", "wasnt": "was not",
    "werent": "were not", "havent": "have not", "hasnt": "has not", "hadnt": "had not", "neednt": "need not", "mustnt": "must not",
    "can't": "can not", "won't": "will not", "shan't": "shall not", "ain't": "is not", "aint": "is not",
    "im": "i am", "ive": "i have", "id": "i would", "youre": "you are", "youve": "you have", "weve": "we have", "theyre": "they are",
    "theyve": "they have", "whats": "what is", "thats": "that is", "lets": "let us", "let's": "let us", "theres": "there is",
    "whos": "who is", "hows": "how is", "wheres": "where is", "gonna": "going to", "wanna": "want to", "gotta": "have to",
    "gimme": "give me", "lemme": "let me", "dunno": "do not know", "teh": "the", "adn": "and",
    "u": "you", "ya": "you", "ur": "your", "r": "are", "n": "and",
    "tho": "though", "cuz": "because", "coz": "because", "smth": "something", "sth": "something", "sumthing": "something",
    "luv": "love", "fav": "favourite", "fave": "favourite", "nuthin": "nothing", "nothin": "nothing", "nowt": "nothing",
    "summat": "something", "thru": "through", "alot": "a lot", "outta": "out of", "woulda": "would have", "shoulda": "should have",
    "sci": "sci", "scifi": "sci fi", "romcom": "rom com", "romcoms": "rom coms", "pre": "before", "post": "after", "cya": "see you",
    "everytime": "every time", "aswell": "as well", "abit": "a bit", "infact": "in fact", "color": "colour", "colors": "colours",
    "colored": "coloured", "gray": "grey", "favorite": "favourite", "favorites": "favourites", "theater": "theatre",
}  # fmt: skip
_PAIRS = {("rom", "com"): ("romantic", "comedy"), ("rom", "coms"): ("romantic", "comedies")}
_WITH_IS = {"it", "that", "what", "who", "where", "how", "he", "she", "there", "here", "this", "why", "when"}
_ENDINGS = {"re": "are", "ve": "have", "ll": "will", "d": "would", "m": "am"}


@dataclass(frozen=True)
class Word:
    """One word as it is read. start, end: where the token it comes from stands in the message; is_capital: begins with a capital."""

    text: str
    start: int
    end: int
    is_capital: bool = False


def words_of(message: str) -> list[Word]:
    """The words of a message; sentence ends are ".", other breaks ",", quotation marks '"'."""
    found: list[Word] = []
    tokens = list(_TOKEN.finditer(message[:MAX_CHARACTERS]))
    for place, token in enumerate(tokens):
        text = token[0]
        for word in _written_out(text, tokens, place):
            found.append(Word(word, token.start(), token.end(), text[0].isupper()))
    for place in range(1, len(found)):
        if pair := _PAIRS.get((found[place - 1].text, found[place].text)):
            found[place - 1 : place + 1] = [
                replace(word, text=text) for word, text in zip(found[place - 1 :], pair, strict=False)
            ]
    return found


def plain_words(text: str) -> tuple[str, ...]:
    """A name of the catalogue, or a column's, as the words that a message would have for it, without what stands between them."""
    return tuple(word.text for word in words_of(text.replace("_", " ")) if word.text not in ("and", ",", ".", '"'))


def spoken_forms(text: str) -> list[tuple[str, ...]]:
    """The word sequences that a message may have for a name: "Food & Drink" with and without "and", breaks as they are or none."""
    every = [word.text for word in words_of(text)]
    while every and every[-1] in (".", ","):
        every.pop()
    without_breaks = [word for word in every if word not in (",", ".", '"')]
    return [form for form in dict.fromkeys((tuple(without_breaks), tuple(every), plain_words(text))) if form]


def _written_out(text: str, tokens: list[re.Match[str]], place: int) -> tuple[str, ...]:
    """The words that one token stands for."""
    if text == "-":
        return _hyphen(tokens, place)
    if text in _QUOTES:
        return ('"',)
    if text == "+":
        return ("or", "more") if place and tokens[place - 1][0][0].isdigit() else ("and",)
    if not text[0].isalnum():
        sign = _STOPS.get(text)
        return (sign,) if sign else _SIGNS.get(text, ())
    text = text.casefold().replace("’", "'")
    if text[0].isdigit():
        return (text.replace("'", ""),)
    if text in _SAME:
        return tuple(_SAME[text].split())
    stem, _, ending = text.rpartition("'")
    if not stem:
        return (text,)
    if ending == "t" and stem.endswith("n"):
        return (*_SAME.get(text.replace("'", ""), f"{stem[:-1]} not").split(),)
    if ending == "s":
        return (stem, "is") if stem in _WITH_IS else (stem,)
    if ending in _ENDINGS:
        return (stem, _ENDINGS[ending])
    return (text.replace("'", ""),)


def _hyphen(tokens: list[re.Match[str]], place: int) -> tuple[str, ...]:
    """Between numbers "to", within a word nothing, between words that stand apart a break."""
    before = tokens[place - 1] if place else None
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    if before is None or after is None:
        return ()
    if before[0][0].isdigit() and after[0][0].isdigit():
        return ("to",)
    joined = before.end() == tokens[place].start() and after.start() == tokens[place].end()
    return () if joined else (".",)
