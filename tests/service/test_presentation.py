"""Pictures, series, labels and drawn maps, over every transport: numbers in between are the engine's."""

import base64
import io
import json

import grpc
import numpy as np
import orjson
import pytest
from PIL import Image

from clearweight.artifact import Preprocessing
from clearweight.service import EngineOptions, Limits
from clearweight.service.core.picture import draw
from clearweight.service.rpc.generated import explain_pb2 as pb
from clearweight.service.rpc.generated import explain_pb2_grpc as pb_grpc
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from tests.service import artifacts
from tests.service.conftest import open_channel, open_service
from tests.service.rest.messages import body, entry, refused
from tests.service.rpc.test_oip import fails

PIXELS = np.clip(artifacts.inputs(2, seed=7) * 100, 0, 255).astype(np.uint8)
BYTES_SCALE = Preprocessing(raw_datatype="UINT8", scale=0.01)
INFER, EXPLAIN = "/v2/models/tiny/infer", "/v2/models/tiny/explain"


def file(pixels, kind="PNG"):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


FILES = [file(row[0]) for row in PIXELS]
TEXTS = [base64.b64encode(data).decode() for data in FILES]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    out = tmp_path_factory.mktemp("pictures")
    artifacts.write(out, preprocessing=BYTES_SCALE, calibration=20)
    artifacts.write(out, name="floats", calibration=20)
    yield from open_service(out, EngineOptions(limits=Limits(200_000, 20_000, pixels=10_000)))


@pytest.fixture
def http(opened):
    return opened.http


@pytest.fixture
def direct(opened):
    return opened.engine.predict(PIXELS, model="tiny").logits


def encoded(items=TEXTS, **changes):
    return {"name": "input", "datatype": "BYTES", "shape": [len(items)], "data": list(items)} | changes


def logits(reply):
    assert reply.status_code == 200, reply.text
    found = {item["name"]: item for item in reply.json()["outputs"]}["logits"]
    return np.array(found["data"], np.float32).reshape(found["shape"])


def element(data):
    return len(data).to_bytes(4, "little") + data


