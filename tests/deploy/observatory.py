"""A centre and a device on this machine: the shipped configurations, with real binaries, on free loopback ports.

Only addresses and times differ from what is shipped: seconds instead of minutes, so that a test can wait for them.
"""

import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.deploy.chart import ROOT

RULES = ROOT / "helm" / "files" / "rules.yaml"
CENTRE = ROOT / "deploy" / "centre"
EDGE = ROOT / "deploy" / "edge"


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def hastened(text):
    """Return a configuration or rules whose waiting times are seconds."""
    text = re.sub(r"\bfor: \d+[mh]", "for: 1s", text)
    text = re.sub(r"\[(5m|15m|1h)\]", "[12s]", text)
    text = re.sub(r"\b(scrape_interval|evaluation_interval): \w+", r"\1: 1s", text)
    text = re.sub(r"\b(group_wait|group_interval): \w+", r"\1: 1s", text)
    return re.sub(r"\bmax_backoff: \w+", "max_backoff: 1s", text)


class Program:
    """One process of the chain; its configuration is written anew, it ends with the test."""

    def __init__(self, folder, command, port):
        self.port, self._command, self._log = port, command, folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self):
        with self._log.open("a") as log:  # the process keeps its own handle
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self._log.parent)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def get(self, path, **query):
        """Return the `data` of an API's answer."""
        address = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.loads(answer.read())

    def wait(self):
        within(30, self._ready, lambda: self._log.read_text()[-2000:])

    def _ready(self):
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
            return answer.status == 200
        return False


def within(seconds, holds, told=lambda: ""):
    """Wait until something holds and return it; fail with what is known after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, told()
        time.sleep(0.2)
    return found


class Prometheus(Program):
    """The centre's Prometheus, over the shipped rules."""

    def __init__(self, folder: Path, scraped: str, alertmanager: int):
        folder.mkdir()
        text = (CENTRE / "prometheus.yaml").read_text(encoding="utf-8")
        text = text.replace("targets: []", f'targets: ["{scraped}"]')
        text = text.replace("alertmanager:9093", f"127.0.0.1:{alertmanager}")
        (folder / "prometheus.yaml").write_text(hastened(text))
        (folder / "rules.yaml").write_text(hastened(RULES.read_text(encoding="utf-8")))
        port = free_port()
        command = [
            "prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
            "--web.enable-remote-write-receiver", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        super().__init__(folder, command, port)

    def ask(self, query):
        """Return the result of an instant query; a wrong query is an error."""
        answer = self.get("/api/v1/query", query=query)
        assert answer["status"] == "success"
        return answer["data"]["result"]


class Agent(Program):
    """A device's Prometheus in agent mode, writing to a centre."""

    def __init__(self, folder: Path, scraped: str, centre: str, device: str):
        folder.mkdir()
        text = (EDGE / "agent.yaml").read_text(encoding="utf-8")
        text = text.replace("clearweight:8080", scraped).replace("http://centre.example:9090", centre)
        assert centre in text
        (folder / "agent.yaml").write_text(hastened(text))
        port = free_port()
        command = [
            "env", f"DEVICE={device}",
            "prometheus", "--enable-feature=agent,expand-external-labels", "--config.file=agent.yaml",
            "--storage.agent.path=data", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        super().__init__(folder, command, port)


class Alertmanager(Program):
    """The centre's Alertmanager, calling a webhook of the test."""

    def __init__(self, folder: Path, port: int, page: str, ticket: str):
        folder.mkdir()
        text = (CENTRE / "alertmanager.yaml").read_text(encoding="utf-8")
        text = text.replace("http://pager.example/clearweight", page)
        text = text.replace("http://tickets.example/clearweight", ticket)
        (folder / "alertmanager.yaml").write_text(hastened(text))
        command = [
            "prometheus-alertmanager", "--config.file=alertmanager.yaml", "--storage.path=data",
            "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        super().__init__(folder, command, port)


class Webhook:
    """Whoever is paged: keeps what it is sent, by path."""

    def __init__(self):
        self.calls: list[tuple[str, dict]] = []
        calls = self.calls

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                calls.append((self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def alerts(self, path):
        """Return every alert that arrived there."""
        return [alert for called, body in list(self.calls) if called == path for alert in body["alerts"]]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
