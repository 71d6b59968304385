"""Downloads from the Hugging Face hub, into its cache.

Weights, config and tokenizer are downloaded, never code. Local checkpoints are found in `zflipon.models.files`.
"""

from __future__ import annotations

import re
from pathlib import Path

from zflipon.errors import ModelError

DOWNLOADED = [
    "config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.bin",
    "*.index.json",
    "tokenizer.json",
    "vocab.txt",
]
"""Patterns of the files that are downloaded."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

_NETWORK_PACKAGES = ("httpx", "httpcore", "requests")
"""Packages whose exceptions mean that the hub cannot be reached."""


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a hub id, ``owner/name``."""
    return _HUB_ID.fullmatch(name) is not None


def download(repository: str, revision: str | None = None) -> Path:
    """Download a checkpoint from the hub, or find it in the cache.

    Parameters
    ----------
    repository : str
        ``owner/name``.
    revision : str, optional
        Branch, tag or commit.

    Returns
    -------
    Path
        Folder in the cache.

    Raises
    ------
    ModelError
        If the hub does not have it, refuses access or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=DOWNLOADED))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise ModelError(f"{repository}: {_describe(error, revision)}") from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in _NETWORK_PACKAGES:
            raise
        raise ModelError(
            f"{repository}: no such folder, and the hub cannot be reached ({type(error).__name__}); "
            "connect to the internet, or give a local folder"
        ) from error


def _describe(error: Exception, revision: str | None) -> str:
    """Return what happened and what to do, in one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):  # also a RepositoryNotFoundError, so it comes first
        return (
            "access needs an agreement to its terms; accept them on its page on the hub, "
            "log in (hf auth login), and try again"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"the hub has no revision '{revision}' of it; name an existing branch, tag or commit"
    if isinstance(error, RepositoryNotFoundError):
        return (
            "no such folder, and no such model on the hub; check the name, "
            "or log in (hf auth login) if it is private"
        )
    if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
        return (
            "no such folder, not in the hub's cache, and HF_HUB_OFFLINE forbids downloads; "
            "unset HF_HUB_OFFLINE, or give a local folder"
        )
    # messages of the hub run over several lines; the first sentence is enough
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    reason = first_line.split(". ")[0].removeprefix("Got: ")
    return (
        f"no such folder, and the download from the hub failed ({reason}); "
        "check the name and the connection, or give a local folder"
    )
