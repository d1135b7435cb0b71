"""The page of settings names every setting once, with its default and what the source says of it."""

import re

from clearweight.service.settings import Settings
from deploy.settings_page import PATH, SECTIONS, page


def test_the_page_is_that_of_this_checkout():
    assert PATH.read_text(encoding="utf-8") == page(), "run make chart"


def test_every_setting_stands_there_once_and_with_a_remark():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", page(), re.MULTILINE)

    assert [name for name, _, _ in rows] == list(Settings.model_fields)
    assert all(remark.endswith(".") for _, _, remark in rows)
    assert set(SECTIONS) <= set(Settings.model_fields)


def test_defaults_and_choices_are_written_as_the_environment_takes_them():
    shown = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", page(), re.MULTILINE))

    assert shown["memory"] == "`fast`, or `saving`"
    assert shown["all_explainers"] == "`false`"
    assert (shown["request_timeout"], shown["inline_seconds"]) == ("`60`", "`0.001`")
    assert shown["max_body_bytes"] == "`67108864`"
    assert (shown["tokens"], shown["state_dir"], shown["on_alarm_of"]) == ("none", "none", "none")
