"""What can go wrong through no fault of the program. The command line prints the sentence and exits with status 2."""

import errno

_OF_THE_PLACE = (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class LlmrecError(Exception):
    """A mistake in the input, said in one sentence: what was expected, what came, what to do."""


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
