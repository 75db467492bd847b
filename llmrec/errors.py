"""What can go wrong through no fault of the program. The command line prints the sentence and exits with status 2."""

import errno
import re

_LONGEST, _BEGINNING, _END = 2000, 1300, 500  # characters of a sentence, and what stays of a longer one
_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OF_THE_PLACE = (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class LlmrecError(Exception):
    """A mistake in the input, said in one sentence: what was expected, what came, what to do.

    Sentences quote what files and people wrote, so whatever that is, a sentence stays one line of bearable length: control characters
    and turned directions are spelt out, and the middle of what is too long is left out.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(_one_line(sentence))


def _one_line(text: str) -> str:
    if len(text) > _LONGEST:
        left_out = len(text) - _BEGINNING - _END
        text = f"{text[:_BEGINNING]} ... ({left_out:,} characters left out) ... {text[-_END:]}"
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class DataError(LlmrecError):
    """Interactions, a catalog, features or a data folder that cannot be used as they are."""


class ConfigError(LlmrecError):
    """A setting that is unknown, out of range or contradicts another one."""


class ModelError(LlmrecError):
    """A language model that cannot be found, loaded or used in the way asked for."""


class ArtifactError(LlmrecError):
    """A folder that is not a complete llmrec artifact."""


class RequestError(LlmrecError):
    """A recommendation request that names what does not exist, or asks for what cannot be done."""


def sentence_of_place(error: OSError) -> str | None:
    """What to say where a disk is full, a right is lacking or a name too long; None for what may be a fault of the program's."""
    if error.errno not in _OF_THE_PLACE:
        return None
    name = "a file" if error.filename is None else f"'{error.filename}'"
    shown = name if len(name) < 200 else f"{name[:60]}...' of {len(name) - 2} characters"
    return f"cannot use {shown}: {error.strerror}. Choose a place that you may read and write and that has room."
