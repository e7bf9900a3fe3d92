#!/usr/bin/env python3
"""What scripts/bench measures of `skync mount`, beside sshfs and the files themselves: the same tree, the same work, in
turns, once as it is and once with a line of 20 ms there and back.

It prints a table of medians and exits with 1 if a target of the design was missed. Anything for a person who waits goes
to stderr.
"""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

READ_BYTES = 1 << 20
SMALL_BYTES = 1024
NEEDLE = b"RARE_NEEDLE"
START_S_MAX = 30
# Of what takes minutes over a long line, sshfs does a part, and the row says which.
TUNED = (
    "Ciphers=aes128-gcm@openssh.com,Compression=no,kernel_cache,dcache_max_size=200000,dcache_timeout=3600,"
    "entry_timeout=3600,attr_timeout=3600,negative_timeout=3600"
)


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout


def wait_for(what, holds):
    deadline = time.monotonic() + START_S_MAX
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"error: {what} takes more than {START_S_MAX} s")
        time.sleep(0.02)


# --- a line with a delay, for sshfs ---


class DelayedLine:
    """Hands on what comes over TCP, so many seconds later, in order and without a limit to what is under way."""

    def __init__(self, port, delay):
        self.port, self.delay = port, delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, source, to):
        pieces, news = [], threading.Condition()

        def send():
            while True:
                with news:
                    news.wait_for(lambda: pieces)
                    due, data = pieces.pop(0)
                time.sleep(max(0.0, due - time.monotonic()))
                with contextlib.suppress(OSError):
                    if data:
                        to.sendall(data)
                    else:
                        to.shutdown(socket.SHUT_WR)
                if not data:
                    return

        threading.Thread(target=send, daemon=True).start()
        while True:
            try:
                data = source.recv(1 << 18)
            except OSError:
                data = b""
            with news:
                pieces.append((time.monotonic() + self.delay, data))
                news.notify()
            if not data:
                return


# --- the systems that are compared ---


class Native:
    """The files themselves, in memory: what nothing can beat."""

    name = "native"

    def __init__(self, tree):
        self.at = tree

    def mount(self):
        pass

    def unmount(self):
        pass


class Sshfs:
    """sshfs over sshd on this machine."""

    def __init__(self, name, place, tree, options):
        self.name, self.tree = name, tree
        self.at = place / name.replace(" ", "-")
        self.at.mkdir()
        self.options = options

    def mount(self):
        run("sshfs", f"127.0.0.1:{self.tree}", str(self.at), *self.options)

    def unmount(self):
        run("fusermount3", "-u", "-z", str(self.at))


class Skync:
    """`skync mount` of a session that lives."""

    name = "skync"

    def __init__(self, skync, project, at):
        self.skync, self.project, self.at = skync, project, at

    def mount(self):
        run(self.skync, "-q", "mount", "--at", str(self.at), "--rw", cwd=self.project)

    def unmount(self):
        run(self.skync, "-q", "unmount", "--at", str(self.at), cwd=self.project)


class Sshd:
    """A server of our own, with keys of its own."""

    def __init__(self, place):
        self.place = place
        place.mkdir(mode=0o700)
        for key in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / key))
        shutil.copy(place / "user.pub", place / "authorized")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        config = place / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/authorized\n"
            f"PidFile {place}/pid\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
        )
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        run("/usr/sbin/sshd", "-f", str(config), "-E", str(place / "log"))

    def options(self, port, more=""):
        files = f"IdentityFile={self.place}/user,UserKnownHostsFile=/dev/null,StrictHostKeyChecking=no,LogLevel=ERROR"
        return ["-p", str(port), "-o", files + (f",{more}" if more else "")]

    def stop(self):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.place / "pid").read_text()), 15)


# --- the work ---


def names(tree, dirs, files):
    return [f"{tree}/d{d:03}/f{f:03}" for d in range(dirs) for f in range(files)]


