"""Find the artifacts of a model repository, whichever level of it is named."""

import re
from pathlib import Path

from clearweight.artifact.errors import NotAnArtifactError
from clearweight.artifact.file_name import MANIFEST, ONNX_SUFFIX, REFERENCE_SUFFIX


def find_artifacts(root: Path | str) -> list[Path]:
    """List artifact directories below ``OUT``, ``OUT/NAME`` or ``OUT/NAME/VERSION``.

    Companions (``-reference``, ``-onnx``) and hidden folders, which interrupted writes leave, are not
    versions. Sorted by name, then by version with numbers as numbers.

    Raises
    ------
    NotAnArtifactError
        ``root`` is not a directory, or there is none below it.
    """
    top = Path(root)
    if not top.exists():
        raise NotAnArtifactError(f"There is no folder {top}.")
    if not top.is_dir():
        raise NotAnArtifactError(
            f"{top} is a file, expected the folder of an artifact, OUT/NAME/VERSION, or one above it. "
            "`clearweight explain` and `explain-check` take ONNX files."
        )
    if (top / MANIFEST).is_file():
        return [top]
    versions = _versions(top)
    models = [
        folder for folder in sorted(top.iterdir()) if folder.is_dir() and not folder.name.startswith(".")
    ]
    found = versions or [version for model in models for version in _versions(model)]
    if not found:
        raise NotAnArtifactError(
            f"No artifact below {top}: expected OUT, OUT/NAME or OUT/NAME/VERSION with {MANIFEST}."
        )
    return found


def _versions(model: Path) -> list[Path]:
    versions = [
        folder
        for folder in model.iterdir()
        if not folder.name.startswith(".")
        and not folder.name.endswith((REFERENCE_SUFFIX, ONNX_SUFFIX))
        and (folder / MANIFEST).is_file()
    ]
    return sorted(versions, key=lambda folder: _natural(folder.name))


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