class TestInputs:
    @pytest.mark.parametrize(
        "given", [encoded(), encoded(shape=[2, 1]), encoded([f"data:image/png;base64,{t}" for t in TEXTS])]
    )
    def test_base64_in_json(self, http, direct, given):
        assert np.array_equal(logits(http.post(INFER, json=body(given))), direct)

    def test_files_in_a_binary_tensor(self, http, direct):
        tail = b"".join(element(data) for data in FILES)
        given = encoded(parameters={"binary_data_size": len(tail)})
        del given["data"]
        text = orjson.dumps({"inputs": [given]})
        headers = {"Inference-Header-Content-Length": str(len(text))}

        assert np.array_equal(logits(http.post(INFER, content=text + tail, headers=headers)), direct)

    def test_b64_in_v1(self, http, direct):
        rows = [{"b64": text} for text in TEXTS]
        for asked in (
            {"instances": rows},
            {"inputs": rows},
            {"instances": [{"input": row} for row in rows]},
            {"inputs": {"input": rows}},
        ):
            reply = http.post("/v1/models/tiny:predict", json=asked)
            assert reply.status_code == 200, reply.text
            assert np.array_equal(np.array(reply.json()["predictions"], np.float32), direct)

    def test_a_form(self, http, direct):
        form = [("input", ("one.png", data, "image/png")) for data in FILES]

        assert np.array_equal(logits(http.post(INFER, files=form)), direct)
        found = http.post(EXPLAIN, files=form, data={"method": "gradient", "target": "3"})
        assert found.json()["parameters"]["method"] == "gradient"
        assert {item["name"]: item for item in found.json()["outputs"]}["target"]["data"] == [3, 3]

    def test_over_grpc(self, opened, direct):
        asked = oip.ModelInferRequest(model_name="tiny")
        asked.inputs.add(name="input", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(FILES)
        raw = oip.ModelInferRequest(model_name="tiny", raw_input_contents=[b"".join(map(element, FILES))])
        raw.inputs.add(name="input", datatype="BYTES", shape=[2])
        typed = pb.ExplainRequest(model="tiny", classification=1)
        typed.inputs.add(name="input", datatype="BYTES", shape=[2], raw=raw.raw_input_contents[0])
        with open_channel(opened) as channel:
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            found = np.array(stub.ModelInfer(asked).outputs[0].contents.fp32_contents, np.float32)
            assert np.array_equal(found.reshape(2, 5), direct)
            assert stub.ModelInfer(raw).raw_output_contents[0] == direct.tobytes()
            reply = pb_grpc.ExplainServiceStub(channel).Explain(typed)
            assert {t.name: t.raw for t in reply.outputs}["logits"] == direct.tobytes()
            asked.inputs[0].contents.bytes_contents[0] = b"no picture"
            fails(lambda: stub.ModelInfer(asked), grpc.StatusCode.INVALID_ARGUMENT)

    def test_another_size(self, http):
        large = [base64.b64encode(file(np.kron(PIXELS[0, 0], np.ones((3, 4), np.uint8)))).decode()]

        assert "'resize'" in refused(http.post(INFER, json=body(encoded(large))), 400)
        asked = body(encoded(large), parameters={"resize": "stretch"})
        assert logits(http.post(INFER, json=asked)).shape == (1, 5)
        refused(http.post(INFER, json=body(encoded(large), parameters={"resize": "yes"})), 400)

    def test_a_bomb(self, http):
        bomb = base64.b64encode(file(np.zeros((200, 200), np.uint8))).decode()

        assert "40000 pixels" in refused(
            http.post(INFER, json=body(encoded([bomb]), parameters={"resize": "crop"})), 413
        )

    def test_more_rows_than_elements_allow(self, http):
        refused(http.post(INFER, json=body(encoded(TEXTS[:1] * 400))), 413)

    def test_what_a_pixel_is_must_be_known(self, opened, http):
        path = "/v2/models/floats/infer"

        assert "'pixels'" in refused(http.post(path, json=body(encoded())), 400)
        for kind, scale in (("byte", 1), ("unit", 255)):
            expected = opened.engine.predict(
                PIXELS.astype(np.float32) / np.float32(scale), model="floats"
            ).logits
            found = logits(http.post(path, json=body(encoded(), parameters={"pixels": kind})))
            assert np.array_equal(found, expected)
        refused(http.post(INFER, json=body(encoded(), parameters={"pixels": "unit"})), 400)

    @pytest.mark.parametrize("data", ["", "none", "AAAA", "äöü", "data:image/png;base64,"])
    def test_what_is_no_picture(self, http, data):
        refused(http.post(INFER, json=body(encoded([data]))), 400)
        refused(http.post("/v1/models/tiny:predict", json={"instances": [{"b64": data}]}), 400)

    @pytest.mark.parametrize("shape", [[2, 2], [1, 1, 1], [1, 2]])
    def test_one_element_per_row(self, http, shape):
        given = encoded(TEXTS * 2 if shape == [2, 2] else TEXTS[: int(np.prod(shape))], shape=shape)

        refused(http.post(INFER, json=body(given)), 400)

    def test_a_baseline_may_be_a_picture(self, tmp_path):
        artifacts.write(tmp_path, preprocessing=BYTES_SCALE, probes=("probe_path",), calibration=20)
        for service in open_service(tmp_path, EngineOptions()):
            asked = body(
                encoded(),
                encoded(TEXTS[1:], name="baseline"),
                parameters={"method": "probe_path", "steps": 2},
            )
            found = {item["name"]: item for item in service.http.post(EXPLAIN, json=asked).json()["outputs"]}
            expected = service.engine.explain(PIXELS, method="probe_path", steps=2, baseline=PIXELS[1:]).map
            assert np.array_equal(np.array(found["explain"]["data"], np.float32), expected.ravel())


class TestForms:
    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"", "multipart/form-data; boundary=x"),
            (b"--x\r\n", "multipart/form-data; boundary=x"),
            (b"--x\r\n\r\nabc\r\n--x--\r\n", "multipart/form-data; boundary=x"),
            (
                b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\nabc',
                "multipart/form-data; boundary=x",
            ),
            (b"--x--\r\n", "multipart/form-data"),
            (b"--x\r\nno colon\r\n\r\n--x--", "multipart/form-data; boundary=x"),
            (
                b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--\r\n',
                "multipart/form-data; boundary=x",
            ),
        ],
    )
    def test_broken_forms(self, http, content, kind):
        refused(http.post(INFER, content=content, headers={"Content-Type": kind}), 400)

    def test_a_file_under_another_name(self, http):
        assert "'image'" in refused(http.post(INFER, files={"image": ("a.png", FILES[0])}), 400)

    def test_too_many_parts(self, http):
        many = [("input", ("a", b"x"))] * 1025
        assert "1024 parts" in refused(http.post(INFER, files=many), 400)


