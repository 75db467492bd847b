"""How many inputs the fuzzers try, said in one place: a few hundred in every run of the tests, 100,000 in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("LLMREC_FUZZ_EXAMPLES") or 600)


def fuzzed(share: float) -> settings:
    """The decorator of one fuzzer, which tries this share of all inputs; the shares of all fuzzers add up to about 1.

    The same inputs come in every run (seeded by the test's own code), so that a failure is there again and CI does not flicker.
    """
    return settings(
        max_examples=max(1, round(EXAMPLES * share)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
