"""The part of a Kubernetes API that Snakemake's plugin uses, on this machine, for the tests.

A job that is created is run here: its container's command, in an empty folder as the container has one. Its mounts are
taken to lie where the specification says; there is no image, no isolation and no scheduler.
"""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

CONTAINER = "snakemake"


class FakeKubernetes:
    """Serves as long as the block lasts. `jobs`: the specifications that were created, by name."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self.jobs: dict[str, dict[str, Any]] = {}
        self.outputs: dict[str, str] = {}
        self._codes: dict[str, int | None] = {}

    def __enter__(self) -> FakeKubernetes:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._answer(api.create(self.path, json.loads(self._body())))

            def do_GET(self) -> None:
                self._answer(api.get(self.path))

            def do_DELETE(self) -> None:
                self._body()
                self._answer({"kind": "Status", "status": "Success"})

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _answer(self, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_access(self, file: Path) -> None:
        """A file for KUBECONFIG."""
        access = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip
        file.write_text(yaml.safe_dump(access))

    def create(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/jobs"):
            name = content["metadata"]["name"]
            self.jobs[name], self._codes[name] = content, None
            threading.Thread(target=self._run, args=(name,), daemon=True).start()
        return content

    def get(self, path: str) -> dict[str, Any]:
        place, _, query = path.partition("?")
        if place.endswith("/pods"):
            return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods(query)}
        name = place.removesuffix("/status").rpartition("/")[2]
        code = self._codes[name]
        status = {} if code is None else {"failed" if code else "succeeded": 1}
        return self.jobs[name] | {"status": status}

    def _pods(self, query: str) -> list[dict[str, Any]]:
        name = query.rpartition("%3D")[2]
        code = self._codes.get(name)
        if code is None:
            return []
        ended = {
            "name": CONTAINER, "image": "", "imageID": "", "ready": False, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}},
        }  # fmt: skip
        return [{"metadata": {"name": f"{name}-pod"}, "status": {"containerStatuses": [ended]}}]

    def _run(self, name: str) -> None:
        container = self.jobs[name]["spec"]["template"]["spec"]["containers"][0]
        workdir = self._folder / name
        workdir.mkdir()
        done = subprocess.run(
            [*container["command"], *container["args"]],
            cwd=workdir,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.outputs[name] = done.stdout
        self._codes[name] = done.returncode
