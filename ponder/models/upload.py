"""A folder -> a model repository of the hub, through `huggingface_hub` (`pip install "ponder[hub]"`).

    upload(folder, "me/mine", private=True)      -> the address of what was made

Settings are the library's own: HF_ENDPOINT and HF_TOKEN. The folder goes up as one commit: either all of it is there
afterwards or nothing is. A repository that is there already gets another commit; what only the hub has stays.
"""

from __future__ import annotations

from pathlib import Path

from ponder.config import ConfigError


def upload(folder: Path, name: str, *, private: bool = False, message: str = "ponder push") -> str:
    """Push a folder; returns its address. A ConfigError says what to do where the hub refuses."""
    try:
        from huggingface_hub import HfApi, constants, errors
    except ImportError:
        raise ConfigError('pushing needs huggingface_hub: pip install "ponder[hub]"') from None
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(f"HF_HUB_OFFLINE is set: unset it to push; the folder is {folder}")
    api = HfApi()
    try:
        api.create_repo(name, repo_type="model", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, repo_type="model", commit_message=message, ignore_patterns=[".*"]
        )
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            owner = name.partition("/")[0]
            fix = f"the hub does not let you write to {name}: set HF_TOKEN to a token of {owner} that may write"
        else:
            fix = f"the hub refused ({' '.join(str(error).split())[:200]})"
        raise ConfigError(f"{fix}; the folder is ready in {folder}") from None
    except (OSError, ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"the hub cannot be reached ({what}); the folder is ready in {folder}") from None
    return str(getattr(commit, "repo_url", None) or f"{constants.ENDPOINT}/{name}")
