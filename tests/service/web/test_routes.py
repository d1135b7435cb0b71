"""The page's files: all there, nothing from elsewhere, nothing that a strict content policy would refuse."""

import re

import pytest

from clearweight.service import EngineOptions, web
from clearweight.service.rest import create_app
from clearweight.service.web.routes import FILES
from tests.service.conftest import Client, open_service

PAGES = ("/", "/docs")
SCRIPTS = sorted(path.name for path in FILES.glob("*.js"))


@pytest.fixture(scope="module")
def http(models):
    for service in open_service(models, EngineOptions(shadow=1.0)):
        app = create_app(service.plane, service.metrics.exposition)
        app.router.routes.extend(web.routes(service.engine))
        yield Client(app)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_comes_with_every_file_it_names(http, path):
    page = http.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")

    named = re.findall(r'(?:src|href)="(web/[^"]+)"', page.text)

    assert named
    for file in named:
        assert http.get(f"/{file}").status_code == 200


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_comes_as_one_with_every_module_it_imports(http, script):
    reply = http.get(f"/web/{script}")
    assert reply.headers["content-type"].split(";")[0] in ("text/javascript", "application/javascript")

    for module in re.findall(r'from "\./([^"]+)"', reply.text):
        assert http.get(f"/web/{module}").status_code == 200


@pytest.mark.parametrize("file", sorted(FILES.iterdir()), ids=lambda file: file.name)
def test_nothing_is_fetched_from_elsewhere(file):
    text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")

    assert not re.search(r"https?://|//cdn|@import", text)


@pytest.mark.parametrize("path", PAGES)
def test_no_script_or_style_stands_in_the_page_itself(http, path):
    text = http.get(path).text

    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


def test_the_card_of_a_model(http):
    found = http.get("/web/card/tiny").json()

    assert (found["name"], found["version"]) == ("tiny", "10")
    assert found["reference_loaded"] is True


def test_the_card_of_no_model_says_so(http):
    reply = http.get("/web/card/nothing")

    assert reply.status_code == 404
    assert "nothing" in reply.json()["error"]


def test_the_card_of_a_model_that_is_not_loaded_says_why(models, tmp_path):
    broken = tmp_path / "models" / "tiny" / "1"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{}")
    for service in open_service(tmp_path / "models", EngineOptions()):
        app = create_app(service.plane)
        app.router.routes.extend(web.routes(service.engine))
        reply = Client(app).get("/web/card/tiny")

        assert reply.status_code == 503
        assert "manifest" in reply.json()["error"]


@pytest.mark.parametrize("path", ["/web/../card.py", "/web/..%2fcard.py", "/web/nothing.js"])
def test_other_files_stay_where_they_are(http, path):
    assert http.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/web/page.js"])
def test_a_range_that_makes_no_sense_gets_the_whole_file(http, path):
    whole = http.get(path)

    assert http.get(path, headers={"Range": "b: 'x,-"}).content == whole.content
    assert whole.status_code == 200
