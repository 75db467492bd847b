"""Golden files: JSON, one key a line."""

import json
import os
from pathlib import Path


def kept(path: Path, found: dict) -> dict:
    """What the file holds; with LLMREC_WRITE_GOLDEN it is first written anew with what was found."""
    if os.environ.get("LLMREC_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        lines = ",\n".join(
            f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in found.items()
        )
        path.write_text(f"{{{lines}}}\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
