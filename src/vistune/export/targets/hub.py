"""The Hugging Face hub: the merged folder, uploaded only if a repository is named."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from vistune.errors import VistuneError
from vistune.export.targets import ExportOptions, Opened, exporters
from vistune.export.targets.merged import export_merged

_IGNORED = ["manifest.json"]


@exporters.register("hub")
def export_hub(opened: Opened, out: Path, options: ExportOptions) -> list[str]:
    """Write the merged folder; with `push_to`, create that repository (private) and upload the folder to it.

    The token is that of `hf auth login`. Raises VistuneError if the hub refuses.
    """
    lines = export_merged(opened, out, options)
    if options.push_to is None:
        return [*lines, f"nothing is uploaded without --push-to OWNER/NAME; the files are in {out}"]
    return [upload(out, options.push_to, public=options.public)]


def upload(folder: Path, repository: str, *, public: bool) -> str:
    """Upload a folder of a model; returns its address. Raises VistuneError."""
    try:
        api = HfApi()
        api.create_repo(repository, private=not public, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=_IGNORED)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        what = f"the hub refuses the upload: {str(error).splitlines()[0]}"
        fix = "check the name OWNER/NAME and `hf auth login`; the folder is complete, so that `hf upload` can repeat it"
        raise VistuneError(what, where=repository, fix=fix) from None
    return str(done.commit_url)
