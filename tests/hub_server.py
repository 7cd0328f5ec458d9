"""A Hugging Face Hub on loopback for tests: its endpoints for models, plain files, and faults on demand.

It speaks what the unmodified huggingface_hub 2.4 client asks for. Large (LFS) files, their uploads and the files of
`serve` are on a second port, as the real hub's are on another host: the client follows a redirect that stays on the hub
and then misses `X-Repo-Commit`. Left out: Xet (uploads need HF_HUB_DISABLE_XET=1), multipart uploads, pull requests,
pages of long listings, permissions, data sets and spaces.

    with Hub() as hub:
        sha = hub.commit("owner/name", {"model.safetensors": data})
        hub.fault("model.safetensors", cut(11_000_000), status(500))
        subprocess.run([sys.executable, "client.py"], env=hub.env(tmp_path))
        assert [headers["Range"] for method, path, headers in hub.requests if "/lfs/" in path] == ...
"""

import base64
import functools
import hashlib
import json
import os
import re
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

USER = "tester"  # whom every token belongs to
LFS_SUFFIXES = (".safetensors", ".h5", ".keras", ".npz", ".npy", ".bin", ".pt", ".pth", ".onnx", ".tflite", ".zip")
LFS_SIZE = 10_000_000  # larger files of any name are LFS files too
HOSTILE = b"written where it must not be\n"  # the content of every name that `extra_siblings` adds
ROUTES = []  # (method, pattern of the path, function), in the order in which they are tried
PARTS = {"{repo}": "(?P<repo>[^/]+(?:/[^/]+)?)", "{rev}": "(?P<rev>[^/]+)", "{oid}": "(?P<oid>[0-9a-f]{64})"}


class Request(NamedTuple):
    """A request as it came in; the headers' names are case-insensitive, a header that is not there is None."""

    method: str
    path: str
    headers: Message


@dataclass
class Answer(Exception):
    """What to send back; raised where the answer is a refusal."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; by itself nothing. The functions below make the others."""

    answer: Answer | None = None
    cut: int | None = None
    reset: bool = False
    wrong: bool = False
    size: int | None = None
    rate: float = 0
    hang: float = 0
    after: int | None = None
    ranges: bool = True


def cut(n: int, reset: bool = False) -> Fault:
    """The headers promise all that was asked for, n bytes come, then the connection ends (with reset: by an RST)."""
    return Fault(cut=n, reset=reset)


def status(code: int, headers: dict[str, str] | None = None) -> Fault:
    """An error; headers such as {"Retry-After": "0"} or {"X-Error-Code": "GatedRepo"}."""
    return Fault(answer=as_json({"error": f"fault {code}"}, code, headers))


def redirect(url: str) -> Fault:
    """A redirect to any URL."""
    return Fault(answer=Answer(302, headers={"Location": url}))


def wrong() -> Fault:
    """The right length and headers, but every byte another."""
    return Fault(wrong=True)


def resized(n: int) -> Fault:
    """The file is n bytes long, cut off or filled up with zeros, and Content-Length agrees."""
    return Fault(size=n)


def slow(bytes_per_second: float) -> Fault:
    """The right bytes, a few every 50 ms."""
    return Fault(rate=bytes_per_second)


def hang(seconds: float, after: int | None = None) -> Fault:
    """Silence before the status line, or after so many bytes of the body; then all goes on."""
    return Fault(hang=seconds, after=after)


def no_range() -> Fault:
    """A request for a range is answered by 200 and the whole file."""
    return Fault(ranges=False)


def as_json(data: object, code: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(code, json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})})


def missing(code: str, headers: dict[str, str] | None = None) -> Answer:
    """A 404 that says what is missing: RepoNotFound, RevisionNotFound or EntryNotFound."""
    return as_json({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})


