#!/usr/bin/env python3
"""What scripts/bench measures at a provider and cannot in a shell: what goes over the wire, and what one would do with
the provider's own calls.

Every answer is a line `KEY VALUE` on stdout; anything for a person goes to stderr.
"""

import argparse
import http.client
import json
import struct
import subprocess
import sys
import time
from urllib.parse import urlsplit

# What is still on its way when a command has ended: acknowledgements, over a line of 40 ms.
SETTLE_S = 0.5
PIECE_BYTES = 1 << 16
STATE_POLL_S = 0.1
READY_S = 60
# Of envd, E2B's program in a sandbox.
ENVD_PORT = "49983"
BOUNDARY = "skync-bench-0d1c7e52"
COUNTS = ("connections", "requests", "bytes_up", "bytes_down")
LARGE = "/tmp/peer.tar"


def say(text):
    print(text, file=sys.stderr, flush=True)


def answer(key, value):
    print(f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}", flush=True)


class Line:
    """One connection that stays, as a provider's SDK keeps it."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=READY_S)

    def call(self, method, path, headers, body=None):
        self.connection.request(method, path, body, headers, encode_chunked=False)
        response = self.connection.getresponse()
        return response.status, response.read()

    def json(self, method, path, headers, document=None):
        body = None if document is None else json.dumps(document)
        status, answered = self.call(method, path, {"content-type": "application/json", **headers}, body)
        if not 200 <= status < 300:
            sys.exit(f"error: {method} {path}: {status} {answered.decode(errors='replace')}")
        return json.loads(answered or b"null")

    def upload(self, path, headers, pieces):
        headers = {**headers, "transfer-encoding": "chunked"}
        self.connection.request("POST", path, pieces, headers, encode_chunked=True)
        response = self.connection.getresponse()
        if response.status not in (200, 201):
            sys.exit(f"error: POST {path}: {response.status} {response.read().decode(errors='replace')}")
        response.read()


# --- what goes over the wire ---


def counts(line):
    found = line.json("GET", "/_test/counts", {})
    return [found[name] for name in COUNTS]


def per(args):
    """Runs a command and tells what went over the wire meanwhile, for each of so many times that it did something."""
    line = Line(args.url)
    # A look is a request as well: two without anything in between show what it costs.
    looked = counts(line)
    before = counts(line)
    own = [now - then for then, now in zip(looked, before)]
    ended = subprocess.run(args.command, cwd=args.directory, check=False)
    if ended.returncode != 0:
        sys.exit(f"error: `{' '.join(args.command)}` ended with {ended.returncode}")
    time.sleep(SETTLE_S)
    after = counts(line)
    found = [(now - then - cost) / args.times for then, now, cost in zip(before, after, own)]
    for name, value in zip(COUNTS, found):
        answer(name.replace("_", "-"), float(value))
    answer("bytes", float(found[2] + found[3]))


# --- what one would do without skync ---


class E2b:
    def __init__(self, url, key):
        self.line, self.key = Line(url), key

    def create(self):
        made = {"templateID": "base", "timeout": 300}
        made = self.line.json("POST", "/v2/sandboxes", {"x-api-key": self.key}, made)
        self.id = made["sandboxID"]
        self.headers = {"e2b-sandbox-id": self.id, "e2b-sandbox-port": ENVD_PORT}
        self.headers["x-access-token"] = made["envdAccessToken"]

    def run(self, script):
        document = {"process": {"cmd": "/bin/sh", "args": ["-c", script]}, "stdin": False}
        body = json.dumps(document).encode()
        kind = {"content-type": "application/connect+json", "connect-protocol-version": "1"}
        body = struct.pack(">BI", 0, len(body)) + body
        status, said = self.line.call("POST", "/process.Process/Start", {**self.headers, **kind}, body)
        # An exit code of zero is left out, as all zero values are.
        if status != 200 or b'"exited":true' not in said or b'"exitCode":' in said:
            sys.exit(f"error: `{script}` failed at E2B: {status} {said!r}")

    def put(self, path, pieces):
        kind = {"content-type": "application/octet-stream"}
        self.line.upload(f"/files?path={path}", {**self.headers, **kind}, pieces)

    def remove(self):
        self.line.json("DELETE", f"/sandboxes/{self.id}", {"x-api-key": self.key})


class Daytona:
    def __init__(self, url, key):
        self.line, self.headers = Line(url), {"authorization": f"Bearer {key}"}

    def create(self):
        found = self.line.json("POST", "/api/sandbox", self.headers, {})
        self.id, deadline = found["id"], time.monotonic() + READY_S
        while found["state"] != "started":
            if time.monotonic() > deadline:
                sys.exit(f"error: the sandbox is `{found['state']}` after {READY_S} s")
            time.sleep(STATE_POLL_S)
            found = self.line.json("GET", f"/api/sandbox/{self.id}", self.headers)
        self.toolbox = f"/toolbox/{self.id}"

    def run(self, script):
        done = self.line.json("POST", f"{self.toolbox}/process/execute", self.headers, {"command": script})
        if done["exitCode"] != 0:
            sys.exit(f"error: `{script}` failed at Daytona: {done}")

    def put(self, path, pieces):
        form = f"multipart/form-data; boundary={BOUNDARY}"
        headers = {**self.headers, "content-type": form}
        self.line.upload(f"{self.toolbox}/files/bulk-upload", headers, self.parts(path, pieces))

    @staticmethod
    def parts(path, pieces):
        name = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files[0].'
        yield f'{name}path"\r\n\r\n{path}\r\n{name}file"; filename="0"\r\n\r\n'.encode()
        yield from pieces
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    def remove(self):
        self.line.json("DELETE", f"/api/sandbox/{self.id}", self.headers)


PROVIDERS = {"e2b": E2b, "daytona": Daytona}


def timed(key, run, *arguments):
    started = time.monotonic()
    run(*arguments)
    answer(key, (time.monotonic() - started) * 1000)


def tar(tree):
    """Its bytes as they come."""
    with subprocess.Popen(["tar", "c", "-C", tree, "."], stdout=subprocess.PIPE) as packed:
        while piece := packed.stdout.read(PIECE_BYTES):
            yield piece


def copy(provider, tree):
    provider.put(LARGE, tar(tree))
    provider.run(f"mkdir /tmp/copy && tar x -C /tmp/copy -f {LARGE} && rm {LARGE}")


def peer(args):
    """A new sandbox and its first command, a command in it, and trees as a tar that is unpacked there; milliseconds."""
    provider = PROVIDERS[args.provider](args.url, args.key)

    def cold():
        provider.create()
        provider.run("echo hello")

    timed("cold", cold)
    for _ in range(args.times):
        timed("live", provider.run, "true")
    for name, tree in args.tree:
        timed(name, copy, provider, tree)
        provider.run("rm -r /tmp/copy")
    provider.remove()


# --- the command line ---


def named(text):
    return text.split("=", 1)


def parser():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True)
    for run in (per, peer):
        added = commands.add_parser(run.__name__, help=run.__doc__)
        added.set_defaults(run=run)
        added.add_argument("url")
        added.add_argument("--times", type=int, default=1)
        if run is per:
            added.add_argument("--directory")
            added.add_argument("command", nargs="+")
        else:
            added.add_argument("provider", choices=PROVIDERS)
            added.add_argument("--key", required=True)
            added.add_argument("--tree", type=named, action="append", default=[], metavar="NAME=DIRECTORY")
    return top


if __name__ == "__main__":
    chosen = parser().parse_args()
    chosen.run(chosen)
