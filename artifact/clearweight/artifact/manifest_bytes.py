"""``manifest.json`` as bytes: canonical JSON under a seal (SPEC.md section 4.1)."""

import hashlib
import re
from dataclasses import replace

from clearweight.artifact import canonical_json
from clearweight.artifact.errors import FileTooLargeError, ManifestDigestError, ManifestSyntaxError
from clearweight.artifact.manifest import Manifest
from clearweight.artifact.manifest_rules import check_manifest
from clearweight.artifact.record_form import from_form, to_form

MAX_MANIFEST_BYTES = 16 << 20
WHERE = "manifest.json"

_SEAL = re.compile(rb',"manifest_sha256":"([0-9a-f]{64})"\}\Z')
_EMPTY_SEAL = b',"manifest_sha256":""}'


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """Spell and seal a manifest; whatever its ``manifest_sha256`` was is replaced.

    Raises
    ------
    ManifestError
        A value that could not be read back.
    """
    form = to_form(manifest)
    del form["manifest_sha256"]
    body = canonical_json.dumps(form)
    digest = _digest(body)
    data = body[:-1] + f',"manifest_sha256":"{digest}"}}'.encode("ascii")
    manifest_from_bytes(data)  # one check for both directions: what is written can be read
    return data


def manifest_from_bytes(data: bytes) -> Manifest:
    """Read a manifest: seal, spelling, fields, rules, in this order.

    Raises
    ------
    FileTooLargeError
        More than ``MAX_MANIFEST_BYTES``.
    ManifestError
        A class of its own for each way to be wrong.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise FileTooLargeError(f"{WHERE} holds {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read.")
    seal = _SEAL.search(data)
    if seal is None:
        raise ManifestSyntaxError(f'{WHERE} does not end with ,"manifest_sha256":"<64 hex digits>"}}.')
    body = data[: seal.start()] + b"}"
    stated, actual = seal.group(1).decode("ascii"), _digest(body)
    if stated != actual:
        raise ManifestDigestError(f"{WHERE} has digest {actual}, but states {stated}: it was changed.")
    form = canonical_json.loads(body, WHERE)
    if isinstance(form, dict):
        form["manifest_sha256"] = stated
    manifest = from_form(Manifest, form, WHERE)
    check_manifest(manifest)
    return manifest


def sealed(manifest: Manifest) -> Manifest:
    """Return the manifest as it reads back from its bytes."""
    return manifest_from_bytes(manifest_to_bytes(replace(manifest, manifest_sha256="")))


def _digest(body: bytes) -> str:
    return hashlib.sha256(body[:-1] + _EMPTY_SEAL).hexdigest()