@functools.lru_cache(maxsize=256)
def sha256(data: bytes) -> str:
    """The id of an LFS file."""
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache(maxsize=256)
def git_id(data: bytes) -> str:
    """The id that git gives a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path: str, size: int) -> bool:
    """Whether the hub keeps a file outside of git."""
    return size > 0 and (path.endswith(LFS_SUFFIXES) or size > LFS_SIZE)


def describe(path: str, data: bytes) -> dict:
    """A file's entry in a listing, with the names that the model's info and the tree use for the same things."""
    entry = {"type": "file", "path": path, "rfilename": path, "size": len(data)}
    if not is_lfs(path, len(data)):
        return entry | {"oid": git_id(data), "blobId": git_id(data)}
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(data)}\nsize {len(data)}\n".encode()
    lfs = {"oid": sha256(data), "sha256": sha256(data), "size": len(data), "pointerSize": len(pointer)}
    return entry | {"oid": git_id(pointer), "blobId": git_id(pointer), "lfs": lfs}


class Repo:
    """A repository: every commit with its own files, and the names that point to commits."""

    def __init__(self, name: str, files: dict[str, bytes]):
        self.name, self.commits, self.hostile = name, {}, []
        self.refs: dict[str, dict[str, str]] = {"branch": {}, "tag": {}}
        self.commit("main", files)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Let the branch point to a new commit with exactly these files."""
        tree = [self.name, len(self.commits), branch, sorted((path, git_id(data)) for path, data in files.items())]
        sha = hashlib.sha1(json.dumps(tree).encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs["branch"][branch] = sha
        return sha

    def resolve(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """The commit and the files, the hostile ones too, of a branch, a tag or a commit."""
        sha = self.refs["branch"].get(revision) or self.refs["tag"].get(revision) or revision
        if sha not in self.commits:
            raise missing("RevisionNotFound")
        return sha, self.commits[sha] | dict.fromkeys(self.hostile, HOSTILE)


class Ask(NamedTuple):
    """What an endpoint gets besides the names in its path."""

    method: str
    query: dict[str, list[str]]
    body: bytes


def at(method: str, path: str):
    """The method below answers there; a query does not matter, {repo} is owner/name or name."""
    for part, pattern in PARTS.items():
        path = path.replace(part, pattern)

    def mark(function):
        ROUTES.append((method, path, function))
        return function

    return mark


class Hub:
    """The server; a context manager. Everything it was told and asked can be read from the test."""

    def __init__(self):
        self.requests: list[Request] = []
        self.errors: list[str] = []  # what went wrong in the server itself; leaving the context raises them
        self.faults: list[tuple[str, str, list[Fault]]] = []  # clear() to mend all
        self.stopped = threading.Event()
        self._repos: dict[str, Repo] = {}
        self._objects: dict[str, bytes] = {}
        self._served: dict[str, Answer] = {}
        self._lock = threading.RLock()
        self._servers = [_Server(self), _Server(self)]
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_address[1]}"
        self.storage = f"http://localhost:{self._servers[1].server_address[1]}"

    def __enter__(self):
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind, *_):
        self.stopped.set()
        for server in self._servers:
            server.stop()
        if self.errors and kind is None:
            raise AssertionError("\n".join(self.errors))

    # What tests use

    def commit(self, repo: str, files: dict[str, bytes | None], revision: str = "main") -> str:
        """Add, replace or (None) delete files on a branch, making repository and branch where missing; the commit."""
        with self._lock:
            known = self._repos.setdefault(repo, Repo(repo, {}))
            start = revision if revision in known.refs["branch"] else "main"
            tree = known.commits[known.refs["branch"][start]] | files
            return known.commit(revision, {path: data for path, data in tree.items() if data is not None})

    def withdraw(self, repo: str) -> None:
        """Take a repository away."""
        with self._lock:
            del self._repos[repo]

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision. A repository that a client created also has a .gitattributes, as on the hub."""
        return dict(self._repos[repo].commits[self._repos[repo].resolve(revision)[0]])

    def tag(self, repo: str, name: str, revision: str = "main") -> None:
        """Make a tag, or move it, which the client cannot."""
        self._repos[repo].refs["tag"][name] = self._repos[repo].resolve(revision)[0]

    def tags(self, repo: str) -> dict[str, str]:
        """The tags with their commits."""
        return dict(self._repos[repo].refs["tag"])

    def serve(self, path: str, data: bytes, headers: dict[str, str] | None = None) -> str:
        """Offer a plain file, with these headers too, at the URL returned."""
        path = path.lstrip("/")
        self._served[path] = Answer(200, data, {"ETag": f'"{git_id(data)}"', **(headers or {})})
        return f"{self.storage}/files/{quote(path)}"

    def fault(self, pattern: str, *faults: Fault, method: str = "GET") -> None:
        """Let the next requests whose path has the pattern fail in this way, one after the other; then all is well.

        The path is unquoted and with its query; an LFS file's is /lfs/owner/name/sha256/path at the storage, and the
        GET that is only sent on there takes no fault. `method` is a pattern too.
        """
        self.faults.append((pattern, method, list(faults)))

    def extra_siblings(self, repo: str, names: list[str]) -> None:
        """Let all listings include these names, whatever they are, with a content to download."""
        self._repos[repo].hostile += names

    def env(self, home: os.PathLike | str, **more: str) -> dict[str, str]:
        """The environment of a client subprocess: this hub, a cache of its own, no proxy, no Xet, no telemetry."""
        unwanted = re.compile(r"HF_|HUGGING|TRANSFORMERS_|.*_PROXY", re.IGNORECASE)
        kept = {key: value for key, value in os.environ.items() if not unwanted.match(key)}
        off = {f"HF_HUB_DISABLE_{switch}": "1" for switch in ("XET", "TELEMETRY", "PROGRESS_BARS", "UPDATE_CHECK")}
        return kept | off | {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home)} | more

    # The endpoints. None means {}

    @at("GET", "/api/whoami-v2")
    def _whoami(self, ask):
        return as_json({"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": {"type": "access_token"}})

    @at("GET", "/api/agent-harnesses")
    def _harnesses(self, ask):
        return as_json({"standardEnvVars": [], "harnesses": {}})

    @at("POST", "/api/validate-yaml")
    def _validate(self, ask):
        return as_json({"errors": [], "warnings": []})

    @at("POST", "/api/repos/create")
    def _create(self, ask):
        asked = json.loads(ask.body)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        answer = {"url": f"{self.endpoint}/{name}", "name": name}
        if name in self._repos:
            return as_json(answer | {"error": "You already created this model repo"}, 409)
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        self._repos[name] = Repo(name, {".gitattributes": attributes.encode()})
        return as_json(answer)

    @at("GET", "/api/models/{repo}/revision/{rev}")
    @at("GET", "/api/models/{repo}(?<!/refs)")
    def _info(self, ask, repo, rev="main"):
        sha, files = repo.resolve(rev)
        keys = ("rfilename", "size", "blobId", "lfs") if "blobs" in ask.query else ("rfilename",)
        entries = [describe(path, data) for path, data in sorted(files.items())]
        siblings = [{key: entry[key] for key in keys if key in entry} for entry in entries]
        flags = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
        return as_json({"id": repo.name, "modelId": repo.name, "sha": sha, "siblings": siblings, **flags})

    @at("GET", "/api/models/{repo}/tree/{rev}(?:/(?P<path>.+))?")
    def _tree(self, ask, repo, rev, path=""):
        sha, files = repo.resolve(rev)
        start = f"{path}/" if path else ""
        inside = {name: data for name, data in files.items() if name.startswith(start)}
        if path and not inside:
            raise missing("EntryNotFound", {"X-Repo-Commit": sha})
        folders = {name[:i] for name in inside for i in range(len(start), len(name)) if i and name[i] == "/"}
        entries = [{"type": "directory", "path": name, "oid": git_id(name.encode()), "size": 0} for name in folders]
        entries += [describe(name, data) for name, data in inside.items()]
        if ask.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            entries = [entry for entry in entries if "/" not in entry["path"][len(start) :]]
        return as_json(sorted(entries, key=lambda entry: entry["path"]))

    @at("POST", "/api/models/{repo}/paths-info/{rev}")
    def _paths_info(self, ask, repo, rev):
        files = repo.resolve(rev)[1]
        asked = parse_qs(ask.body.decode()).get("paths", [])
        return as_json([describe(path, files[path]) for path in asked if path in files])

    @at("POST", "/api/models/{repo}/preupload/{rev}")
    def _preupload(self, ask, repo, rev):
        files, answers = repo.resolve(rev)[1], []
        for asked in json.loads(ask.body)["files"]:
            path, lfs = asked["path"], is_lfs(asked["path"], asked["size"])
            oid = (sha256 if lfs else git_id)(files[path]) if path in files else None
            answers.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid})
        return as_json({"files": answers})

    @at("POST", r"/{repo}\.git/info/lfs/objects/batch")
    def _lfs_batch(self, ask, repo):
        objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in json.loads(ask.body)["objects"]]
        for each in objects:
            if each["oid"] not in self._objects:  # for one that is there, the client wants no "actions" at all
                verify = {"href": f"{self.endpoint}/{repo.name}.git/info/lfs/objects/verify"}
                each["actions"] = {"upload": {"href": f"{self.storage}/upload/{each['oid']}"}, "verify": verify}
        return as_json({"transfer": "basic", "objects": objects})

    @at("PUT", "/upload/{oid}")
    def _lfs_put(self, ask, oid):
        if sha256(ask.body) != oid:
            raise as_json({"error": "the bytes do not have this sha256"}, 400)
        self._objects[oid] = ask.body

    @at("POST", r"/{repo}\.git/info/lfs/objects/verify")
    def _lfs_verify(self, ask, repo):
        asked = json.loads(ask.body)
        if len(self._objects.get(asked["oid"], b"")) != asked["size"]:
            raise as_json({"error": "not uploaded, or not of this size"}, 404)

    @at("POST", "/api/models/{repo}/commit/{rev}")
    def _commit(self, ask, repo, rev):
        head = repo.refs["branch"].get(rev)
        if head is None or "create_pr" in ask.query:
            raise missing("RevisionNotFound")
        files = dict(repo.commits[head])
        for item in map(json.loads, ask.body.splitlines()):
            key, value = item["key"], item["value"]
            if key == "header" and value.get("parentCommit", head) != head:
                raise as_json({"error": "The branch has moved on"}, 412)
            if key == "lfsFile" and value["oid"] not in self._objects:
                raise as_json({"error": f"LFS object {value['oid']} was not uploaded"}, 400)
            if key in ("file", "lfsFile"):
                content = base64.b64decode(value["content"]) if key == "file" else self._objects[value["oid"]]
                files[value["path"]] = content
            elif key in ("deletedFile", "deletedFolder"):
                gone = value["path"].rstrip("/")
                files = {path: data for path, data in files.items() if not f"{path}/".startswith(f"{gone}/")}
        sha = repo.commit(rev, files)
        return as_json({"success": True, "commitOid": sha, "commitUrl": f"{self.endpoint}/{repo.name}/commit/{sha}"})

    @at("GET", "/api/models/{repo}/refs")
    def _refs(self, ask, repo):
        listed = {"converts": [], "pullRequests": []}
        for key, kind, prefix in (("branches", "branch", "refs/heads/"), ("tags", "tag", "refs/tags/")):
            refs = repo.refs[kind].items()
            listed[key] = [{"name": name, "ref": prefix + name, "targetCommit": sha} for name, sha in refs]
        return as_json(listed)

    @at("POST|DELETE", "/api/models/{repo}/(?P<kind>tag|branch)/{rev}")
    def _point(self, ask, repo, kind, rev):
        """The path names a tag's target but, for branches and for what is deleted, the name itself."""
        asked, names = json.loads(ask.body or b"{}"), repo.refs[kind]
        name, target = (asked["tag"], rev) if "tag" in asked else (rev, asked.get("startingPoint", "main"))
        if ask.method == "DELETE":
            if names.pop(name, None) is None:
                raise missing("RevisionNotFound")
        elif name in names:
            raise as_json({"error": f"{name} exists"}, 409)
        else:
            names[name] = repo.resolve(target)[0]

    @at("GET", "/{repo}/resolve/{rev}/(?P<path>.+)")
    def _download(self, ask, repo, rev, path):
        sha, files = repo.resolve(rev)
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if path not in files:
            raise missing("EntryNotFound", headers)
        data = files[path]
        if not is_lfs(path, len(data)):
            return Answer(200, data, {**headers, "ETag": f'"{git_id(data)}"'})
        oid = sha256(data)
        self._objects[oid] = data
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data)), "ETag": f'"{oid}"'}
        there = f"{self.storage}/lfs/{quote(repo.name)}/{oid}/{quote(path)}"
        return Answer(302, b"Found", {**headers, "Location": there})

    @at("GET", "/lfs/.+?/{oid}/.+")
    def _lfs_file(self, ask, oid):
        return Answer(200, self._objects[oid], {"ETag": f'"{oid}"'}) if oid in self._objects else Answer(403)

    @at("GET", "/files/(?P<path>.+)")
    def _plain(self, ask, path):
        return self._served.get(path) or Answer(404)

    # What the handler uses

    def answer(self, request: Request, body: bytes) -> Answer:
        """The right answer. Refusals are answers too, and so are errors of this server."""
        url = urlsplit(request.path)
        method = "GET" if request.method == "HEAD" else request.method
        for wanted, pattern, function in ROUTES:
            found = re.fullmatch(pattern, url.path) if re.fullmatch(wanted, method) else None
            if not found:
                continue
            named = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
            with self._lock:
                try:
                    if "repo" in named:
                        if named["repo"] not in self._repos:
                            return missing("RepoNotFound")
                        named["repo"] = self._repos[named["repo"]]
                    return function(self, Ask(method, parse_qs(url.query), body), **named) or as_json({})
                except Answer as refusal:
                    return refusal
                except Exception as error:
                    self.errors.append(f"{request.method} {request.path}: {error!r}")
                    return as_json({"error": repr(error)}, 500)
        return as_json({"error": f"no such endpoint: {method} {url.path}"}, 404)

    def next_fault(self, request: Request) -> Fault:
        """The fault that this request gets, taken off the list."""
        with self._lock:
            for pattern, method, faults in self.faults:
                if faults and re.fullmatch(method, request.method) and re.search(pattern, unquote(request.path)):
                    return faults.pop(0)
        return Fault()


