"""Trials of what a snapshot must not bring back, and of what it must: new code and new configuration instead of
yesterday's memory; files that the start has made; and whatever else differs in the next container.

What can go wrong with a snapshot, and where else it is tried:

    a file is cut off, changed or missing   damage.py; unit/snapshot: image_check, store_damage, worker
    CRIU hangs, dies, talks nonsense        integration/snapshots_test.cc; unit/lifecycle/snapshotter_test.cc
    a mapped file has changed, a pid taken  below
    output goes nowhere                     below, and stacks.py
    random numbers, environment, host name  below
    a machine that has run for less long    unit/snapshot: restorable, worker
    the disk is full                        damage.py; unit/snapshot/store_full_disk_test.cc
    two make the same snapshot at once      below; unit/snapshot/store_sharing_test.cc
    a zombie holds the pid of a root        stacks.py, "snapshot create": dumped, ended and restored in one container;
                                            integration/snapshots_test.cc: a restored root that has ended is reaped
    files of a failed restore are left      unit/snapshot: replaced_files, worker
    a thing that stays behind unnoticed     below; unit/snapshot/hazards_test.cc: System V objects, SQLite databases
    the root is read-only                   below
    a dump is broken off in the tree        damage.py (kill -9); integration/snapshots_test.cc
    told to stop while CRIU is in the tree  unit/lifecycle/supervisor_snapshots_test.cc

What a dumped tree may not hold:

    a socket that leads to the agent        integration/snapshots_test.cc, "what is dumped holds nothing of the agent's";
                                            unit/lifecycle/keeper_launcher_test.cc: the keeper leaves before the dump
    shared memory of the agent's            the same: nobody in the tree has any
    a listener that the agent holds, too    the same: the server opens its own
    a parent-death signal                   unit/lifecycle/keeper_launcher_test.cc: only helpers have one, and none is in
                                            the tree
    a seccomp filter                        of the server: integration/snapshots_test.cc; of the container: stacks.py,
                                            "under the runtime's own seccomp profile"
    a second tree                           integration/snapshots_test.cc: then all of it is dumped below one keeper
    itself, beside the restored one         stacks.py, "snapshot create": ended before its trial, never tried beside it
    files that were read and have changed   below: they are part of the image's identity, and so of the key
"""

import json
import os
import shutil

from containers import PATIENCE, TREE, check
from damage import (expect_right_answer, expect_whole, new_folder, origin_of, outcome_of_dump, side_by_side, snapshot_in,
                    why_cold)
from damage import start as start_counter
from stacks import ASK, RIGHTS
from trials import trial

SOURCES = os.path.join(TREE, "tests", "container", "stacks", "python")
WRITE = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/').read().decode())"
RESEED = "python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8000/reseed\")'"


def start(session, images, image, store, *arguments, options=(), command=("python3", "changeable.py")):
    words = ["--", *command] if command else []
    return session.start(image, "--snapshot-dir=/snapshots", f"--startup-timeout={PATIENCE}s", *arguments, *words,
                         options=["--network=none", f"--volume={images.criu()}:/opt/modal-agent/criu:ro",
                                  f"--volume={store}:/snapshots", *RIGHTS, *options])


def answer(container):
    said = container.execute(*ASK).stdout
    return json.loads(said[said.index("{"):])


def go(session, images, image, store, origin, *arguments, **keywords):
    """One container of its own: what it answers first."""
    with start(session, images, image, store, *arguments, **keywords) as container:
        container.wait_ready()
        check(origin_of(container) == origin, f"it is a {origin_of(container)} start: {container.output()}")
        if origin == "cold":
            outcome_of_dump(container)
        return answer(container)


def edited_image(session, images):
    """The image of Python stacks, built once more after a change of the program."""
    context = os.path.join(new_folder(session, "edited"), "image")
    shutil.copytree(SOURCES, context)
    path = os.path.join(context, "changeable.py")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("ANSWER = 1", "ANSWER = 2"))
    return session.build("edited", context, arguments={"AGENT": images.agent(), "BASE": session.base_image("python3")})


