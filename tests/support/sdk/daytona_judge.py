"""Judges the Daytona-compatible test server with Daytona's own SDK (see requirements-daytona.txt).

Usage: daytona_judge.py URL KEY        URL is what `test-servers daytona` printed

Prints one line for each property that holds, and ends with 1 and the reason at the first that does
not. The server has to have the image skync-test/speckit:1.2.3.
"""

import asyncio
import http.client
import json
import os
import sys
import threading
import time
import urllib.request

URL, KEY = sys.argv[1].rstrip("/"), sys.argv[2]
os.environ.update(DAYTONA_API_KEY=KEY, DAYTONA_API_URL=f"{URL}/api", NO_PROXY="127.0.0.1")
os.environ.setdefault("DAYTONA_USE_DEPRECATED_POLLING", "true")

import daytona as sdk  # noqa: E402  (it reads the environment)
from daytona import (  # noqa: E402
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaConfig,
    FileUpload,
    ListSandboxesQuery,
    Resources,
    SessionExecuteRequest,
)
from daytona.common.errors import (  # noqa: E402
    DaytonaConflictError,
    DaytonaError,
    DaytonaFileNotFoundError,
    DaytonaNotFoundError,
)
from daytona.common.pty import PtySize  # noqa: E402

IMAGE = "skync-test/speckit:1.2.3"
BIG_BYTES = 20 << 20


def holds(what, condition=True, got=None):
    """Prints what holds, or ends the judgement."""
    if not condition:
        raise AssertionError(f"{what}: got {got!r}")
    print(f"ok: {what}", flush=True)


def fails(what, kind, call):
    """Checks that a call fails, and how."""
    try:
        got = call()
    except kind as error:
        holds(f"{what} ({type(error).__name__})")
        return error
    raise AssertionError(f"{what}: it did not fail, but gave {got!r}")


def judge_create(client):
    name = f"judge-{os.getpid()}"
    params = CreateSandboxFromSnapshotParams(
        name=name, labels={"judge": name}, env_vars={"GIVEN": "a b"}, auto_stop_interval=7
    )
    box = client.create(params)
    holds("create waits until started", box.state == "started", box.state)
    holds("the name is the one given", box.name == name, box.name)
    holds("labels arrive", box.labels["judge"] == name, box.labels)
    holds("auto-stop arrives", box.auto_stop_interval == 7, box.auto_stop_interval)
    fails("a taken name", DaytonaConflictError, lambda: client.create(params))
    wrong = CreateSandboxFromSnapshotParams(snapshot="no-such")
    fails("an unknown snapshot", DaytonaError, lambda: client.create(wrong))
    holds("get by name", client.get(name).id == box.id)
    holds("get by id", client.get(box.id).name == name)
    found = [one.id for one in client.list(ListSandboxesQuery(labels={"judge": name}, limit=1))]
    holds("list with labels", found == [box.id], found)
    none = list(client.list(ListSandboxesQuery(labels={"judge": "nobody"})))
    holds("list with labels of nobody", none == [], none)
    return box


def judge_image(client):
    params = CreateSandboxFromImageParams(
        image=IMAGE, resources=Resources(cpu=2, memory=2, disk=5), auto_delete_interval=0
    )
    box = client.create(params)
    got = (box.cpu, box.memory, box.disk)
    holds("create from an image with resources", got == (2, 2, 5), got)
    pages = [one.id for one in client.list(ListSandboxesQuery(limit=1))]
    holds("lists go on from page to page", len(set(pages)) >= 2, pages)
    box.stop()
    fails("an ephemeral sandbox is gone when stopped", DaytonaNotFoundError, lambda: client.get(box.id))
    bad = CreateSandboxFromImageParams(image="no-such/image:1")
    fails("an image that there is not", DaytonaError, lambda: client.create(bad))


