"""Trials of what may happen to a snapshot and to those who make and restore it: damaged files, full disks, kill -9.

Whatever it is, a container serves right answers within its limits, and what is published is whole. What is dumped is
the counter, whose answers tell whether any byte of its memory has changed.
"""

import os
import random
import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from containers import PATIENCE, Failure, check, run
from stacks import RIGHTS, STACKS, ask, expect_origin, status_of
from trials import trial

AT_ONCE = 3  # containers side by side
KILLS = 200
ANSWER = re.compile(r"^count (\d+) pid (\d+) wrong (\d+)\n$")


# ---- containers and their store ----


def new_folder(session, name):
    folder = os.path.join(session.folder.name, f"{name}-{os.urandom(4).hex()}")
    os.makedirs(folder, mode=0o700)
    os.chmod(session.folder.name, 0o755)
    return folder


class Pid:
    """Where podman writes down the container's process 1, as the machine outside numbers it."""

    def __init__(self, session):
        self.path = os.path.join(new_folder(session, "pid"), "pid")

    def __call__(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with open(self.path, encoding="ascii") as file:
                    text = file.read()
                if text:
                    return int(text)
            except FileNotFoundError:
                pass
            time.sleep(0.001)
        raise Failure("podman has written down no pid")


def start(session, images, *arguments, store=None, options=()):
    """A container with the counter, whose agent runs by now. Where many containers come and go at once podman itself
    fails now and then ("layer not known") before there is any: then it is told again."""
    volume = [f"--volume={store}:/snapshots"] if store else []
    for _ in range(3):
        pid = Pid(session)
        container = session.start(
            images.counter_stack(), "--snapshot-dir=/snapshots", "--admin=off", *arguments, "--", "/counter", "serve",
            options=["--network=none", f"--pidfile={pid.path}", f"--volume={images.criu()}:/opt/modal-agent/criu:ro",
                     *volume, *RIGHTS, *options])
        container.pid = pid
        if has_started(container):
            return container
        container.__exit__()
    raise Failure("podman starts no container")


def has_started(container):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended = container.process.poll() is not None and not any(reader.is_alive() for reader in container.readers)
        if container.events():
            return True
        if ended:
            return False
        time.sleep(0.002)
    return False


def ask_counter(container):
    """Nothing if nobody answers."""
    if os.geteuid() == 0:  # much quicker than podman
        pid = container.pid()
        return run(["nsenter", f"--target={pid}", "--net", f"/proc/{pid}/root/counter", "ask"], may_fail=True).stdout
    return container.execute("/counter", "ask", may_fail=True).stdout


def expect_right_answer(container, count=None):
    said = ask_counter(container)
    answer = ANSWER.match(said)
    check(answer and answer[3] == "0", f"the server says: {said!r}")
    check(count is None or int(answer[1]) == count, f"it has counted to {answer[1]} instead of {count}")


def origin_of(container):
    """As the log tells it; status says the same (stacks.py)."""
    return "restore" if any(line["event"] == "snapshot.restored" for line in container.events()) else "cold"


def why_cold(container):
    return container.wait_for_event("snapshot.cold")["message"]


def outcome_of_dump(container):
    def found():
        for line in container.events():
            if line["event"] in ("snapshot.done", "snapshot.failed", "snapshot.declined", "snapshot.off"):
                return line
        return None
    return container._wait_until(found, "end of a dump")


def snapshot_command(images, store, *words, may_fail=False):
    return run([images.binary, "snapshot", words[0], f"--snapshot-dir={store}", *words[1:]], may_fail=may_fail)


def expect_whole(images, store):
    """What is published is what was written, and nothing half-made lies beside it."""
    snapshot_command(images, store, "verify")
    snapshot_command(images, store, "list")
    left = [name for name in os.listdir(store) if name.startswith((".staging-", ".trash-"))]
    check(not left, f"left behind: {left}")


def master(session, images):
    """A store with one good snapshot that was never restored, made once; copies of it are what is tried."""
    def make():
        store = new_folder(session, "master")
        with start(session, images, store=store) as container:
            container.wait_ready()
            container.wait_for_event("snapshot.done")
            expect_right_answer(container, 1)
        expect_whole(images, store)
        return store
    return images._once("master", make)


def copy_of(session, store):
    copy = new_folder(session, "store")
    shutil.copytree(store, copy, dirs_exist_ok=True)
    return copy


def snapshot_in(store):
    keys = [name for name in os.listdir(store) if re.fullmatch("[0-9a-f]{32}", name)]
    check(len(keys) == 1, f"snapshots: {keys}")
    return os.path.join(store, keys[0])


def side_by_side(rounds, function):
    """Runs them AT_ONCE at a time; the first that fails is the failure, and no more are begun."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(function, one) for one in rounds]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


# ---- damage ----


def cut_off(path):
    os.truncate(path, os.path.getsize(path) // 2)


def change_a_byte(path):
    # One in the second half, beyond all headers; and not the same of all files.
    size = os.path.getsize(path)
    at = size // 2 + random.Random(path).randrange(size - size // 2)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1 << at % 8]))


DAMAGES = [cut_off, change_a_byte, os.remove]


def files_of(snapshot):
    found = []
    for folder, _, names in os.walk(snapshot):
        found += [os.path.relpath(os.path.join(folder, name), snapshot) for name in names]
    return sorted(name for name in found if os.path.getsize(os.path.join(snapshot, name)) > 0)


def expect_cold_start(session, images, name, damage):
    store = copy_of(session, master(session, images))
    damage(os.path.join(snapshot_in(store), name))
    with start(session, images, store=store) as container:
        container.wait_ready()
        expect_right_answer(container, 1)
        what = f"{name} after {damage.__name__}"
        check(origin_of(container) == "cold", f"restored from {what}")
        check(os.path.basename(name) in why_cold(container), f"{what}: {why_cold(container)}")
        warned = [line for line in container.events() if line["level"] in ("warn", "error")]
        check(not warned, f"{what}: more is said: {warned}")
    shutil.rmtree(store)
    container.lines.clear()


@trial("a damaged snapshot is never answered from: cut off, changed by one bit, or with a file missing", core=True)
def damaged(session, images):
    names = files_of(snapshot_in(master(session, images)))
    memory = max((name for name in names if "/pages-" in name),
                 key=lambda name: os.path.getsize(os.path.join(snapshot_in(master(session, images)), name)))
    some = [(memory, change_a_byte), (memory, cut_off), ("manifest.json", change_a_byte), ("images/pstree.img", os.remove),
            ("files.tar", change_a_byte)]
    side_by_side(some, lambda one: expect_cold_start(session, images, *one))


@trial("every file of a snapshot: cut off, changed by one bit, missing: a cold start that names it, with right answers")
def every_file_damaged(session, images):
    names = files_of(snapshot_in(master(session, images)))
    check(len(names) > 20, f"only {names}")
    side_by_side([(name, damage) for name in names for damage in DAMAGES],
                 lambda one: expect_cold_start(session, images, *one))


@trial("a bit of the heap of a Python server is changed: it starts cold, and answers right")
def damaged_heap(session, images):
    stack = STACKS[0]
    store = new_folder(session, "python")

    def go(origin):
        with session.start(images.stack(stack.image), "--snapshot-dir=/snapshots", "--", *stack.command,
                           options=["--network=none", f"--volume={images.criu()}:/opt/modal-agent/criu:ro",
                                    f"--volume={store}:/snapshots", *RIGHTS]) as container:
            container.wait_ready()
            expect_origin(container, origin)
            ask(container, stack)
            if origin == "cold" and not any(re.fullmatch("[0-9a-f]{32}", name) for name in os.listdir(store)):
                container.wait_for_event("snapshot.done")
            return status_of(container)["snapshot"]["note"]

    go("cold")
    go("restore")
    images_folder = os.path.join(snapshot_in(store), "images")
    pages = max((os.path.join(images_folder, name) for name in os.listdir(images_folder) if name.startswith("pages-")),
                key=os.path.getsize)
    change_a_byte(pages)
    note = go("cold")
    check("is damaged" in note, f"status says: {note}")


@trial("two restores that fail quarantine a snapshot, and deleting it lets the next start make a good one")
def quarantine(session, images):
    store = copy_of(session, master(session, images))
    change_a_byte(os.path.join(snapshot_in(store), "images", "pages-1.img"))
    for said in ("is damaged", "is damaged", "quarantined"):
        with start(session, images, store=store) as container:
            container.wait_ready()
            expect_right_answer(container, 1)
            check(said in why_cold(container), f"it says: {why_cold(container)}")
    check(snapshot_command(images, store, "verify", may_fail=True).returncode == 122, "verify finds nothing wrong")
    snapshot_command(images, store, "delete", os.path.basename(snapshot_in(store)))
    with start(session, images, store=store) as container:
        container.wait_ready()
        container.wait_for_event("snapshot.done")
    expect_whole(images, store)
    with start(session, images, store=store) as container:
        container.wait_ready()
        check(origin_of(container) == "restore", "the new one is not restored")
        expect_right_answer(container, 1)


# ---- no room ----


def left_in(container, path):
    return os.listdir(f"/proc/{container.pid()}/root{path}")


def expect_served_without_room(session, images, size):
    with start(session, images, options=[f"--mount=type=tmpfs,destination=/snapshots,tmpfs-size={size},"
                                         "tmpfs-mode=0700"]) as container:
        container.wait_ready()
        outcome = outcome_of_dump(container)
        expect_right_answer(container, 1)
        left = left_in(container, "/snapshots")
        keys = [name for name in left if re.fullmatch("[0-9a-f]{32}", name)]
        if outcome["event"] == "snapshot.done":
            check(len(keys) == 1, f"it says that there is one, and there is {left}")
        else:
            check(not keys and not any(name.startswith((".staging", ".trash")) for name in left),
                  f"with {size} bytes of room: {left}")
            said = [line for line in container.events() if line["level"] in ("warn", "error")]
            check(len(said) <= 1, f"with {size} bytes of room it says: {said}")
        return outcome["event"]


@trial("a disk that is full at any stage of a dump: the server serves, one line says so, nothing is left of it")
def full_disk(session, images):
    page = 4096
    snapshot = snapshot_in(master(session, images))
    needed = sum(-(-os.path.getsize(os.path.join(folder, name)) // page) * page
                 for folder, _, names in os.walk(snapshot) for name in names)
    sizes = [page, 4 * page, 16 * page, 64 * page, 256 * page, needed // 2, needed - 16 * page, needed - 4 * page,
             needed - 2 * page, needed - page, needed, needed + 2 * page, needed + 16 * page]
    events = side_by_side(sizes, lambda size: expect_served_without_room(session, images, size))
    check(events[0] != "snapshot.done" and events[-1] == "snapshot.done", f"by size: {events}")


@trial("a folder of snapshots that takes no writing is restored from, and without a snapshot in it served all the same")
def read_only_folder(session, images):
    for store, origin in ((new_folder(session, "empty"), "cold"), (copy_of(session, master(session, images)), "restore")):
        before = sorted(os.listdir(store))
        with start(session, images, options=[f"--volume={store}:/snapshots:ro"]) as container:
            container.wait_ready()
            check(origin_of(container) == origin, f"it is a {origin_of(container)} start")
            expect_right_answer(container, 1)
            said = [line for line in container.events() if line["level"] in ("warn", "error")]
            check(len(said) <= 1, f"it says: {said}")
        check(sorted(os.listdir(store)) == before, f"there is {os.listdir(store)}")


@trial("without room for CRIU's own files a server is served, dumped or not, restored or not")
def no_working_room(session, images):
    for size in ("4k", "16k"):
        store = new_folder(session, "store")
        for _ in range(2):
            with start(session, images, store=store, options=[f"--shm-size={size}"]) as container:
                container.wait_ready()
                if origin_of(container) == "cold":
                    outcome_of_dump(container)
                expect_right_answer(container, 1)
        expect_whole(images, store)


# ---- kill -9 ----


class Victim:
    """Who is to be killed, told apart by its command line among the children of process 1."""

    def __init__(self, name, words):
        self.name = name
        self.words = words

    def find(self, container):
        """A descriptor of the process; None if it was not met before the server served."""
        init = container.pid()
        if self.words is None:
            return os.pidfd_open(init)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with open(f"/proc/{init}/task/{init}/children", encoding="ascii") as file:
                    children = file.read().split()
                for child in children:
                    with open(f"/proc/{child}/cmdline", "rb") as file:
                        if self.words in file.read():
                            return os.pidfd_open(int(child))
            except (FileNotFoundError, ProcessLookupError):
                if not os.path.exists(f"/proc/{init}"):
                    return None
            if any(line["event"] in ("lifecycle.ready", "agent.exit") for line in container.events()):
                return None
            time.sleep(0.0005)
        raise Failure(f"{self.name} was waited for in vain")


CRIU = Victim("CRIU", b"swrk")
WORKER = Victim("the worker", b"modal-agent-snapshot")
KEEPER = Victim("the keeper", b"modal-agent-keeper")
SERVER = Victim("the restored server", b"/counter\0serve")
PROCESS_1 = Victim("process 1", None)


@dataclass(frozen=True)
class Kill:
    number: int
    victim: Victim
    is_dump: bool
    delay: float  # seconds from the moment at which the victim was seen

    def __str__(self):
        return f"kill {self.number}: {self.victim.name} {self.delay * 1000:.1f} ms into a {'dump' if self.is_dump else 'restore'}"


def plan_of_kills(seed, count):
    dice = random.Random(seed)
    kills = []
    for number in range(count):
        is_dump = dice.random() < 0.5
        victim = dice.choice([CRIU, CRIU, WORKER, WORKER, KEEPER if is_dump else SERVER, PROCESS_1])
        longest = 0.15 if is_dump else 0.05
        kills.append(Kill(number, victim, is_dump, dice.random() ** 2 * longest))
    return kills


def kill_once(session, images, kill):
    """Returns what became of the container."""
    store = new_folder(session, "store") if kill.is_dump else copy_of(session, master(session, images))
    try:
        with start(session, images, store=store) as container:
            if kill.is_dump and kill.victim in (CRIU, WORKER):
                container.wait_for_event("lifecycle.phase", to="Checkpointing")
            process = kill.victim.find(container)
            if process is not None:
                time.sleep(kill.delay)
                try:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                os.close(process)
            if kill.victim in (KEEPER, SERVER, PROCESS_1):
                became = serves_or_ended(container)
            else:
                container.wait_ready()
                became = "serves"
            if became == "serves":
                expect_right_answer(container, 1)
        expect_next_is_right(session, images, store)
    except Failure as failure:
        raise Failure(f"{kill}: {failure}") from failure
    container.lines.clear()
    shutil.rmtree(store)
    return became


def serves_or_ended(container):
    """Whose root is killed has ended; it may have served, or serve anew."""
    def found():
        if container.process.poll() is not None:
            return "ended"
        return "serves" if any(line["event"] == "lifecycle.ready" for line in container.events()) else None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        became = found()
        if became == "serves":
            # It may be that this was said before the kill.
            said = ask_counter(container)
            if ANSWER.match(said) is None:
                check(container.exit_code() == 137, "it serves nothing, and lives")
                return "ended"
            check(" wrong 0\n" in said, f"the server says: {said}")
            return "answered"
        if became == "ended":
            return became
        time.sleep(0.005)
    raise Failure("it neither serves nor ends")


def expect_next_is_right(session, images, store):
    with start(session, images, store=store) as container:
        container.wait_ready()
        expect_right_answer(container, 1)
        if origin_of(container) == "cold" and not container_has_snapshot(store):
            outcome_of_dump(container)
    snapshot_command(images, store, "prune", "--keep=9")
    expect_whole(images, store)
    container.lines.clear()


def container_has_snapshot(store):
    return any(re.fullmatch("[0-9a-f]{32}", name) for name in os.listdir(store))


def kill_all(session, images, seed, count):
    master(session, images)
    became = side_by_side(plan_of_kills(seed, count), lambda kill: kill_once(session, images, kill))
    return {what: became.count(what) for what in set(became)}


@trial("kill -9 of CRIU, the worker, the tree and process 1: the next container serves right answers from whole files",
       core=True)
def killed_a_few_times(session, images):
    seed = random.randrange(1 << 32)
    try:
        kill_all(session, images, seed, 6)
    except Failure as failure:
        raise Failure(f"seed {seed}: {failure}") from failure


@trial(f"the same at {KILLS} random moments")
def killed_many_times(session, images):
    seed = random.randrange(1 << 32)
    try:
        print(f"      seed {seed}: {kill_all(session, images, seed, KILLS)}", flush=True)
    except Failure as failure:
        raise Failure(f"seed {seed}: {failure}") from failure