class TestAnswers:
    def test_labels_and_probabilities(self, http, direct):
        asked = body(encoded(), parameters={"classification": 2})
        found = {item["name"]: item for item in http.post(INFER, json=asked).json()["outputs"]}

        assert list(found) == ["logits", "class", "label", "probability"]
        order = np.argsort(-direct, axis=1)[:, :2]
        assert found["class"]["data"] == order.ravel().tolist()
        assert found["label"]["data"] == ["abcde"[index] for index in order.ravel()]
        shares = np.exp(direct) / np.exp(direct).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(
            found["probability"]["data"], np.take_along_axis(shares, order, 1).ravel(), rtol=1e-5
        )

    def test_they_stand_where_they_are_asked_for(self, http):
        wanted = [{"name": name} for name in ("label", "logits")]
        asked = body(encoded(), parameters={"classification": 1}, outputs=wanted)
        names = [item["name"] for item in http.post(INFER, json=asked).json()["outputs"]]

        assert names == ["label", "logits", "class", "probability"]

    @pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
    def test_counts(self, http, count):
        refused(http.post(INFER, json=body(encoded(), parameters={"classification": count})), 400)
        wanted = [{"name": "logits", "parameters": {"classification": count}}]
        refused(http.post(INFER, json=body(encoded(), outputs=wanted)), 400)

    def test_tritons_form_per_output(self, opened, http, direct):
        wanted = [{"name": "logits", "parameters": {"classification": 1}}]
        (found,) = http.post(INFER, json=body(encoded(), outputs=wanted)).json()["outputs"]

        best = direct.argmax(axis=1)
        assert found["datatype"] == "BYTES"
        assert found["data"] == [f"{direct[row, i]:f}:{i}:{'abcde'[i]}" for row, i in enumerate(best)]
        asked = oip.ModelInferRequest(model_name="tiny")
        asked.inputs.add(name="input", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(FILES)
        asked.outputs.add(name="logits").parameters["classification"].int64_param = 1
        with open_channel(opened) as channel:
            reply = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked)
        assert [text.decode() for text in reply.outputs[0].contents.bytes_contents] == found["data"]
        wanted = [{"name": "explain", "parameters": {"classification": 1}}]
        refused(http.post(EXPLAIN, json=body(encoded(), outputs=wanted)), 400)

    def test_v1(self, http, direct):
        asked = {"instances": [{"b64": text} for text in TEXTS], "parameters": {"classification": 3}}
        found = http.post("/v1/models/tiny:predict", json=asked).json()

        assert [[row["class"] for row in rows] for rows in found["classes"]] == np.argsort(-direct)[
            :, :3
        ].tolist()
        assert set(found["classes"][0][0]) == {"class", "label", "probability"}

    def test_numbers_may_be_classified_and_drawn_as_well(self, opened, http):
        x = artifacts.inputs(1)
        asked = body(entry(x), parameters={"classification": 1, "picture": "overlay"})
        reply = http.post("/v2/models/floats/explain", json=asked)
        found = {item["name"]: item for item in reply.json()["outputs"]}
        direct = opened.engine.explain(x, model="floats")

        png, scale = draw(direct.map[0], x[0], "overlay")
        assert found["picture"]["parameters"] == {"content_type": "base64"}
        assert base64.b64decode(found["picture"]["data"][0]) == png
        assert found["picture_scale"]["data"] == [pytest.approx(scale)]
        assert found["label"]["data"] == ["abcde"[int(direct.logits.argmax())]]


class TestPictures:
    @pytest.mark.parametrize("kind", [None, "heatmap", "overlay"])
    def test_accept_image_png(self, opened, http, kind):
        parameters = {"method": "gradient"} | ({"picture": kind} if kind else {})
        reply = http.post(
            EXPLAIN, json=body(encoded(TEXTS[:1]), parameters=parameters), headers={"Accept": "image/png"}
        )
        direct = opened.engine.explain(PIXELS[:1], method="gradient", model="tiny")

        png, scale = draw(direct.map[0], PIXELS[0], kind or "heatmap")
        assert reply.headers["content-type"] == "image/png"
        assert reply.content == png
        assert float(reply.headers["Clearweight-Picture-Scale"]) == pytest.approx(scale)
        assert reply.headers["Clearweight-Target"] == str(direct.target[0])
        assert reply.headers["Clearweight-Method"] == "gradient"

    def test_a_form_and_a_picture_back(self, http):
        reply = http.post(
            EXPLAIN, files={"input": FILES[0]}, data={"picture": "overlay"}, headers={"Accept": "image/png"}
        )

        assert Image.open(io.BytesIO(reply.content)).size == (256, 256)

    def test_several_rows_have_no_one_picture(self, http):
        text = refused(http.post(EXPLAIN, json=body(encoded()), headers={"Accept": "image/png"}), 400)
        assert "there are 2" in text

    def test_raw_over_binary_and_grpc(self, opened, http):
        asked = body(encoded(), parameters={"picture": "heatmap", "binary_data_output": True})
        reply = http.post(EXPLAIN, json=asked)
        head = json.loads(reply.content[: int(reply.headers["Inference-Header-Content-Length"])])
        sizes = {item["name"]: item["parameters"]["binary_data_size"] for item in head["outputs"]}
        typed = pb.ExplainRequest(model="tiny", picture="heatmap", outputs=["explain"])
        typed.inputs.add(name="input", datatype="BYTES", shape=[2], raw=b"".join(map(element, FILES)))
        with open_channel(opened) as channel:
            found = {t.name: t.raw for t in pb_grpc.ExplainServiceStub(channel).Explain(typed).outputs}

        assert list(found) == ["explain", "picture", "picture_scale"]
        assert len(found["picture"]) == sizes["picture"]
        assert found["picture"] in reply.content

    def test_v1(self, http):
        asked = {"instances": [{"b64": TEXTS[0]}], "parameters": {"picture": "heatmap"}}
        (picture,) = http.post("/v1/models/tiny:explain", json=asked).json()["pictures"]

        assert Image.open(io.BytesIO(base64.b64decode(picture["b64"]))).size == (256, 256)
        assert picture["scale"] > 0

    def test_refusals(self, http):
        refused(http.post(EXPLAIN, json=body(encoded(), parameters={"picture": "poster"})), 400)
        refused(http.post(INFER, json=body(encoded(), parameters={"picture": "heatmap"})), 400)