def judge_exec(box):
    run = box.process.exec
    done = run("echo out; echo err >&2; exit 3")
    holds("exec gives the exit code", done.exit_code == 3, done.exit_code)
    holds("exec merges the streams", done.result == "out\nerr\n", done.result)
    holds("exec runs in the work directory", run("pwd").result == "/home/daytona\n")
    holds("exec runs where it is told", run("pwd", cwd="/usr/bin").result == "/usr/bin\n")
    holds("exec has the given environment", run('echo "$X"', env={"X": "1 2"}).result == "1 2\n")
    holds("exec has the sandbox's environment", run('echo "$GIVEN"').result == "a b\n")
    holds("exec runs as daytona", run("id -un").result == "daytona\n")
    holds("bytes that are no text are replaced", run("printf 'a\\377b'").result == "a\ufffdb")
    holds("a bad directory is -1", run("true", cwd="/no/such").exit_code == -1)
    started = time.monotonic()
    fails("exec ends at its timeout", DaytonaError, lambda: run("sleep 30", timeout=1))
    took = time.monotonic() - started
    holds("the timeout is kept", took < 4, took)
    started = time.monotonic()
    run("setsid sleep 30 >/dev/null 2>&1 </dev/null &")
    holds("a detached process does not hold exec", time.monotonic() - started < 5)
    done = run("cat\necho after")
    holds("the script is on the shell's input", done.result == "echo after\n", done.result)
    long = run(f"echo {'x' * 300_000} | wc -c").result
    holds("a command may be long", long == "300001\n", long)
    code = box.process.code_run("print(6 * 7)")
    holds("code_run", code.exit_code == 0 and code.result == "42\n", code.result)


def judge_sessions(box):
    process = box.process
    process.create_session("one")
    fails("a taken session", DaytonaConflictError, lambda: process.create_session("one"))

    def run(command, **more):
        return process.execute_session_command("one", SessionExecuteRequest(command=command, **more))

    run("cd /tmp; export KEPT=yes")
    done = run("pwd; echo $KEPT; echo wrong >&2; (exit 4)")
    holds("a session keeps its state", done.stdout == "/tmp\nyes\n", done.stdout)
    holds("a session has streams apart", done.stderr == "wrong\n", done.stderr)
    holds("a session gives the exit code", done.exit_code == 4, done.exit_code)
    begun = run("echo a; echo b >&2; read line; echo got $line; sleep 0.2; echo end", run_async=True)
    holds("an asynchronous command has an id", bool(begun.cmd_id))
    running = process.get_session_command("one", begun.cmd_id)
    holds("a running command has no exit code", running.exit_code is None, running.exit_code)
    process.send_session_command_input("one", begun.cmd_id, "typed")
    out, err = [], []
    logs = process.get_session_command_logs_async
    asyncio.run(logs("one", begun.cmd_id, out.append, err.append))
    text = "a\ntyped\ngot typed\nend\n"
    holds("followed output is told apart", ("".join(out), "".join(err)) == (text, "b\n"), (out, err))
    again = []
    asyncio.run(logs("one", begun.cmd_id, again.append, lambda _: None))
    holds("logs begin anew each time", "".join(again) == text, again)
    whole = process.get_session_command_logs("one", begun.cmd_id)
    holds("logs are had whole", (whole.stdout, whole.stderr) == (text, "b\n"), whole)
    ended = process.get_session_command("one", begun.cmd_id)
    holds("an ended command has a code", ended.exit_code == 0, ended.exit_code)
    late = lambda: process.send_session_command_input("one", begun.cmd_id, "x")  # noqa: E731
    fails("input after the end", DaytonaError, late)
    seen = process.get_session("one").commands
    holds("a session lists its commands", len(seen) == 3, seen)
    holds("sessions are listed", [one.session_id for one in process.list_sessions()] == ["one"])
    process.delete_session("one")
    fails("a deleted session", DaytonaNotFoundError, lambda: process.get_session("one"))


