"""A W&B server on this machine, for tests: it answers what the unmodified client asks, and keeps what it is sent.

The client talks to three kinds of addresses: `/graphql` (questions and changes, each with the name of an operation),
`/files/ENTITY/PROJECT/RUN/file_stream` (rows, summary and lines of a run, each with its place in a file), and the
addresses for uploads that the server hands out, here below `/storage/`. What it says to an operation is a function in
`wandb_operations`. One that is not there is answered with an error, and kept in `unknown`.

    with WandbServer() as server:
        server.misbehave("file_stream", status=500)
        ...
        (run,) = server.kept.runs.values()

As a command, `python -m tests.wandb_server` prints its address, serves until its input ends, and answers `GET /kept`
with what it was sent, as JSON.
"""

import base64
import json
import os
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from platformdirs import user_cache_path

from tests.wandb_kept import Kept, RunSent
from tests.wandb_operations import OPERATIONS

KEY = "0123456789abcdef" * 2 + "01234567"
"""A key that it takes, unless it was told to refuse it."""


@dataclass
class Fault:
    """How the server misbehaves, and towards what."""

    where: str
    status: int | None = None
    seconds: float = 0.0
    closes: bool = False
    after: int = 0
    times: int | None = None


class WandbServer:
    """The server, in a thread of this process, from entering to leaving the context."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self._http = _Threads(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.address = self.kept.address = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """No longer takes connections, as a server that is switched off."""
        self._http.shutdown()
        self._http.server_close()

    def misbehave(self, where: str, **how: Any) -> Fault:
        """Makes the server misbehave towards requests.

        Args:
            where: the name of an operation; "graphql", "file_stream" or "storage" for all requests of such an address;
                "" for every request.
            status: the status to answer with, such as 401 or 503.
            seconds: how long to wait before the answer.
            closes: closes the connection without an answer.
            after: how many requests to answer well first.
            times: how often to misbehave; without end if not given.
        """
        self.faults.append(fault := Fault(where, **how))
        return fault

    def environment(self, folder: Any) -> dict[str, str]:
        """Variables for a client that shall talk to this server, and keep its own files below a folder."""
        places = {f"WANDB_{name}": str(folder) for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR")}
        told = {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
        if "DIFFMAMBA_CACHE" not in os.environ:  # where compiled operators are kept, else below the other HOME
            told["DIFFMAMBA_CACHE"] = str(user_cache_path("diffmamba") / "cpu")
        return places | told | {"HOME": str(folder), "NETRC": str(folder / "netrc"), "WANDB_ERROR_REPORTING": "false"}

    def fault(self, *names: str) -> Fault | None:
        """The fault that a request shall meet, which has these names."""
        with self.lock:
            for fault in self.faults:
                if fault.where and fault.where not in names:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                elif fault.times is None or fault.times > 0:
                    fault.times = fault.times and fault.times - 1
                    return fault
        return None

    def answer(self, query: str, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What the server says to an operation."""
        with self.lock:
            self.kept.operations.append((name, variables))
            if name not in OPERATIONS:
                self.kept.unknown.append(query)
                return _error(f"no operation {name} in tests/wandb_operations.py")
            try:
                return {"data": OPERATIONS[name](self.kept, variables)}
            except KeyError as error:
                return _error(f"{name}: {error} is not there")

    def stream(self, project: str, run_id: str, told: dict[str, Any]) -> dict[str, Any]:
        """Keeps what a client streams of a run."""
        with self.lock:
            run = self.kept.runs[project, run_id]
            for name, piece in (told.get("files") or {}).items():
                lines = run.lines.setdefault(name, {})
                lines.update(enumerate(piece["content"], piece["offset"]))
                run.sent_lines += len(piece["content"]) * (name == "wandb-history.jsonl")
            if told.get("complete"):
                run.exit_code = told.get("exitcode", 0)
                run.state = "failed" if run.exit_code else "finished"
            return {"exitcode": None, "limits": {}}


class _Threads(ThreadingHTTPServer):
    """One thread for each connection. Those that are open end with the server, and a client may leave as it likes."""

    daemon_threads = True
    owner: WandbServer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request, to the server that owns this one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self._body()
        if self._path == "/graphql":
            asked = json.loads(body)
            query = asked["query"]
            found = re.search(r"(?:query|mutation)\s+(\w+)", query)
            name = asked.get("operationName") or (found[1] if found else "")
            if not self._misbehaves("graphql", name):
                self._send(self.owner.answer(query, name, asked.get("variables") or {}))
        elif found := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", self._path):
            if not self._misbehaves("file_stream"):
                self._send(self.owner.stream(unquote(found[2]), unquote(found[3]), json.loads(body)))
        else:
            self._unknown()

    def do_PUT(self) -> None:
        body = self._body()
        if not self._path.startswith("/storage/"):
            self._unknown()
        elif not self._misbehaves("storage"):
            self.owner.kept.storage[unquote(self._path.removeprefix("/storage/"))] = body
            self._send({})

    def do_GET(self) -> None:
        if self._path == "/kept":
            self._send(_plain(self.owner.kept))
        elif self._path == "/":
            if not self._misbehaves("hello"):
                self._send({})
        elif self._path.startswith("/storage/"):
            if not self._misbehaves("storage"):
                self._send(self.owner.kept.storage[unquote(self._path.removeprefix("/storage/"))])
        else:
            self._unknown()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    @property
    def owner(self) -> WandbServer:
        assert isinstance(self.server, _Threads)
        return self.server.owner

    @property
    def _path(self) -> str:
        return urlsplit(self.path).path

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _misbehaves(self, *names: str) -> bool:
        """Whether the request was dealt with by a fault."""
        fault = self.owner.fault(*names)
        if fault is None:
            return False
        time.sleep(fault.seconds)
        if fault.closes:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault.status is not None:
            self._send(_error("told to misbehave"), fault.status)
        return fault.closes or fault.status is not None

    def _unknown(self) -> None:
        self.owner.kept.unknown.append(f"{self.command} {self.path}")
        self._send({}, 404)

    def _send(self, answer: dict[str, Any] | bytes, status: int = 200) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client has gone
            self.close_connection = True


def _error(message: str) -> dict[str, Any]:
    return {"data": None, "errors": [{"message": message}]}


def _plain(kept: Any) -> Any:
    """What was kept as JSON has it: bytes in base64."""
    if isinstance(kept, RunSent):
        return {**asdict(kept), "history": kept.history, "summary": kept.summary}
    if is_dataclass(kept):
        return {name: _plain(value) for name, value in vars(kept).items()}
    if isinstance(kept, dict):
        return {"/".join(key) if isinstance(key, tuple) else key: _plain(value) for key, value in kept.items()}
    if isinstance(kept, list | tuple):
        return [_plain(value) for value in kept]
    return base64.b64encode(kept).decode() if isinstance(kept, bytes) else kept


if __name__ == "__main__":
    with WandbServer() as serving:
        print(serving.address, flush=True)
        sys.stdin.read()
