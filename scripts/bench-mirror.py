#!/usr/bin/env python3
"""What scripts/bench cannot measure in a shell: edits, and processes, watched from outside.

Every answer is a line `KEY VALUE` on stdout; anything for a person goes to stderr. It runs as root where the other side
is a container, whose files it reaches through `/proc/PID/root`: nothing of what is measured takes part in looking.
"""

import argparse
import filecmp
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time

# A change that is not there after this is lost.
LOST_S = 30
# Between edits, so that each is the first of a quiet path: long enough to be over with the last one.
PAUSE_S = (0.02, 0.06)
EDIT_BYTES = 1024
PER_DIRECTORY = 100
IDLE_THREADS_S = 12
BRANCH_FILES = 200
INSIDE = re.compile(r"/proc/(\d+)/root(/.*)$")


def say(text):
    print(text, file=sys.stderr, flush=True)


def answer(key, value):
    print(f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}", flush=True)


# --- trees ---


def path_of(number):
    """A hundred files in a directory, ten directories in a directory."""
    leaf = number // PER_DIRECTORY
    return f"d{leaf // 100}/d{leaf // 10 % 10}/d{leaf % 10}/f{number % PER_DIRECTORY}.txt"


def make_tree(args):
    for number in range(args.count):
        path = os.path.join(args.tree, path_of(number))
        if number % PER_DIRECTORY == 0:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.urandom(EDIT_BYTES))


def git(repository, *arguments):
    # The repository may be another user's, and what this machine configures must not matter.
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", GIT_CONFIG_COUNT="3")
    settings = [("safe.directory", "*"), ("gc.auto", "0"), ("advice.detachedHead", "false")]
    for number, (key, value) in enumerate(settings):
        env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    names = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    enter = []
    if inside := INSIDE.match(repository):
        # git asks for its directory's path, which nobody has from outside; the container's own git can tell.
        enter = ["nsenter", f"--target={inside[1]}", "--mount", "--root", "--wd=/"]
        repository = inside[2]
    command = [*enter, "git", "-C", repository, *names, *arguments]
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)


def make_repository(args):
    """Two branches, `main` and `other`, that differ in 200 files of the tree, spread over all of it."""
    make_tree(args)
    git(args.tree, "init", "-q", "-b", "main")
    git(args.tree, "add", "-A")
    git(args.tree, "commit", "-q", "-m", "main")
    git(args.tree, "checkout", "-q", "-b", "other")
    for path in branch_paths(args.count):
        with open(os.path.join(args.tree, path), "wb") as file:
            file.write(os.urandom(EDIT_BYTES * 2))
    git(args.tree, "commit", "-q", "-a", "-m", "other")
    git(args.tree, "checkout", "-q", "main")