def judge_pty(box):
    size = PtySize(rows=30, cols=100)
    pty = box.process.create_pty_session("term", cwd="/tmp", envs={"GREET": "hi"}, pty_size=size)
    holds("a PTY connects", pty.is_connected())
    seen = bytearray()
    pty.send_input("stty size; tty >/dev/null && echo is-$GREET-tty; pwd\n")
    pty.wait(on_data=seen.extend, timeout=1)
    for part in (b"30 100", b"is-hi-tty", b"/tmp"):
        holds(f"a PTY says {part.decode()}", part in seen, bytes(seen))
    info = pty.resize(PtySize(rows=40, cols=120))
    holds("a PTY is resized", (info.rows, info.cols) == (40, 120), info)
    seen.clear()
    pty.send_input("stty size\n")
    pty.wait(on_data=seen.extend, timeout=1)
    holds("the new size is seen inside", b"40 120" in seen, bytes(seen))
    holds("PTYs are listed", [one.id for one in box.process.list_pty_sessions()] == ["term"])
    again = lambda: box.process.create_pty_session("term")  # noqa: E731
    fails("a taken PTY", DaytonaError, again)
    other = box.process.connect_pty_session("term")
    pty.send_input("exit 5\n")
    result = pty.wait(timeout=10)
    holds("a PTY gives the exit code", result.exit_code == 5, result)
    result = other.wait(timeout=10)
    holds("all who are attached are told", result.exit_code == 5, result)
    killed = box.process.create_pty_session("killed")
    killed.kill()
    holds("a killed PTY is gone", [p.id for p in box.process.list_pty_sessions() if p.active] == [])


