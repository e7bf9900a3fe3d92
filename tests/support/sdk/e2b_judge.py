"""Judges an E2B-compatible server by the official SDK: e2b_judge.py URL KEY.

Prints one line for each property that holds, and ends with the first that does not.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

URL, KEY = sys.argv[1], sys.argv[2]
os.environ.update(E2B_API_KEY=KEY, E2B_API_URL=URL, E2B_SANDBOX_URL=URL)

from e2b import (  # noqa: E402
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)
from e2b.exceptions import SandboxNotRunningException, SandboxUnreachableException  # noqa: E402


def holds(what, is_so, seen=None):
    if not is_so:
        raise SystemExit(f"FAILED: {what}: {seen!r}")
    print(f"ok: {what}", flush=True)


def raises(what, errors, call):
    try:
        seen = call()
    except errors as error:
        print(f"ok: {what} ({type(error).__name__})", flush=True)
        return error
    except Exception as error:
        raise SystemExit(f"FAILED: {what}: {type(error).__name__}: {error}") from error
    raise SystemExit(f"FAILED: {what}: no error, but {seen!r}")


def until(what, check, seconds=10):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise SystemExit(f"FAILED: {what}: not within {seconds} s")
        time.sleep(0.02)
    print(f"ok: {what}", flush=True)


def raw(method, path, headers, body=None):
    request = urllib.request.Request(URL + path, method=method, headers=headers, data=body)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def sandboxes():
    mark = {"judge": f"{time.time()}", "odd & = %": "ä b+c/1=2"}
    sandbox = Sandbox.create(timeout=120, metadata=mark, envs={"GIVEN": "at creation"})
    holds("create gives an id", sandbox.sandbox_id.startswith("i"), sandbox.sandbox_id)
    info = sandbox.get_info()
    holds("get_info has the metadata", info.metadata == mark, info.metadata)
    holds("get_info says running", info.state == SandboxState.RUNNING, info.state)
    holds("the deadline is created + timeout", 118 < (info.end_at - info.started_at).total_seconds() < 122, info)
    holds("is_running", sandbox.is_running())

    again = Sandbox.connect(sandbox.sandbox_id, timeout=30)
    holds("connect finds it", again.sandbox_id == sandbox.sandbox_id)
    kept = again.get_info().end_at
    holds("connect does not shorten the deadline", kept == info.end_at, kept)
    Sandbox.connect(sandbox.sandbox_id, timeout=300)
    holds("connect extends the deadline", sandbox.get_info().end_at > kept)
    sandbox.set_timeout(200)
    holds("set_timeout shortens it", sandbox.get_info().end_at < again.get_info().started_at.__class__.fromtimestamp(time.time() + 210, kept.tzinfo))

    others = [Sandbox.create(timeout=120, metadata={**mark, "number": str(n)}) for n in range(2)]
    pages = Sandbox.list(query=SandboxQuery(metadata=mark), limit=2)
    first = pages.next_items()
    holds("list: a page has its limit", len(first) == 2 and pages.has_next, first)
    second = pages.next_items()
    holds("list: the last page has the rest", len(second) == 1 and not pages.has_next, second)
    ids = [item.sandbox_id for item in first + second]
    holds("list is newest first", ids == [others[1].sandbox_id, others[0].sandbox_id, sandbox.sandbox_id], ids)
    some = Sandbox.list(query=SandboxQuery(metadata={**mark, "number": "1"})).next_items()
    holds("list filters by metadata", [item.sandbox_id for item in some] == [others[1].sandbox_id], some)
    others[0].pause()
    paused = Sandbox.list(query=SandboxQuery(metadata=mark, state=[SandboxState.PAUSED])).next_items()
    holds("list filters by state", [item.sandbox_id for item in paused] == [others[0].sandbox_id], paused)
    for other in others:
        holds("kill says true", other.kill() is True)
    holds("kill of a killed one says false", others[0].kill() is False)
    raises("get_info of a killed one", SandboxNotFoundException, others[0].get_info)
    raises("connect to a killed one", SandboxNotFoundException, lambda: Sandbox.connect(others[0].sandbox_id))
    raises("a command in a killed one", SandboxNotRunningException, lambda: others[0].commands.run("true"))
    holds("is_running of a killed one", not others[0].is_running())
    holds("metrics", sandbox.get_metrics()[0].cpu_count == 2)
    raises("a wrong key", AuthenticationException, lambda: Sandbox.create(api_key="wrong"))
    raises("an unknown template", SandboxException, lambda: Sandbox.create("no-such-template"))
    return sandbox


def commands(sandbox):
    run = sandbox.commands.run
    result = run("echo out; echo err >&2")
    holds("stdout and stderr are apart", (result.stdout, result.stderr) == ("out\n", "err\n"), result)
    error = raises("exit code 7", CommandExitException, lambda: run("echo before; exit 7"))
    holds("exit code 7 is told", error.exit_code == 7 and error.stdout == "before\n", error)
    result = run("echo $GIVEN,$OWN,$E2B_SANDBOX_ID,$USER,$HOME", envs={"OWN": "of the command"})
    expected = f"at creation,of the command,{sandbox.sandbox_id},user,/home/user\n"
    holds("environment", result.stdout == expected, result)
    holds("cwd is the home", run("pwd").stdout == "/home/user\n")
    holds("cwd is what is asked", run("pwd", cwd="/tmp").stdout == "/tmp\n")
    holds("the user is `user`", run("id -un; id -u").stdout == "user\n1000\n")
    holds("the user is root on demand", run("id -un", user="root").stdout == "root\n")
    raises("an unknown user", AuthenticationException, lambda: run("true", user="nobody-knows"))
    raises("a missing cwd", InvalidArgumentException, lambda: run("true", cwd="/no/such"))
    raises("a missing program", CommandExitException, lambda: run("no-such-program"))

    started = time.monotonic()
    handle = run("echo 1; sleep 0.4; echo 2; sleep 0.4; echo 3", background=True)
    holds("background returns at once", time.monotonic() - started < 0.4)
    seen = []
    handle.wait(on_stdout=lambda text: seen.append((text, time.monotonic())))
    holds("output comes as it is written", [text for text, _ in seen] == ["1\n", "2\n", "3\n"] and seen[2][1] - seen[0][1] > 0.6, seen)
    texts = []
    run("printf 'a\\nb'; printf e >&2", on_stdout=texts.append, on_stderr=texts.append)
    holds("callbacks", sorted("".join(texts)) == sorted("a\nbe"), texts)

    handle = run("cat; sleep 0.5; echo end", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "hello\n")
    handle.send_stdin("there\n")
    handle.close_stdin()
    handle.close_stdin()
    holds("stdin, and its end", handle.wait().stdout == "hello\nthere\nend\n")
    handle = run("cat", background=True, stdin=True)
    sandbox.commands.stream_input(handle.pid, [f"line {n}\n" for n in range(500)])
    sandbox.commands.close_stdin(handle.pid)
    result = handle.wait().stdout
    holds("streamed stdin keeps its order", result == "".join(f"line {n}\n" for n in range(500)), result)
    handle = run("cat", background=True)
    raises("no stdin when none was asked for", Exception, lambda: sandbox.commands.send_stdin(handle.pid, "x"))
    raises("stdin of no process", NotFoundException, lambda: sandbox.commands.send_stdin(999_999, "x"))

    handle = run("exec sleep 1000", background=True)
    listed = [process for process in sandbox.commands.list() if process.pid == handle.pid]
    holds("list has it", len(listed) == 1 and listed[0].args[-1] == "exec sleep 1000", listed)
    holds("kill", handle.kill() is True)
    error = raises("a killed one is told", CommandExitException, handle.wait)
    holds("killed by a signal", error.exit_code == -1 and error.error == "signal: killed", error)
    holds("kill of no process", sandbox.commands.kill(999_999) is False)
    raises("a command's timeout", TimeoutException, lambda: run("sleep 100", timeout=0.5))
    until("the timeout killed it", lambda: not any("sleep 100" in p.args for p in sandbox.commands.list()))

    handle = run("i=0; while sleep 0.1; do i=$((i+1)); echo $i; test $i = 40 && exit; done", background=True, timeout=0)
    pid = handle.pid
    handle.disconnect()
    time.sleep(0.5)
    handle = sandbox.commands.connect(pid, timeout=0)
    numbers = [int(n) for n in handle.wait().stdout.split()]
    holds("who comes back has the rest, and not what was before", numbers[-1] == 40 and numbers[0] > 1 and numbers == list(range(numbers[0], 41)), numbers)
    handle = sandbox.commands.connect(pid)
    holds("the end is told once more", handle.wait().stdout == "")
    raises("no such process", NotFoundException, lambda: sandbox.commands.connect(999_999))
    result = run("head -c 3000000 /dev/zero | tr '\\0' x")
    holds("3 MB of output", len(result.stdout) == 3_000_000, len(result.stdout))


def terminals(sandbox):
    seen = bytearray()
    terminal = sandbox.pty.create(PtySize(rows=30, cols=100), envs={"MARK": "yes"}, timeout=60)
    sandbox.pty.send_stdin(terminal.pid, b"stty size; echo $TERM-$MARK; tty; id -un\n")
    sandbox.pty.resize(terminal.pid, PtySize(rows=40, cols=120))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; exit 3\n")
    error = raises("a terminal's exit code", CommandExitException, lambda: terminal.wait(on_pty=seen.extend))
    holds("exit code 3", error.exit_code == 3, error)
    text = seen.decode()
    holds("a terminal's environment", "xterm-256color-yes" in text, text)
    holds("a terminal is one", "/dev/pts/" in text and "\nuser" in text, text)
    holds("resize", "40 120" in text, text)
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80))
    holds("kill of a terminal", sandbox.pty.kill(terminal.pid) is True)
    raises("the end of a killed terminal", CommandExitException, terminal.wait)


def files(sandbox):
    files = sandbox.files
    written = files.write("deep/er/a.txt", "hällo")
    holds("write makes directories", written.path == "/home/user/deep/er/a.txt", written)
    holds("read", files.read("deep/er/a.txt") == "hällo")
    blob = bytes(range(256)) * 10
    files.write("/tmp/blob", blob)
    holds("read bytes", bytes(files.read("/tmp/blob", format="bytes")) == blob)
    files.write("/tmp/blob", b"short", use_octet_stream=True)
    holds("octet-stream overwrites", files.read("/tmp/blob") == "short")
    files.write("/tmp/zip", blob * 50, gzip=True)
    holds("gzip up", bytes(files.read("/tmp/zip", format="bytes")) == blob * 50)
    holds("gzip down", bytes(files.read("/tmp/zip", format="bytes", gzip=True)) == blob * 50)
    several = files.write_files([{"path": f"/tmp/many/{n}", "data": f"{n}"} for n in range(5)])
    holds("several at once", [item.path for item in several] == [f"/tmp/many/{n}" for n in range(5)], several)
    files.write("/root/owned", "x", user="root")
    info = files.get_info("/root/owned", user="root")
    holds("the user owns it", (info.owner, info.group, info.size) == ("root", "root", 1), info)
    info = files.get_info("deep/er/a.txt")
    holds("get_info", (info.name, info.owner, info.permissions, info.mode, info.size) == ("a.txt", "user", "-rw-r--r--", 0o644, 6), info)
    names = [entry.path for entry in files.list("/home/user/deep", depth=2)]
    holds("list with depth", names == ["/home/user/deep/er", "/home/user/deep/er/a.txt"], names)
    holds("list of one level", len(files.list("/home/user/deep")) == 1)
    holds("exists", files.exists("deep/er/a.txt") and not files.exists("deep/no"))
    moved = files.rename("deep/er/a.txt", "deep/b.txt")
    holds("rename", moved.path == "/home/user/deep/b.txt" and not files.exists("deep/er/a.txt"), moved)
    holds("make_dir", files.make_dir("new/er") is True and files.make_dir("new/er") is False)
    files.remove("deep")
    holds("remove", not files.exists("deep"))
    files.remove("deep")
    print("ok: remove of nothing", flush=True)
    raises("read of nothing", FileNotFoundException, lambda: files.read("/no"))
    raises("list of nothing", NotFoundException, lambda: files.list("/no"))
    raises("list of a file", InvalidArgumentException, lambda: files.list("/tmp/blob"))
    raises("read of a directory", InvalidArgumentException, lambda: files.read("/tmp"))
    raises("write over a directory", InvalidArgumentException, lambda: files.write("/tmp", "x"))

    watch = files.watch_dir("/home/user/new", recursive=True)
    files.write("/home/user/new/er/seen", "x")
    seen = []
    until("watch_dir tells of a file", lambda: seen.extend(watch.get_new_events()) or any(e.name == "er/seen" for e in seen))
    watch.stop()

    big = os.urandom(20_000_000)
    files.write("/home/user/big", big, use_octet_stream=True)
    holds("20 MB up and down", bytes(files.read("/home/user/big", format="bytes")) == big)
    holds("20 MB streamed down", b"".join(files.read("/home/user/big", format="stream")) == big)
    files.write("/home/user/big2", big)
    holds("20 MB as a form", sandbox.commands.run("cmp big big2 && stat -c %s big2").stdout == "20000000\n")


def pausing(sandbox):
    handle = sandbox.commands.run("exec sleep 500", background=True, timeout=0)
    holds("pause", sandbox.pause() is not False)
    raises("a stream into a paused one ends", Exception, handle.wait)
    holds("a paused one does not run", not sandbox.is_running())
    holds("get_info says paused", sandbox.get_info().state == SandboxState.PAUSED)
    raises("a command in a paused one", SandboxNotRunningException, lambda: sandbox.commands.run("true"))
    holds("pause again says false", sandbox.pause() is False)
    back = Sandbox.connect(sandbox.sandbox_id, timeout=60)
    holds("connect resumes", back.is_running() and back.get_info().state == SandboxState.RUNNING)
    holds("processes are still there", any(process.pid == handle.pid for process in back.commands.list()))
    holds("files are still there", back.files.exists("/home/user/big"))
    sandbox.set_timeout(1)
    until("the timeout ends it", lambda: not sandbox.is_running())
    raises("it is gone", SandboxNotFoundException, sandbox.get_info)
    kept = Sandbox.create(timeout=1, lifecycle={"on_timeout": "pause", "auto_resume": True})
    until("on_timeout pauses", lambda: kept.get_info().state == SandboxState.PAUSED)
    holds("traffic resumes it", kept.commands.run("echo awake").stdout == "awake\n")
    holds("it runs", kept.get_info().state == SandboxState.RUNNING)
    kept.kill()


SERVER = "import http.server as h; h.HTTPServer(('127.0.0.1', 8123), h.SimpleHTTPRequestHandler).serve_forever()"


def ports():
    sandbox = Sandbox.create(timeout=120, network={"allow_public_traffic": False})
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "8123"}
    status, _, _ = raw("GET", "/", headers)
    holds("a port wants its token", status == 403, status)
    headers["e2b-traffic-access-token"] = sandbox.traffic_access_token
    status, _, body = raw("GET", "/", headers)
    told = json.loads(body)
    holds("a closed port is told", status == 502 and told["port"] == 8123 and told["message"] == "The sandbox is running but port is not open", body)
    sandbox.commands.run(f"cd /tmp && exec python3 -c \"{SERVER}\"", background=True, timeout=0)
    sandbox.files.write("/tmp/page", "from inside")
    until("a server inside is reached", lambda: raw("GET", "/page", headers)[2] == b"from inside")
    by_name = {"Host": f"8123-{sandbox.sandbox_id}.e2b.test", "e2b-traffic-access-token": sandbox.traffic_access_token}
    holds("by the host's name, too", raw("GET", "/page", by_name)[2] == b"from inside")
    status, _, _ = raw("GET", "/page", {"E2b-Sandbox-Id": sandbox.sandbox_id})
    holds("one header without the other", status == 400, status)
    status, _, body = raw("GET", "/health", {**headers, "E2b-Sandbox-Port": "49983", "User-Agent": "Mozilla/5.0"})
    holds("envd's health is open", status == 204, body)
    status, _, body = raw("GET", "/files?path=/etc/passwd", {**headers, "E2b-Sandbox-Port": "49983"})
    holds("envd wants its token", status == 401 and json.loads(body)["code"] == 401, body)
    sandbox.kill()
    status, kind, body = raw("GET", "/", {**headers, "User-Agent": "Mozilla/5.0"})
    holds("browsers get a page", status == 502 and kind["content-type"].startswith("text/html"), body)


def main():
    sandbox = sandboxes()
    commands(sandbox)
    terminals(sandbox)
    files(sandbox)
    pausing(sandbox)
    ports()
    print("all hold")


main()
