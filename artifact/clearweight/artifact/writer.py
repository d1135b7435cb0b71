"""Write an artifact so that it is there as a whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from clearweight.artifact.artifact import file_entry, open_directory
from clearweight.artifact.errors import ArtifactExistsError, FileNameError
from clearweight.artifact.file_name import (
    MANIFEST,
    REFERENCE_SUFFIX,
    REPORT,
    SIGNATURE,
    UNFINISHED,
    check_file_name,
    check_model_name,
    check_version,
)
from clearweight.artifact.manifest import FileEntry, Manifest
from clearweight.artifact.manifest_bytes import manifest_to_bytes

_SUFFIX = {"compressed": "", "reference": REFERENCE_SUFFIX}


def write_artifact(
    out: Path | str, manifest: Manifest, contents: Mapping[str, bytes | Path], *, overwrite: bool = False
) -> Path:
    """Write ``OUT/NAME/VERSION`` (or ``VERSION-reference``) and return its path.

    Files go into a hidden folder beside the target, are flushed to disk, read back through every check
    of ``Artifact.open``, and the folder is renamed into place. Whatever interrupts this, the target is
    either absent (or, when overwriting, the old one) or complete. The same manifest and contents give
    the same bytes.

    Parameters
    ----------
    out : the model repository
    manifest : without ``files`` and ``manifest_sha256``, which are filled in
    contents : file name to bytes, or to the path of a file to copy
        Everything but ``manifest.json``. ``report.html`` is the one file no device needs.
    overwrite : bool
        Replace an artifact that is there.

    Raises
    ------
    ArtifactExistsError
        The target is there and ``overwrite`` is False.
    ArtifactError
        What would be written could not be opened.
    """
    check_model_name(manifest.name)
    check_version(manifest.version)
    for name in (MANIFEST, SIGNATURE):
        if name in contents:
            raise FileNameError(f"Contents hold {name}, which is made from the manifest itself.")
    target = Path(out) / manifest.name / (manifest.version + _SUFFIX[manifest.variant])
    with _appearing(target, overwrite=overwrite) as work:
        files = {name: _write_content(work, name, contents[name]) for name in sorted(contents)}
        _write_file(work / MANIFEST, manifest_to_bytes(replace(manifest, files=files)))
        _flush_directory(work)
        written = open_directory(work, verify=True)
        written.weights()
        written.canaries()
    return target


def write_folder(target: Path | str, contents: Mapping[str, bytes], *, overwrite: bool = False) -> Path:
    """Write a companion folder of an artifact (exchange formats), so that it is there as a whole or not at all.

    Raises
    ------
    ArtifactExistsError
        The folder is there and ``overwrite`` is False.
    """
    target = Path(target)
    with _appearing(target, overwrite=overwrite) as work:
        for name in sorted(contents):
            _write_file(work / name, contents[name])
        _flush_directory(work)
    return target


@contextmanager
def _appearing(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder to fill, which takes the target's place at the end if nothing went wrong."""
    if not overwrite:
        _refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_folder(target) as work:
        yield work
        if overwrite and target.exists():
            _swap(work, target)
        else:
            _refuse_existing(target)
            work.rename(target)
        _flush_directory(target.parent)


@contextmanager
def _hidden_folder(target: Path) -> Iterator[Path]:
    work = target.with_name(f".{target.name}{UNFINISHED}{os.urandom(4).hex()}")
    work.mkdir()
    try:
        yield work
    finally:
        _remove(work, ignore_errors=True)  # gone already when it was renamed into place


def _remove(folder: Path, *, ignore_errors: bool = False) -> None:
    import shutil  # noqa: PLC0415  # it brings bz2 and lzma along, and devices read only

    shutil.rmtree(folder, ignore_errors=ignore_errors)


def _write_content(work: Path, name: str, content: bytes | Path) -> FileEntry:
    check_file_name(name)
    path = work / name
    if isinstance(content, bytes):
        _write_file(path, content)
    else:
        import shutil  # noqa: PLC0415  # as in _remove

        shutil.copyfile(content, path)
        _flush(path)
    return file_entry(path, device=name != REPORT)


def _write_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _flush(path)


def _swap(work: Path, target: Path) -> None:
    # Two renames; a crash between them leaves the old artifact under its hidden name, never half a one.
    aside = target.with_name(f".{target.name}{UNFINISHED}{os.urandom(4).hex()}")
    target.rename(aside)
    try:
        work.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    _remove(aside)


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise ArtifactExistsError(
            f"{target} is already there. Choose another version, or ask to overwrite it."
        )


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