def make_tree(tree, dirs, files, big_bytes):
    seed = random.Random(7)
    for path in names(tree, dirs, files):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = seed.randbytes(3072).hex().encode()[:4096]
        with open(path, "wb") as file:
            file.write(data)
    with open(f"{tree}/d000/f000", "r+b") as file:
        file.write(NEEDLE)
    with open(f"{tree}/big", "wb") as file:
        for _ in range(big_bytes // READ_BYTES):
            file.write(os.urandom(READ_BYTES))


def timed(work, *arguments):
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def find(at):
    run("find", f"{at}", "-type", "f", "-name", "f*")


def list_all(at):
    run("ls", "-lR", f"{at}")


def grep(at):
    found = run("grep", "-rl", NEEDLE.decode(), "--exclude=big", f"{at}")
    assert found.count(b"\n") == 1, found


def stat_all(paths):
    random.Random(3).shuffle(paths)
    for path in paths:
        os.lstat(path)


def read_whole(at, limit):
    with open(f"{at}/big", "rb", buffering=0) as file:
        view = memoryview(bytearray(READ_BYTES))
        left = limit
        while left > 0 and (got := file.readinto(view)):
            left -= got


def read_pieces(at, size, count):
    seed = random.Random(5)
    descriptor = os.open(f"{at}/big", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    for _ in range(count):
        os.pread(descriptor, 4096, seed.randrange(size // 4096) * 4096)
    os.close(descriptor)


def create(at, count):
    data = b"x" * SMALL_BYTES
    os.mkdir(f"{at}/made")
    for number in range(count):
        with open(f"{at}/made/{number}", "xb", buffering=0) as file:
            file.write(data)


def write_whole(at, size):
    data = os.urandom(READ_BYTES)
    with open(f"{at}/written", "wb", buffering=0) as file:
        for _ in range(size // READ_BYTES):
            file.write(data)
        os.fsync(file.fileno())


class Work:
    """One round of all rows for one system; `part` says how much of what takes too long is done."""

    def __init__(self, args, slow):
        self.args, self.slow = args, slow
        self.samples = {}

    def keep(self, system, row, value):
        self.samples.setdefault((row, system.name), []).append(value)

    @contextlib.contextmanager
    def fresh(self, system):
        system.mount()
        try:
            yield system.at
        finally:
            system.unmount()

    def round(self, system):
        args, slow = self.args, self.slow and system.name.startswith("sshfs")
        count = args.dirs * args.files
        with self.fresh(system) as at:
            self.keep(system, "find, cold (s)", timed(find, at))
            self.keep(system, "find, warm (s)", timed(find, at))
        with self.fresh(system) as at:
            self.keep(system, "ls -lR, cold (s)", timed(list_all, at))
            self.keep(system, "ls -lR, warm (s)", timed(list_all, at))
        with self.fresh(system) as at:
            # Over a long line sshfs reads one directory of ten.
            if slow:
                took = sum(timed(grep_part, f"{at}/d{d:03}") for d in range(0, args.dirs, 10))
                self.keep(system, "grep -r, cold (s)", took * 10)
            else:
                self.keep(system, "grep -r, cold (s)", timed(grep, at))
                self.keep(system, "grep -r, warm (s)", timed(grep, at))
        with self.fresh(system) as at:
            some = args.dirs if not slow else args.dirs // 10
            self.keep(system, "lstat, cold (/s)", count * some // args.dirs / timed(stat_all, names(at, some, args.files)))
        big = args.big_mib << 20 if not self.slow else 128 << 20
        with self.fresh(system) as at:
            self.keep(system, "read 1 GiB, cold (MB/s)" if not self.slow else "read 128 MiB, cold (MB/s)",
                      big / 1e6 / timed(read_whole, at, big))
            self.keep(system, "read, warm (MB/s)", big / 1e6 / timed(read_whole, at, big))
        with self.fresh(system) as at:
            pieces = 2000 if not self.slow else 100
            self.keep(system, "read 4 KiB at random (/s)", pieces / timed(read_pieces, at, args.big_mib << 20, pieces))
        with self.fresh(system) as at:
            made = 1000 if not self.slow else 40
            self.keep(system, "create 1 KiB (/s)", made / timed(create, at, made))
            written = 256 << 20 if not self.slow else 64 << 20
            self.keep(system, "write + fsync (MB/s)", written / 1e6 / timed(write_whole, at, written))
            shutil.rmtree(f"{at}/made")
            os.remove(f"{at}/written")


def grep_part(at):
    subprocess.run(["grep", "-rl", "NOT_THERE", at], check=False, stdout=subprocess.DEVNULL)


# --- the table ---

# What the design wants, engine local: at most, in seconds, or at least, per second.
LOCAL = {
    "find, cold (s)": 0.1,
    "grep -r, cold (s)": 1.0,
    "lstat, cold (/s)": 50_000,
    "create 1 KiB (/s)": 5_000,
    "read 1 GiB, cold (MB/s)": 600,
}
FAR = {"find, cold (s)": 0.4, "grep -r, cold (s)": 3.0, "read 128 MiB, cold (MB/s)": 200}


def table(title, work, systems, targets):
    print(f"\n{title}")
    print(f"{'what':<28}" + "".join(f"{system.name:>15}" for system in systems) + f"{'target':>11}")
    missed = 0
    for row in dict.fromkeys(row for row, _ in work.samples):
        cells = []
        for system in systems:
            samples = work.samples.get((row, system.name))
            cells.append(f"{statistics.median(samples):>15.3g}" if samples else f"{'-':>15}")
        target, verdict = targets.get(row), ""
        if target is not None:
            ours = statistics.median(work.samples[(row, "skync")])
            good = ours <= target if row.endswith("(s)") else ours >= target
            missed += not good
            verdict = "ok" if good else "MISSED"
        shown = "" if target is None else (f"<= {target:g}" if row.endswith("(s)") else f">= {target:g}")
        print(f"{row:<28}" + "".join(cells) + f"{shown:>11} {verdict}")
    return missed


def measure(title, args, systems, targets, slow):
    work = Work(args, slow)
    for number in range(args.runs):
        for system in systems:
            say(f"  {title}: {system.name}, run {number + 1}")
            work.round(system)
    return table(title, work, systems, targets)


def local(args, place):
    tree = args.tree
    sshd = Sshd(place / "sshd")
    try:
        systems = [
            Native(tree),
            Sshfs("sshfs", place, tree, sshd.options(sshd.port)),
            Sshfs("sshfs tuned", place, tree, sshd.options(sshd.port, TUNED)),
            Skync(args.skync, args.project, place / "skync"),
        ]
        return measure(f"{args.what}, {args.dirs * args.files} files", args, systems, LOCAL, False)
    finally:
        sshd.stop()


def far(args, place):
    sshd = Sshd(place / "sshd")
    line = DelayedLine(sshd.port, args.delay_ms / 1000)
    try:
        systems = [
            Sshfs("sshfs", place, args.tree, sshd.options(line.own_port)),
            Sshfs("sshfs tuned", place, args.tree, sshd.options(line.own_port, TUNED)),
            Skync(args.skync, args.project, place / "skync"),
        ]
        title = f"{args.what}, {2 * args.delay_ms} ms there and back"
        return measure(title, args, systems, FAR, True)
    finally:
        sshd.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", help="for the table's title")
    parser.add_argument("--place", type=pathlib.Path, required=True, help="an empty directory for mounts and keys")
    parser.add_argument("--skync", help="the program")
    parser.add_argument("--project", help="whose session is mounted")
    parser.add_argument("--tree", type=pathlib.Path, required=True, help="what is mounted, on this machine")
    parser.add_argument("--make", action="store_true", help="make the tree, and nothing else")
    parser.add_argument("--delay-ms", type=int, default=0, help="one way, of sshfs' line")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dirs", type=int, default=100)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--big-mib", type=int, default=1024)
    args = parser.parse_args()
    if args.make:
        make_tree(args.tree, args.dirs, args.files, args.big_mib << 20)
        return
    args.place.mkdir(exist_ok=True)
    missed = far(args, args.place) if args.delay_ms else local(args, args.place)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
