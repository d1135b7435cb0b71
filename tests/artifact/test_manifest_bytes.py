import hashlib
import json
from dataclasses import replace

import pytest

from clearweight.artifact import canonical_json, manifest_from_bytes, manifest_to_bytes
from clearweight.artifact.errors import (
    FieldTypeError,
    FileTooLargeError,
    ManifestDigestError,
    ManifestSyntaxError,
    MissingFieldError,
    NonCanonicalError,
    UnknownFieldError,
    UnsupportedVersionError,
)
from clearweight.artifact.manifest_bytes import MAX_MANIFEST_BYTES
from tests.artifact.samples import manifest, network, packed_report

MADE = manifest(packed_report(network())[1])
DATA = manifest_to_bytes(MADE)


def sealed(form: dict, spell=canonical_json.dumps) -> bytes:
    """Seal any JSON object as SPEC.md section 4.1 says, without the code under test."""
    body = spell({key: value for key, value in form.items() if key != "manifest_sha256"})
    empty = body[:-1] + b',"manifest_sha256":""}'
    return empty[:-2] + hashlib.sha256(empty).hexdigest().encode() + b'"}'


def test_manifests_round_trip():
    back = manifest_from_bytes(DATA)

    assert replace(back, manifest_sha256="") == MADE
    assert manifest_to_bytes(back) == DATA


def test_the_seal_is_the_last_field_and_covers_the_bytes_without_its_digits():
    digits = DATA[-66:-2].decode()

    assert DATA.endswith(f',"manifest_sha256":"{digits}"}}'.encode())
    assert (
        digits
        == hashlib.sha256(DATA[:-66] + DATA[-2:]).hexdigest()
        == manifest_from_bytes(DATA).manifest_sha256
    )
    assert sealed(json.loads(DATA)) == DATA


def test_all_other_keys_are_sorted_and_the_text_is_ascii():
    keys = list(json.loads(DATA))

    assert keys[:-1] == sorted(keys[:-1])
    assert keys[-1] == "manifest_sha256"
    assert DATA.isascii()
    assert b"z\\u00e9ro" in DATA


def test_every_changed_byte_is_found():
    for place in range(0, len(DATA), 3):
        with pytest.raises((ManifestDigestError, ManifestSyntaxError)):
            manifest_from_bytes(DATA[:place] + bytes([DATA[place] ^ 1]) + DATA[place + 1 :])


def test_a_file_cut_at_any_byte_is_refused():
    for cut in range(len(DATA)):
        with pytest.raises(ManifestSyntaxError):
            manifest_from_bytes(DATA[:cut])


def test_another_spelling_under_a_right_seal_is_refused():
    spaced = sealed(json.loads(DATA), lambda form: json.dumps(form, sort_keys=True).encode())
    unsorted = sealed(
        dict(reversed(json.loads(DATA).items())),
        lambda form: json.dumps(form, separators=(",", ":")).encode(),
    )

    for data in (spaced, unsorted):
        with pytest.raises(NonCanonicalError):
            manifest_from_bytes(data)


@pytest.mark.parametrize("extra", [b"\n", b" ", b"{}"])
def test_anything_behind_the_seal_is_refused(extra):
    with pytest.raises(ManifestSyntaxError):
        manifest_from_bytes(DATA + extra)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"surprise": 1}, UnknownFieldError),
        ({"labels": "zero"}, FieldTypeError),
        ({"format_version": 2}, UnsupportedVersionError),
        ({"format": "other"}, UnsupportedVersionError),
        ({"format_version": 1.0}, FieldTypeError),
    ],
)
def test_other_fields_under_a_right_seal_are_refused(change, error):
    with pytest.raises(error):
        manifest_from_bytes(sealed(json.loads(DATA) | change))


@pytest.mark.parametrize("name", sorted(set(json.loads(DATA)) - {"manifest_sha256"}))
def test_every_field_is_required(name):
    form = json.loads(DATA)
    del form[name]
    with pytest.raises(MissingFieldError, match=repr(name)):
        manifest_from_bytes(sealed(form))


def test_a_list_under_a_seal_is_no_manifest():
    body = b"[1" + b',"manifest_sha256":"'
    with pytest.raises((ManifestSyntaxError, ManifestDigestError)):
        manifest_from_bytes(body + hashlib.sha256(body + b'"}').hexdigest().encode() + b'"}')


def test_a_huge_file_is_refused_before_it_is_parsed():
    with pytest.raises(FileTooLargeError):
        manifest_from_bytes(b" " * (MAX_MANIFEST_BYTES + 1))


def test_values_that_could_not_be_read_back_are_not_written():
    with pytest.raises(
        FieldTypeError, match=r"integrity.logits_atol is int '1', expected a number with a fraction"
    ):
        manifest_to_bytes(replace(MADE, integrity=replace(MADE.integrity, logits_atol=1)))
    with pytest.raises(ManifestSyntaxError):
        manifest_to_bytes(replace(MADE, integrity=replace(MADE.integrity, logits_atol=float("nan"))))
