"""A run's model folder elsewhere: copied to another folder, or uploaded to the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from llmrec.artifacts.run_folder import MANIFEST
from llmrec.backbones.load import hub_reachable
from llmrec.errors import ArtifactError, ModelError, RequestError
from llmrec.files import atomic_folder


def copy_artifact(source: Path, folder: Path) -> None:
    """Copies `source` to `folder`, whole or not at all; an older artifact there is replaced.

    Raises ArtifactError where `folder` holds something else, LlmrecError where it cannot be written.
    """
    if folder.exists() and folder.samefile(source):
        return
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtifactError(f"'{folder}' exists and holds no artifact, so it is left as it is. Name a new folder.")
    with atomic_folder(folder) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def upload_artifact(source: Path, repo_id: str, *, private: bool) -> str:
    """Uploads `source` as the model "owner/name" of the hub, made where it is missing; returns its address.

    Raises RequestError for what is no name, ModelError where the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi, errors  # only here: nothing else needs the hub

    if not isinstance(repo_id, str):
        raise RequestError(f"a model of the hub is named by a text, 'owner/name', but it is {repo_id!r:.60}.")
    if not hub_reachable():
        raise ModelError(
            f"the Hugging Face hub cannot be reached from here, so '{repo_id}' was not uploaded. "
            f"Try again with a connection, or copy '{source}' yourself."
        )
    try:
        api = HfApi()
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=source)
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the hub did not take '{repo_id}': {first} `hf auth login` sets a token.") from error
    return str(address)
