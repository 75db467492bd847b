import shutil

import pyarrow.parquet as pq
import pytest
import torch

from llmrec.artifacts.export import export_run, item_map
from llmrec.artifacts.run_folder import load_artifact
from llmrec.artifacts.served_checkpoint import served_checkpoint


@pytest.mark.parametrize("run", ["tiny_run", "tiny_code_run"])
def test_every_export_brings_the_map_of_its_items(run, request, tmp_path):
    shutil.copytree(request.getfixturevalue(run), tmp_path / "run")
    model = load_artifact(tmp_path / "run", dtype=torch.float32)
    exported = export_run(model, tmp_path / "by_hand")
    served = served_checkpoint(tmp_path / "run" / "model", model)
    for folder in (exported, served):
        assert pq.read_table(folder / "items.parquet").equals(item_map(model))