def branch_paths(count):
    return [path_of(number) for number in range(0, count, count // BRANCH_FILES)][:BRANCH_FILES]


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def same(args):
    """Waits until two trees are equal, and fails if they do not become it."""
    deadline = time.monotonic() + LOST_S
    while difference := first_difference(args.tree, args.other):
        if time.monotonic() > deadline:
            sys.exit(f"error: the two sides are not equal: {difference}")
        time.sleep(0.1)


def first_difference(one, other):
    found = [set(), set()]
    for root, paths in zip((one, other), found):
        for directory, _, files in os.walk(root):
            paths.update(os.path.relpath(os.path.join(directory, name), root) for name in files)
    if only := found[0] ^ found[1]:
        return f"`{min(only)}` is on one side only"
    for path in sorted(found[0]):
        try:
            if not filecmp.cmp(os.path.join(one, path), os.path.join(other, path), shallow=False):
                return f"`{path}`"
        except FileNotFoundError:
            return f"`{path}` is gone"
    return None


# --- changes, and when they are on the other side ---


def write_in_place(path, content):
    with open(path, "wb") as file:
        file.write(content)


def write_and_rename(path, content):
    """As most editors save; the name is one that no rules know."""
    owner = os.stat(path)
    temporary = f"{path}.new"
    with open(temporary, "wb") as file:
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)
    os.rename(temporary, path)


def wait_for(path, content, deadline):
    """Busily. Only a changed file is opened: opens are events too, for who asks for them."""
    seen, is_changing = None, False
    while time.monotonic() < deadline:
        # First the stat, then the content: what comes in between is seen by the next look.
        now = stat_of(path)
        if now != seen or is_changing:
            if read(path) == content:
                return True
            # What writes in place may not be done, and the clock of a file's times is coarse.
            is_changing = seen is not None
            seen = now
        # There may be no more processors than two.
        os.sched_yield()
    return False


def stat_of(path):
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def percentile(samples, part):
    return sorted(samples)[math.ceil(len(samples) * part) - 1]


def edits(args):
    """Both ways of saving take turns; the worse of the two is what is told, in milliseconds."""
    chance = random.Random(args.seed)
    # The sandbox may overwrite no more than 20 files, or half of them, of the host within ten seconds.
    numbers = random.Random(args.count).sample(range(args.count), min(args.count // 5, args.edits * 2))
    styles = {"in place": (write_in_place, []), "rename-over": (write_and_rename, [])}
    lost = 0
    for _ in range(args.edits):
        for write, samples in styles.values():
            path = path_of(chance.choice(numbers))
            # Never twice the same, whatever the seed: what is there already would be there at once.
            content = os.urandom(EDIT_BYTES)
            target = os.path.join(args.other, path)
            started = time.monotonic()
            write(os.path.join(args.tree, path), content)
            if wait_for(target, content, started + LOST_S):
                samples.append((time.monotonic() - started) * 1000)
            else:
                lost += 1
                say(f"lost: an edit of `{path}` is not there after {LOST_S} s (seed {args.seed})")
                samples.append(LOST_S * 1000.0)
                if lost == 3:
                    sys.exit("error: too many edits are lost")
            time.sleep(chance.uniform(*PAUSE_S) if args.pause is None else args.pause)
    for name, (_, samples) in styles.items():
        found = f"median {statistics.median(samples):.2f} ms, p99 {percentile(samples, 0.99):.2f} ms"
        say(f"  {args.label}, {name}: {found}, max {max(samples):.2f} ms of {len(samples)}")
    every = [samples for _, samples in styles.values()]
    answer("median", max(statistics.median(samples) for samples in every))
    answer("p99", max(percentile(samples, 0.99) for samples in every))


def switch(args):
    """From before the checkout until every file of the branch, and git's own two, are equal."""
    paths = [*branch_paths(args.count), ".git/HEAD", ".git/index"]
    before = read(os.path.join(args.tree, paths[0]))
    started = time.monotonic()
    git(args.tree, "checkout", "-q", args.branch)
    took = time.monotonic() - started
    if read(os.path.join(args.tree, paths[0])) == before:
        sys.exit(f"error: `{args.branch}` was checked out before")
    for path in paths:
        content = read(os.path.join(args.tree, path))
        target = os.path.join(args.other, path)
        if not wait_for(target, content, started + LOST_S):
            sys.exit(f"error: `{path}` of the branch is not there after {LOST_S} s")
    answer("ms", (time.monotonic() - started) * 1000)
    answer("git", took * 1000)


def giant(args):
    """Overwrites a piece of one large file in place."""
    piece = os.urandom(args.bytes)
    source, target = os.path.join(args.tree, args.file), os.path.join(args.other, args.file)
    offset = (os.path.getsize(source) // 3) | 1
    before = stat_of(target)
    started = time.monotonic()
    with open(source, "r+b") as file:
        file.seek(offset)
        file.write(piece)
    while True:
        if stat_of(target) != before:
            with open(target, "rb") as file:
                file.seek(offset)
                if file.read(len(piece)) == piece:
                    break
        if time.monotonic() - started > LOST_S * 10:
            sys.exit("error: the change of the large file does not arrive")
        time.sleep(0.002)
    answer("ms", (time.monotonic() - started) * 1000)


def burst(args):
    """Many new files at once, below a directory that is new too; until the last of them is on the other side."""
    name = f"burst{args.seed}"
    target = os.path.join(args.other, name)
    started = time.monotonic()
    for number in range(args.count):
        path = os.path.join(args.tree, name, path_of(number))
        if number % PER_DIRECTORY == 0:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"%08d" % number * (EDIT_BYTES // 8))
    answer("made", (time.monotonic() - started) * 1000)
    waiting = [os.path.join(target, path_of(number)) for number in range(args.count)]
    while waiting:
        # From the end, where those are that are still missing.
        while waiting and os.path.exists(waiting[-1]):
            waiting.pop()
        if time.monotonic() - started > LOST_S * 4:
            sys.exit(f"error: {len(waiting)} of {args.count} new files are not there")
        time.sleep(0.005)
    answer("ms", (time.monotonic() - started) * 1000)


# --- processes ---


def fields(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def kib(pid, field):
    return int(fields(pid)[field].split()[0])


def memory(args):
    """Resident and peak, KiB. `--reset` makes the peak what is resident now."""
    for name, pid in args.process:
        if args.reset:
            with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
                file.write("5")
        answer(f"{name}-rss", kib(pid, "VmRSS"))
        answer(f"{name}-anon", kib(pid, "RssAnon"))
        answer(f"{name}-peak", kib(pid, "VmHWM"))


def settled(args):
    """Waits until processes have used no processor for two seconds."""
    deadline = time.monotonic() + LOST_S * 4
    before, since = None, time.monotonic()
    while time.monotonic() < deadline:
        now = [used(pid) for _, pid in args.process]
        # A wake now and then is not work.
        if before is None or sum(spent(*pair)[1] for pair in zip(before, now)) > 5_000_000:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 2:
            return
        time.sleep(0.2)
    say("warning: the processes do not come to rest")


def used(pid):
    """Ticks of utime + stime of the process; by thread, nanoseconds by the scheduler and context switches."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        # The name may have anything in it.
        after_name = file.read().rsplit(")", 1)[1].split()
    threads = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                ns = int(file.read().split()[0])
            found = fields(f"{pid}/task/{thread}")
        except (FileNotFoundError, ProcessLookupError):
            continue
        switches = (int(found[f"{kind}voluntary_ctxt_switches"]) for kind in ("", "non"))
        threads[thread] = ns, sum(switches)
    return int(after_name[11]) + int(after_name[12]), threads


def spent(before, now):
    """(ticks, nanoseconds, switches). Of a thread that has ended meanwhile only the ticks are known."""
    ns = switches = 0
    for thread, found in now[1].items():
        then = before[1].get(thread, (0, 0))
        ns += found[0] - then[0]
        switches += found[1] - then[1]
    return now[0] - before[0], ns, switches


def idle(args):
    """Processor time of processes that have nothing to do."""
    # Threads for blocking calls wait ten seconds for more work; their end is no part of being idle.
    time.sleep(IDLE_THREADS_S)
    before = {name: used(pid) for name, pid in args.process}
    time.sleep(args.seconds)
    totals = [0, 0, 0]
    for name, pid in args.process:
        ticks, ns, switches = found = spent(before[name], used(pid))
        totals = [total + more for total, more in zip(totals, found)]
        say(f"  {name}: {ticks} ticks, {ns / 1e6:.2f} ms by the scheduler, {switches} context switches")
    answer("ms", totals[0] * 1000 / os.sysconf("SC_CLK_TCK"))
    answer("scheduled", totals[1] / 1e6)
    answer("switches", totals[2])


CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\((\d+)<([^>]*)|( resumed>))(.*)$")
RESULT = re.compile(r" = (\d+)$")
WRITES = {"write", "writev", "sendto", "sendmsg"}


def wire(args):
    """Adds up what a process read from and wrote to sockets, from the output of `strace -f -y -s 0`."""
    sent = received = 0
    unfinished = {}
    with open(args.trace, encoding="utf-8", errors="replace") as file:
        for line in file:
            if not (call := CALL.match(line)):
                continue
            pid, name, _, target, resumed, rest = call.groups()
            if resumed:
                target = unfinished.pop(pid, "")
            elif rest.endswith("<unfinished ...>"):
                unfinished[pid] = target
                continue
            result = RESULT.search(rest)
            if not result or not target.startswith(("socket:", "UNIX", "TCP")):
                continue
            if name in WRITES:
                sent += int(result[1])
            else:
                received += int(result[1])
    answer("sent", sent)
    answer("received", received)
    answer("both", sent + received)


def session(args):
    """The processes of the session of a project, from `skync status --json`."""
    for found in json.load(sys.stdin)["sessions"]:
        if found["root"] == args.root and found["alive"]:
            pid = found["pid"]
            answer("session", pid)
            answer("keeper", int(fields(pid)["PPid"]))
            answer("sandbox", found["sandbox"])
            return
    sys.exit(f"error: there is no session of `{args.root}`")


# --- the command line ---


def process(text):
    name, pid = text.split("=")
    return name, int(pid)


def parser():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True)

    def command(run, *positional):
        added = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__)
        added.set_defaults(run=run)
        for name in positional:
            added.add_argument(name)
        return added

    for run in (make_tree, make_repository):
        command(run, "tree").add_argument("count", type=int)
    command(same, "tree", "other")
    for run in (edits, switch, burst):
        added = command(run, "tree", "other")
        added.add_argument("--count", type=int, required=True)
        added.add_argument("--seed", type=int, default=1)
        added.add_argument("--label", default="")
        if run is edits:
            added.add_argument("--edits", type=int, required=True)
            added.add_argument("--pause", type=float, help="seconds; random ones if not given")
        if run is switch:
            added.add_argument("--branch", required=True)
    added = command(giant, "tree", "other", "file")
    added.add_argument("--bytes", type=int, default=1 << 20)
    command(wire, "trace")
    command(session, "root")
    for run in (memory, settled, idle):
        added = command(run)
        added.add_argument("process", type=process, nargs="+", metavar="NAME=PID")
        if run is memory:
            added.add_argument("--reset", action="store_true")
        if run is idle:
            added.add_argument("--seconds", type=float, default=60)
    return top


if __name__ == "__main__":
    chosen = parser().parse_args()
    chosen.run(chosen)