@trial("a program that was edited and built again gives its new answer, from the same volume")
def new_code(session, images):
    store = new_folder(session, "store")
    image = images.stack("python-alone")
    check(go(session, images, image, store, "cold")["answer"] == 1, "the first answer")
    check(go(session, images, image, store, "restore")["answer"] == 1, "the restored answer")
    edited = edited_image(session, images)
    check(go(session, images, edited, store, "cold")["answer"] == 2, "the old answer after the edit")
    check(go(session, images, edited, store, "restore")["answer"] == 2, "the old answer from the new snapshot")


@trial("a secret that was rotated has its new value, and its old one again from the old snapshot")
def new_environment(session, images):
    store = new_folder(session, "store")
    image = images.stack("python-alone")
    for colour, origin in (("red", "cold"), ("red", "restore"), ("blue", "cold"), ("blue", "restore"), ("red", "restore")):
        seen = go(session, images, image, store, origin, options=[f"--env=COLOUR={colour}"])["colour"]
        check(seen == colour, f"it is {seen} instead of {colour}")


@trial("a model that a startup hook has brought is there after a restore in a fresh container, without the hook")
def carried_model(session, images):
    store = new_folder(session, "store")
    image = images.stack("python-alone")
    hook = "--on-enter=head -c 8 /dev/urandom | od -An -tx1 > /var/model"
    first = go(session, images, image, store, "cold", hook)
    check(first["model"], f"the hook has brought nothing: {first}")
    second = go(session, images, image, store, "restore", hook)
    check(second["model"] == first["model"], f"the model is {second['model']} instead of {first['model']}")


@trial("random numbers and the host's name are the container's own by a hook after the restore, before anybody is served")
def reseeded(session, images):
    image = images.stack("python-alone")
    for hooks, differ in (([], False), ([f"--on-restore={RESEED}"], True)):
        store = new_folder(session, "store")
        go(session, images, image, store, "cold", *hooks)
        seen = [go(session, images, image, store, "restore", *hooks, options=[f"--hostname=host{number}"])
                for number in range(2)]
        # Without a hook they are what they were at the dump: the trial sees a difference.
        check((seen[0]["random"] != seen[1]["random"]) == differ, f"the random numbers are {seen}")
        hosts = [one["host"] for one in seen]
        check((hosts == ["host0", "host1"]) == differ, f"the hosts are {hosts}")


@trial("in containers whose root is read-only a snapshot is taken and restored")
def read_only(session, images):
    store = new_folder(session, "store")
    for origin in ("cold", "restore"):
        go(session, images, images.stack("python-alone"), store, origin, options=["--read-only"])


