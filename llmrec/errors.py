"""What can go wrong through no fault of the program. The command line prints the sentence and exits with status 2."""


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