class _Server(ThreadingHTTPServer):
    """One port. Stopping it also ends the connections that clients keep open, so that no thread is left."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, hub: Hub):
        self.hub, self.connections = hub, set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the name service who 127.0.0.1 is

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """Nothing to say: clients that are killed or time out leave in the middle of an answer."""

    def stop(self):
        self.shutdown()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_any(self):
        hub, request = self.server.hub, Request(self.command, self.path, self.headers)
        body = self._body()
        hub.requests.append(request)
        answer = hub.answer(request, body)
        fault = Fault() if (self.command, answer.status) == ("GET", 302) else hub.next_fault(request)
        if fault.after is None:
            hub.stopped.wait(fault.hang)
        answer = fault.answer or self._part(answer, fault)
        self.send_response(answer.status)
        for key, value in (answer.headers | {"Content-Length": str(len(answer.body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(answer.body, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *_):
        """Silence: `Hub.requests` is the log."""

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _part(self, answer: Answer, fault: Fault) -> Answer:
        """What was asked for of the file, as the fault leaves it: 206, or 416 where there is no such part."""
        body = answer.body.translate(bytes(byte ^ 0x55 for byte in range(256))) if fault.wrong else answer.body
        size = len(body) if fault.size is None else fault.size
        whole = replace(answer, body=body[:size].ljust(size, b"\0"))
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        changed = self.headers["If-Range"] not in (None, answer.headers.get("ETag"))
        if answer.status != 200 or self.command != "GET" or not asked or changed or not fault.ranges:
            return whole
        first, last = asked.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= stop:
            return Answer(416, headers={"Content-Range": f"bytes */{size}"})
        where = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return Answer(206, whole.body[start:stop], answer.headers | where)

    def _send(self, body: bytes, fault: Fault) -> None:
        wait = self.server.hub.stopped.wait
        body = body if fault.cut is None else body[: fault.cut]
        pause = fault.after or 0
        self.wfile.write(body[:pause])
        if fault.after is not None:
            wait(fault.hang)
        step = max(1, int(fault.rate / 20)) if fault.rate else len(body) + 1
        for start in range(pause, len(body), step):
            self.wfile.write(body[start : start + step])
            if fault.rate and wait(step / fault.rate):
                break
        self.close_connection |= fault.cut is not None or self.server.hub.stopped.is_set()
        if fault.reset:
            wait(0.1)  # the client shall have read what came before
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
