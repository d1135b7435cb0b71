"""One artifact on disk, opened only when every file in it is the one its manifest states."""

import hashlib
import math
import os
import stat
from pathlib import Path

from clearweight.artifact.canary import Canary, canary_from_bytes
from clearweight.artifact.errors import (
    FieldValueError,
    FileDigestError,
    FileNameError,
    FileSizeError,
    FileTooLargeError,
    LinkError,
    MissingFileError,
    NotAnArtifactError,
    SurplusFileError,
    UnfinishedError,
)
from clearweight.artifact.file_name import (
    CANARIES,
    GRAPH_FILES,
    MANIFEST,
    PREDICT,
    SIGNATURE,
    UNFINISHED,
    WEIGHTS,
    check_file_name,
)
from clearweight.artifact.manifest import FileEntry, Manifest
from clearweight.artifact.manifest_bytes import manifest_from_bytes
from clearweight.artifact.weights import WeightsReader

_CHUNK = 1 << 20


class Artifact:
    """A verified artifact directory. Use ``Artifact.open``."""

    def __init__(self, path: Path, manifest: Manifest, manifest_bytes: int) -> None:
        self.path = path
        self.manifest = manifest
        self.device_bytes = manifest_bytes + sum(
            entry.bytes for entry in manifest.files.values() if entry.device
        )

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True, public_key: bytes | None = None) -> "Artifact":
        """Open ``OUT/NAME/VERSION``.

        Parameters
        ----------
        path : directory
        verify : bool
            Also hash every file. Names, kinds, sizes and the manifest are always checked, and what
            ``graph``, ``weights`` and ``canaries`` return is checked when it is read.
        public_key : bytes, optional
            Ed25519, PEM: whose signature the manifest must carry; without it a signature is not looked at.

        Raises
        ------
        DirectoryError, ManifestError, UnsupportedVersionError
            The class names what is wrong.
        """
        directory = Path(path)
        if UNFINISHED in directory.name and directory.name.startswith("."):
            raise UnfinishedError(f"{directory} is what an interrupted write left behind; it can be deleted.")
        return open_directory(directory, verify=verify, public_key=public_key)

    def graph(self, file: str) -> bytes:
        """Return the bytes of ``predict.onnx`` or an explain graph, checked against their digest.

        Raises
        ------
        FileNameError
            The manifest lists no such graph.
        FileDigestError, FileSizeError
            The file was changed since it was opened.
        """
        if file not in self.manifest.files or not (file == PREDICT or GRAPH_FILES.match(file)):
            graphs = [name for name in self.manifest.files if name.endswith(".onnx")]
            raise FileNameError(f"No graph {file!r} in {self.path}. Graphs: {', '.join(sorted(graphs))}.")
        return self._read(file)

    def weights(self) -> WeightsReader:
        """Open the packed weights; they must be the stated ones, and their tensors exactly the ledger's.

        Raises
        ------
        FileDigestError
            The file was changed since it was opened.
        ContainerError
            The packed weights are malformed.
        FieldValueError
            A tensor's name, shape or bytes differ from the manifest's ledger.
        """
        if (
            file_entry(self.path / WEIGHTS, device=self.manifest.files[WEIGHTS].device)
            != self.manifest.files[WEIGHTS]
        ):
            raise FileDigestError(
                f"{self.path / WEIGHTS} does not have the SHA-256 of the manifest: it was changed."
            )
        most = 8 * sum(math.prod(row.shape) for row in self.manifest.ledger.rows)  # of the widest dtype
        reader = WeightsReader(self.path / WEIGHTS, max_dense_bytes=most)
        packed = [(r.name, r.shape, r.bytes, r.nonzero) for r in reader.records]
        stated = [(row.name, row.shape, row.bytes, row.nonzero) for row in self.manifest.ledger.rows]
        for found, expected in zip(packed, stated, strict=False):
            if found != expected:
                raise FieldValueError(f"weights.cwt holds {found}, the ledger states {expected}.")
        if len(packed) != len(stated):
            raise FieldValueError(
                f"weights.cwt holds {len(packed)} tensors, the ledger states {len(stated)}."
            )
        return reader

    def canaries(self) -> Canary:
        """Read the probes.

        Raises
        ------
        CanaryError
            They are malformed, or not as many as the manifest states.
        """
        canary = canary_from_bytes(self._read(CANARIES))
        if canary.count != self.manifest.canaries.count:
            raise FieldValueError(
                f"canaries.safetensors holds {canary.count} probes, "
                f"the manifest states {self.manifest.canaries.count}."
            )
        return canary

    def _read(self, name: str) -> bytes:
        data = (self.path / name).read_bytes()
        entry = self.manifest.files[name]
        if len(data) != entry.bytes:
            raise FileSizeError(
                f"{self.path / name} holds {len(data)} bytes, the manifest states {entry.bytes}."
            )
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise FileDigestError(
                f"{self.path / name} does not have the SHA-256 of the manifest: it was changed."
            )
        return data


def open_directory(directory: Path, *, verify: bool, public_key: bytes | None = None) -> Artifact:
    """Open a directory whatever its own name is; ``write_artifact`` checks its work with this."""
    sizes = _file_sizes(directory)
    data = (directory / MANIFEST).read_bytes()
    if public_key is not None:
        from clearweight.artifact.signature import check_signature  # noqa: PLC0415  # needs the extra `sign`

        check_signature(directory, data, public_key)
    manifest = manifest_from_bytes(data)
    for name in sorted(set(sizes) - set(manifest.files) - {MANIFEST, SIGNATURE}):
        raise SurplusFileError(f"{directory / name} is not in the manifest; an artifact holds nothing else.")
    for name, entry in sorted(manifest.files.items()):
        if name not in sizes:
            raise MissingFileError(f"{directory / name} is in the manifest but not on disk.")
        if sizes[name] != entry.bytes:
            raise FileSizeError(
                f"{directory / name} holds {sizes[name]} bytes, the manifest states {entry.bytes}."
            )
        if verify and file_entry(directory / name, device=entry.device) != entry:
            raise FileDigestError(
                f"{directory / name} does not have the SHA-256 of the manifest: it was changed."
            )
    return Artifact(directory, manifest, len(data))


def file_entry(path: Path, *, device: bool) -> FileEntry:
    """Measure and hash a file, a chunk at a time."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(size, digest.hexdigest(), device)


def _file_sizes(directory: Path) -> dict[str, int]:
    # Names, kinds and sizes of all entries, before the content of any is read.
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotAnArtifactError(f"{directory} is not a directory.") from error
    names = [entry.name for entry in entries]
    if MANIFEST not in names:
        raise NotAnArtifactError(f"{directory} holds no {MANIFEST}.")
    sizes = {}
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise LinkError(f"{directory / entry.name} is a link, folder or device; expected a regular file.")
        try:
            most = check_file_name(entry.name)
        except FileNameError as error:
            raise SurplusFileError(f"{directory / entry.name} is no file of an artifact.") from error
        if status.st_size > most:
            raise FileTooLargeError(
                f"{directory / entry.name} holds {status.st_size} bytes, at most {most} are read."
            )
        sizes[entry.name] = status.st_size
    return sizes
