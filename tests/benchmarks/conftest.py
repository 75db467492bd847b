"""The benches import each other as `python benchmarks/x.py` finds them: from their own folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