# SQLite compares the file's inode number before it writes, and a new container has another.
DATABASE = """
import http.server, json, sqlite3
database = sqlite3.connect({0!r})
database.execute("pragma journal_mode={1}")
database.execute("create table if not exists answers(x)")
database.commit()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        database.execute("insert into answers values(1)")
        database.commit()
        body = json.dumps(database.execute("select count(*) from answers").fetchone()[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""


@trial("an SQLite database that is held open takes writes after a restore, or is not dumped")
def database(session, images):
    for place, journal, origins in (("/var/app.db", "delete", ("cold", "cold")), ("/var/app.db", "wal", ("cold", "restore")),
                                    ("/data/app.db", "delete", ("cold", "restore"))):
        store = new_folder(session, "store")
        data = new_folder(session, "data")
        for origin in origins:
            with start(session, images, images.stack("python-alone"), store, options=[f"--volume={data}:/data"],
                       command=("python3", "-c", DATABASE.format(place, journal))) as container:
                container.wait_ready()
                check(origin_of(container) == origin, f"it is a {origin_of(container)} start: {container.output()}")
                if origin == "cold":
                    end = outcome_of_dump(container)
                    check((end["event"] == "snapshot.done") == ("restore" in origins), f"the dump: {end}")
                said = container.execute("python3", "-c", WRITE).stdout
                check(int(said.split()[-1]) >= 1, f"nothing was written: {said}")


@trial("a server with System V semaphores is not dumped, and told why")
def semaphores(session, images):
    store = new_folder(session, "store")
    with start(session, images, images.stack("python-alone"), store, "--on-enter=ipcmk -S 1") as container:
        container.wait_ready()
        end = outcome_of_dump(container)
        check(end["event"] == "snapshot.failed" and "System V semaphores" in end["message"], f"the dump: {end}")


@trial("what a restored server writes arrives in the log of the new container")
def output(session, images):
    store = new_folder(session, "store")
    for origin in ("cold", "restore"):
        with start(session, images, images.stack("python-alone"), store) as container:
            container.wait_ready()
            check(origin_of(container) == origin, f"it is a {origin_of(container)} start")
            answer(container)
            container.wait_for_line("^asked for /$", stream="stdout")
            if origin == "cold":
                container.wait_for_event("snapshot.done")


@trial("a daemon of a hook whose standard output is /dev/null is dumped and restored")
def daemon(session, images):
    store = new_folder(session, "store")
    for origin, count in (("cold", 1), ("restore", 1)):
        seen = go(session, images, images.stack("python-alone"), store, origin,
                  "--on-enter=python3 /app/changeable.py daemon", command=())
        check(seen["count"] == count and seen["answer"] == 1, f"it answers {seen}")


@trial("a mapped file that has changed under the same --snapshot-key: a cold start, and the new program's answer")
def mapped_file(session, images):
    store = new_folder(session, "store")
    with start_counter(session, images, "--snapshot-key=release", store=store) as container:
        container.wait_ready()
        container.wait_for_event("snapshot.done")
        changed = os.path.join(new_folder(session, "changed"), "counter")
        session.podman("cp", f"{container.name}:/counter", changed)
    # One more byte at the end of a program changes nothing but its size.
    with open(changed, "ab") as file:
        file.write(b"\0")
    with start_counter(session, images, "--snapshot-key=release", store=store,
                       options=[f"--volume={changed}:/counter:ro"]) as container:
        container.wait_ready()
        expect_right_answer(container, 1)
        check(origin_of(container) == "cold" and "size" in why_cold(container), f"it says: {container.output()}")


# Takes the pids from 1000 to 1009, of which a tree's root has one, before it becomes the agent, as somebody's
# podman exec might.
TAKES_A_PID = """\
import os, sys
os.environ.pop("LC_CTYPE", None)  # Python's own, and no part of the other container
while True:
    pid = os.fork()
    if pid == 0:
        if 1000 <= os.getpid() < 1010: os.execvp("sleep", ["sleep", "1000"])
        os._exit(0)
    if pid >= 1009: break
    if pid < 1000: os.waitpid(pid, 0)
os.execv("/modal-agent", ["/modal-agent", *sys.argv[1:]])
"""


@trial("a pid that is taken: a cold start that says so, with the right answer")
def taken_pid(session, images):
    store = new_folder(session, "store")
    image = images.stack("python-alone")
    go(session, images, image, store, "cold")
    with session.start(image, "-c", TAKES_A_PID, "--snapshot-dir=/snapshots", f"--startup-timeout={PATIENCE}s", "--",
                       "python3", "changeable.py",
                       options=["--network=none", f"--volume={images.criu()}:/opt/modal-agent/criu:ro",
                                f"--volume={store}:/snapshots", "--entrypoint=python3", *RIGHTS]) as container:
        container.wait_ready()
        check(any(str(pid) in why_cold(container) for pid in range(1000, 1010)), f"it says: {why_cold(container)}")
        check(answer(container)["answer"] == 1, "the answer")


@trial("of containers that start at once on one volume one makes the snapshot, and all serve")
def at_once(session, images):
    store = new_folder(session, "store")

    def one(_):
        with start_counter(session, images, store=store) as container:
            container.wait_ready()
            expect_right_answer(container, 1)
            if origin_of(container) == "restore":
                return "restored"
            if "made while this container started" in why_cold(container):
                return "too late"
            outcome = outcome_of_dump(container)
            check(outcome["event"] == "snapshot.done" or "of this key" in outcome["message"], f"it says: {outcome}")
            return outcome["event"]

    became = side_by_side(range(3), one)
    check(became.count("snapshot.done") == 1, f"of three: {became}")
    expect_whole(images, store)
    check(os.path.isdir(snapshot_in(store)), "there is no snapshot")