def judge_files(box):
    fs = box.fs
    fs.create_folder("dir/deep", "755")
    holds("a folder is made", fs.get_file_info("dir/deep").is_dir)
    many = [FileUpload(f"number {at}".encode(), f"dir/many/{at}") for at in range(30)]
    fs.upload_files(many)
    names = sorted(one.name for one in fs.list_files("dir/many"))
    holds("many files at once", names == sorted(str(at) for at in range(30)), names)
    holds("a file comes back", fs.download_file("dir/many/7") == b"number 7")
    info = fs.get_file_info("dir/many/7")
    facts = (info.size, info.mode, info.permissions, info.is_dir)
    holds("a file's facts", facts == (8, "-rw-r--r--", "0644", False), facts)
    bytes_ = bytes(range(256)) * (BIG_BYTES // 256)
    fs.upload_file(bytes_, "big")
    holds("20 MB go up", fs.get_file_info("big").size == BIG_BYTES)
    holds("20 MB come down", fs.download_file("big") == bytes_)
    fs.upload_file_stream(bytes_, "streamed")
    got = b"".join(fs.download_file_stream("streamed"))
    holds("20 MB as streams, both ways", got == bytes_, len(got))
    fs.move_files("big", "dir/moved")
    holds("a file is moved", fs.get_file_info("dir/moved").size == BIG_BYTES)
    fails("moving onto a file", DaytonaConflictError, lambda: fs.move_files("streamed", "dir/moved"))
    fs.set_file_permissions("dir/moved", mode="750")
    holds("permissions are set", fs.get_file_info("dir/moved").permissions == "0750")
    found = fs.search_files("dir", "1?").files
    holds("files are found by name", len(found) == 10, found)
    matches = fs.find_files("dir/many", "number 12")
    holds("files are found by text", [m.line for m in matches] == [1], matches)
    done = fs.replace_in_files(["dir/many/7"], "number", "Number")
    holds("text is replaced", fs.download_file("dir/many/7") == b"Number 7", done)
    deep = [one for one in fs.list_files("dir", depth=2) if one.name == "7"]
    holds("lists go deep", len(deep) == 1, deep)
    fails("a directory needs recursive", DaytonaError, lambda: fs.delete_file("dir"))
    fs.delete_file("dir", recursive=True)
    fails("what is deleted is gone", DaytonaFileNotFoundError, lambda: fs.get_file_info("dir"))
    fails("no such file to download", DaytonaNotFoundError, lambda: fs.download_file("none"))
    fails("no right to write", DaytonaError, lambda: fs.upload_file(b"x", "/etc/none"))


def ask(url, **headers):
    """One GET that follows nothing: status and body."""
    host, path = url.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", f"/{path}", headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def judge_previews(box):
    link = box.get_preview_link(8000)
    box.process.exec("cd /tmp; echo page > page; setsid python3 -m http.server 8000 >/dev/null 2>&1 </dev/null &")
    page = f"{link.url}/page"
    deadline = time.monotonic() + 10
    while ask(page, Authorization=f"Bearer {KEY}")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    got = ask(page, Authorization=f"Bearer {KEY}")
    holds("a preview with the key", got == (200, b"page\n"), got)
    got = ask(page, **{"x-daytona-preview-token": link.token})
    holds("a preview with its token", got == (200, b"page\n"), got)
    got = ask(f"{page}?DAYTONA_SANDBOX_AUTH_KEY={link.token}")
    holds("a preview with its token in the query", got == (200, b"page\n"), got)
    got = ask(page)[0]
    holds("a preview without is sent to the login", got == 307, got)
    signed = box.create_signed_preview_url(8000, 60)
    got = ask(f"{signed.url}/page")
    holds("a signed preview", got == (200, b"page\n"), got)
    box.expire_signed_preview_url(8000, signed.token)
    holds("a revoked signed preview", ask(f"{signed.url}/page")[0] == 307)
    route = f"{URL}/toolbox/{box.id}/proxy"
    got = ask(f"{route}/8000/page", Authorization=f"Bearer {KEY}")
    holds("the port by the toolbox", got == (200, b"page\n"), got)
    got = ask(f"{route}/8001/", Authorization=f"Bearer {KEY}")
    holds("a port of nobody is 502 and empty", got == (502, b""), got)
    got = ask(f"{route}/8000/page", Authorization="Bearer wrong")[0]
    holds("the toolbox says 401", got == 401, got)
    return link.token


def judge_life(client, box, token):
    box.set_autostop_interval(20)
    holds("the auto-stop interval is set", client.get(box.id).auto_stop_interval == 20)
    box.set_labels({"other": "label"})
    holds("labels are replaced", "judge" not in client.get(box.id).labels)
    before = client.get(box.id).last_activity_at
    box.refresh_activity()
    holds("activity is refreshed", client.get(box.id).last_activity_at != before)
    box.process.exec("echo kept > kept; mkdir -p /tmp/x")
    box.stop()
    holds("a sandbox stops", client.get(box.id).state == "stopped")
    fails("a stopped one has no toolbox", DaytonaError, lambda: box.process.exec("true"))
    box.archive()
    box.start()
    holds("an archived sandbox starts", client.get(box.id).state == "started")
    holds("its files are there", box.fs.download_file("kept") == b"kept\n")
    holds("its processes are not", "http.server" not in box.process.exec("ps ax").result)
    holds("its token is another", box.get_preview_link(8000).token != token)
    box.delete(wait=True)
    fails("a deleted sandbox", DaytonaNotFoundError, lambda: client.get(box.id))


def judge_keys():
    wrong = Daytona(DaytonaConfig(api_key="wrong", api_url=f"{URL}/api"))
    error = fails("a wrong key", DaytonaError, lambda: list(wrong.list()))
    holds("a wrong key is 401", getattr(error, "status_code", None) == 401, error)
    config = json.load(urllib.request.urlopen(f"{URL}/api/config"))
    holds("the configuration is public", config["defaultSnapshot"] != "", config)
    for path in ("api-keys/current", "regions"):
        got = ask(f"{URL}/api/{path}", Authorization=f"Bearer {KEY}")
        holds(f"there is {path}", got[0] == 200, got)


def main():
    print(f"daytona {getattr(sdk, '__version__', '')} on {threading.current_thread().name}")
    client = Daytona()
    box = judge_create(client)
    judge_image(client)
    judge_exec(box)
    judge_sessions(box)
    judge_pty(box)
    judge_files(box)
    token = judge_previews(box)
    judge_life(client, box, token)
    judge_keys()


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, DaytonaError) as error:
        print(f"FAILED: {error!r}", flush=True)
        sys.exit(1)
