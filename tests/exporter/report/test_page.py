"""The page: self-contained, well-formed, deterministic, and true to its data."""

import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from clearweight.exporter.report import render_report

VOID = {"meta", "img", "br"}


class Strict(HTMLParser):
    """Collects text and tags, and refuses elements that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(page):
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    return parser, re.sub(r"\s+", " ", " ".join(parser.text))


def test_all_that_was_measured_is_on_the_page(data):
    _, text = read(render_report(data))

    for expected in (
        "tiny",
        "5 200 B",
        "541 B",
        "9.6× smaller",
        "2 600 B",
        "2.0× smaller",
        "97.96 %",
        "reference 98.12 %",
        "99.10 %",
        "fidelity passed",
        "Mean cosine 0.913, at least 0.880 was demanded",
        "accuracy drop 0.16 %, at most 0.20 % was allowed",
        "0.842",
        "0.951",
        "0.907",
        "rank correlation 0.777, top tenth in common 0.666",
        "0.215",
        "0.204",
        "−0.123",
        "retrain floor, 0.800",
        "closes 56 % of what",
        "Input x gradient on 200 calibration inputs, 2 of them undefined",
        "cosine 0.913 0.801 0.922 0.973 pooled top tenth in common 0.710 0.510 0.720 0.880",
        "200 calibration inputs (2 more undefined)",
        "sha256:c0ffee",
        "2.13.0",
        "16, calibration",
    ):
        assert expected in text, expected


def test_ledger_gives_every_tensor_bits_by_stage_and_adds_up(data):
    _, text = read(render_report(data))

    assert "fc1.weight 20 × 64 1 280 20.0 % 32.00 10.00 4.38 2.81 450" in text
    assert "fc1.bias 20 20 100.0 % 32.00 36.00 34.00 24.40 61" in text
    assert "headers and tables 30" in text
    assert "total 1 300 541" in text


def test_matched_explainers_are_told_from_the_others(data, replaced):
    _, text = read(render_report(data))

    assert text.count("matched in training;") == 1
    assert text.count("not seen in training") == 3


def test_the_floor_is_marked_only_where_it_was_measured(data):
    parser, _ = read(render_report(data))

    marks = [
        attributes for tag, attributes in parser.tags if tag == "rect" and attributes.get("class") == "mark"
    ]

    assert [mark["x"] for mark in marks] == ["80.0"]


def test_failed_fidelity_is_said(data, manifest, replaced):
    failed = replaced(manifest, fidelity=replaced(manifest.fidelity, passed=False))

    _, text = read(render_report(replaced(data, manifest=failed)))

    assert "fidelity failed" in text
    assert "fidelity passed" not in text


def test_what_was_not_measured_is_left_out_or_said(data, manifest, replaced):
    unmeasured = replaced(manifest.reference_quality, deletion_auc=None, spearman_to_own_occlusion=None)
    bare = replaced(
        manifest,
        fidelity=None,
        drift=None,
        default_explainer=None,
        reference_quality=unmeasured,
        compressed_quality=unmeasured,
    )
    empty = np.zeros((0, 1, 8, 8))
    page = render_report(
        replaced(
            data,
            manifest=bare,
            inputs=np.zeros((0, 1, 8, 8)),
            labels=np.zeros(0, np.int64),
            maps_reference=empty,
            maps_compressed=empty,
            comparison=None,
            null_scores=None,
            device_bytes=None,
        )
    )

    parser, text = read(page)

    assert "Fidelity to a reference was not measured." in text
    assert "not known when this page was made" in text
    assert "Does it still explain itself" not in text
    assert "Maps side by side" not in text
    assert "What no drift looks like" not in text
    assert not [tag for tag, _ in parser.tags if tag == "img"]


def test_names_from_the_user_are_escaped(data):
    page = render_report(data)

    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "class 5" in read(page)[1]


def test_nothing_is_fetched_and_nothing_runs(data):
    page = render_report(data)
    parser, _ = read(page)

    assert not [tag for tag, _ in parser.tags if tag in {"script", "link", "iframe", "object", "form"}]
    addresses = [
        value
        for _, attributes in parser.tags
        for name, value in attributes.items()
        if name in {"src", "href"}
    ]
    assert addresses
    assert all(value.startswith("data:image/png;base64,") for value in addresses)
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page


def test_page_is_accessible(data):
    parser, _ = read(render_report(data))

    images = [attributes for tag, attributes in parser.tags if tag == "img"]
    assert len(images) == 12
    assert all(image["alt"] for image in images)
    drawings = [attributes for tag, attributes in parser.tags if tag == "svg"]
    assert all(
        one.get("aria-hidden") == "true" or (one["role"] == "img" and one["aria-label"]) for one in drawings
    )
    assert all("scope" in attributes for tag, attributes in parser.tags if tag == "th")
    assert ("html", {"lang": "en"}) in parser.tags
    identities = [attributes["id"] for _, attributes in parser.tags if "id" in attributes]
    assert len(set(identities)) == len(identities)
    labelled = {
        attributes["aria-labelledby"] for _, attributes in parser.tags if "aria-labelledby" in attributes
    }
    assert labelled <= set(identities)


def test_light_and_dark_have_the_same_colours_to_fill(data):
    style = render_report(data).split("<style>")[1].split("</style>")[0]
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]

    assert set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark.split("} }")[0]))
    assert set(re.findall(r"var\((--\w+)\)", style)) <= set(re.findall(r"(--\w+):", light))


def contrast(first, second):
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_text_is_legible_in_both_modes(data):
    style = render_report(data).split("<style>")[1]
    for block in style.split("@media (prefers-color-scheme: dark)")[:2]:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block.split("* {")[0]))
        for text in ("text", "soft", "accent", "good", "bad"):
            for ground in ("page", "card"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def test_the_same_data_gives_the_same_bytes(data):
    assert render_report(data) == render_report(data)


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import conftest
from clearweight.exporter.report import render_report
manifest = conftest.manifest.__wrapped__()
data = conftest.data.__wrapped__(manifest)
print(hashlib.sha256(render_report(data).encode()).hexdigest())
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_in_another_directory_gives_the_same_bytes(data, tmp_path, seed):
    here = os.path.dirname(__file__)  # noqa: PTH120  # handed to a command line
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, here],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.strip() == hashlib.sha256(render_report(data).encode()).hexdigest()


def test_many_tensors_fold_away(data, manifest, replaced):
    rows = manifest.ledger.rows * 30

    page = render_report(
        replaced(data, manifest=replaced(manifest, ledger=replaced(manifest.ledger, rows=rows)))
    )

    assert "Ledger of 60 tensors" in read(page)[1]


@pytest.mark.parametrize("shape", [(12, 3, 224, 224), (12, 1, 28, 28), (12, 2, 5000), (12, 5000)])
def test_the_page_stays_small_for_any_images(data, replaced, shape):
    rng = np.random.default_rng(62)
    noise = rng.normal(size=shape)

    page = render_report(
        replaced(
            data,
            inputs=rng.normal(size=shape),
            labels=np.zeros(12, np.int64),
            maps_reference=noise,
            maps_compressed=noise[::-1],
        )
    )

    assert len(page.encode()) < 400_000
    assert len([tag for tag, _ in read(page)[0].tags if tag == "img"]) == 40
