"""Trials of snapshots with the stacks that people run: a server is started cold in one container, which publishes a
snapshot, and restored in a second, fresh one, with what it had in its memory.

Each stack answers GET / with JSON: a token that is random at every cold start, a counter of the requests so far, the
pid, and an answer that can be told right from wrong. The warm-up before the dump is the first to count.
"""

import json
import os
import threading
from dataclasses import dataclass, field, replace

from containers import PATIENCE, Failure, check, processes_in
from trials import trial

HERE = os.path.dirname(os.path.abspath(__file__))
WARMUP = 3
# Who of several workers answers is up to them; so many requests meet each of two.
REQUESTS = 40

RIGHTS = ["--cap-add=CHECKPOINT_RESTORE", "--cap-add=SETPCAP", "--security-opt=seccomp=unconfined"]
UVICORN = ["python3", "-m", "uvicorn", "--host=0.0.0.0", "--port=8000"]
GUNICORN = ["gunicorn", "--bind=0.0.0.0:8000", "--workers=2"]
USERS = [("as root", []), ("as uid 1000", ["--user=1000:1000"])]

# A request from inside; every image but the static one has a shell that can make it.
def asking(path):
    return ["bash", "-c",
            rf"exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET {path} HTTP/1.0\r\nHost: stack\r\n\r\n' >&3; cat <&3"]


ASK = asking("/")


@dataclass
class Stack:
    name: str
    image: str  # by which run.py knows its sources and packages
    command: list
    answer: object = 42
    expected: dict = field(default_factory=dict)  # what else is in the JSON
    options: list = field(default_factory=list)  # of the agent
    processes: int = 1  # that answer, each with a state of its own
    ask: list = field(default_factory=lambda: ASK)
    ended: str | None = "ended in order"  # a line of its own
    status: int = 0
    core: bool = False


STACKS = [
    Stack("Python's http.server", "python-alone", ["python3", "plain.py"], core=True),
    Stack("FastAPI with uvicorn on asyncio", "python", [*UVICORN, "--loop=asyncio", "fastapi_app:app"], answer=285,
          expected={"loop": "asyncio.unix_events"}),
    Stack("FastAPI with uvicorn on uvloop", "python", [*UVICORN, "--loop=uvloop", "fastapi_app:app"], answer=285,
          expected={"loop": "uvloop"}),
    Stack("FastAPI with uvicorn in two processes", "python", [*UVICORN, "--workers=2", "fastapi_app:app"], answer=285,
          processes=2),
    Stack("Flask with gunicorn in two workers", "python", [*GUNICORN, "flask_app:app"], processes=2,
          ended="Shutting down: Master"),
    Stack("Django with gunicorn in two workers", "python", [*GUNICORN, "django_app:application"], processes=2,
          ended="Shutting down: Master"),
    Stack("FastAPI with pandas and scikit-learn", "python", [*UVICORN, "model_app:app"], answer=31.0,
          expected={"mean": [1498.0, 1501.0]}),
    Stack("a Python process with a heap of 1 GiB", "python-alone", ["python3", "plain.py", "1024"], answer="whole"),
    Stack("node", "node", ["node", "plain.js"]),
    Stack("node with express", "node", ["node", "express.js"]),
    Stack("a JVM", "java", ["java", "Server"], status=143),
    Stack("php-fpm behind nginx", "php", ["nginx", "-c", "/app/nginx.conf", "-e", "stderr"],
          options=["--on-enter=php-fpm8.2 --allow-to-run-as-root --fpm-config /app/php-fpm.conf"], ended=None),
    Stack("a static server on an empty root", "static", ["/server"], ask=["/server", "ask"]),
]


def ask(container, stack, command=None):
    answer = container.execute(*(command or stack.ask)).stdout
    try:
        seen = json.loads(answer[answer.index("{"):])
    except ValueError as error:
        raise Failure(f"the server says: {answer}") from error
    check(seen["answer"] == stack.answer, f"the answer is {seen['answer']} instead of {stack.answer}")
    for key, value in stack.expected.items():
        check(seen[key] == value, f"{key} is {seen[key]} instead of {value}")
    return seen


def first_answers(container, stack, is_enough):
    """By token: the first answer of each state that was met. Another worker may be starting still: it counts, too."""
    first = {}
    for _ in range(REQUESTS):
        seen = ask(container, stack)
        first.setdefault(seen["token"], seen)
        if is_enough(first):
            break
    return first


def status_of(container):
    return json.loads(container.execute("/modal-agent", "status", "--json").stdout)


def expect_origin(container, origin):
    seen = status_of(container)["snapshot"]
    check(seen is not None and seen["origin"] == origin, f"status says {seen}")
    return seen


def stop_in_order(container, stack):
    namespace = container.process_namespace()
    container.stop()
    container.expect_exit(stack.status)
    check(stack.ended is None or container.has_line(stack.ended), f"no line like '{stack.ended}'")
    left = processes_in(namespace)
    check(not left, f"processes left behind: {left}")


def volume(session):
    """A folder for snapshots, which belongs to the container's user."""
    folder = os.path.join(session.folder.name, f"snapshots-{len(session.started)}")
    os.makedirs(folder)
    os.chmod(session.folder.name, 0o755)
    return f"--volume={folder}:/snapshots:U"


def start(session, images, stack, options):
    return session.start(images.stack(stack.image), f"--snapshot-warmup={WARMUP}", "--snapshot-dir=/snapshots",
                         f"--startup-timeout={PATIENCE}s", *stack.options, "--", *stack.command,
                         options=["--network=none", f"--volume={images.criu()}:/opt/modal-agent/criu:ro", *options])


def carried_over(session, images, stack, options):
    options = [*RIGHTS, volume(session), *options]
    with start(session, images, stack, options) as container:
        container.wait_ready()
        expect_origin(container, "cold")
        container.wait_for_event("snapshot.done")
        before = first_answers(container, stack, lambda met: len(met) == stack.processes)
        stop_in_order(container, stack)

    with start(session, images, stack, options) as container:
        container.wait_ready()
        expect_origin(container, "restore")
        after = first_answers(container, stack, lambda met: met.keys() & before.keys())
        carried = after.keys() & before.keys()
        check(carried, f"nobody of {before} is among {after}")
        for token in carried:
            # The first container's server went on from the dump, as does this one: both say the same.
            check(after[token] == before[token], f"it says {after[token]} instead of {before[token]}")
        if stack.processes == 1:
            count = after[carried.pop()]["count"]
            check(count == WARMUP + 1, f"the counter is {count} after {WARMUP} requests before the dump and one more")
        stop_in_order(container, stack)


def register(stack, who, options, core):
    @trial(f"a snapshot carries {stack.name} to a fresh container, {who}", core=core)
    def runs(session, images):
        carried_over(session, images, stack, options)


for one in STACKS:
    for user, its_options in USERS:
        register(one, user, its_options, core=one.core and not its_options)


def below_root(container):
    """The server is another user's than the agent, groups included."""
    server = next(line["pid"] for line in container.events() if line["event"] in ("workload.start", "snapshot.restored"))
    for pid, uid, groups in ((1, "0", None), (server, "1000", ["1000", "2000"])):
        status = dict(line.split(":", 1) for line in container.execute("cat", f"/proc/{pid}/status").stdout.splitlines())
        check(status["Uid"].split() == 4 * [uid], f"{pid} runs as {status['Uid']}")
        check(groups is None or status["Groups"].split() == groups, f"{pid} has groups {status['Groups']}")


@trial("a snapshot of a server that runs as another user than the agent is restored for that user", core=True)
def another_user(session, images):
    stack = STACKS[0]
    groups = os.path.join(session.folder.name, "group")
    users = os.path.join(session.folder.name, "passwd")
    for path, text in ((users, "root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n"),
                       (groups, "root:x:0:\nweb:x:1000:\nmore:x:2000:web\n")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)
    stack = replace(stack, options=["--user=web"], ended=None, status=143)
    options = [*RIGHTS, volume(session), f"--volume={users}:/etc/passwd:ro", f"--volume={groups}:/etc/group:ro"]
    for origin in ("cold", "restore"):
        with start(session, images, stack, options) as container:
            container.wait_ready()
            expect_origin(container, origin)
            container.wait_for_event("snapshot.done")
            below_root(container)
            ask(container, stack)
            container.stop()
            container.exit_code()


# ---- snapshot create ----


def create(session, images, stack, options, code):
    with start(session, images, replace(stack, options=["--snapshot=create", *stack.options]), options) as container:
        container.expect_exit(code)
        return container.wait_for_event("agent.exit")["reason"]


# Slow enough to start that a restore is worth it, whatever else this machine does.
SLOW = Stack("a server that starts slowly", "python-alone",
             ["sh", "-c", "sleep 3; exec python3 plain.py"])


@trial("snapshot create makes a snapshot, proves it and ends with 0, and the next container restores it", core=True)
def create_once(session, images):
    options = [*RIGHTS, volume(session)]
    check("is made and tried" in create(session, images, SLOW, options, 0), "it does not say what it has done")
    check("there is a proven snapshot" in create(session, images, SLOW, options, 0), "it was made twice")
    with start(session, images, SLOW, options) as container:
        container.wait_ready()
        expect_origin(container, "restore")
        check(ask(container, SLOW)["count"] == WARMUP + 1, "it is not the server of the snapshot")
        listed = container.execute("/modal-agent", "snapshot", "list", "--snapshot-dir=/snapshots").stdout
        check("proven" in listed, f"the verdict is not noted: {listed}")


@trial("snapshot create ends with 122 where it cannot be: without rights, or without a server that starts")
def create_never(session, images):
    with start(session, images, replace(SLOW, options=["--snapshot=create"]),
               ["--cap-drop=all", volume(session)]) as container:
        container.expect_exit(122)
        check("--cap-add=CHECKPOINT_RESTORE" in container.output(), "it does not say what is missing")
    create(session, images, replace(SLOW, command=["true"]), [*RIGHTS, volume(session)], 122)


@trial("a snapshot that a step of the image's build has made is restored in its containers", core=True)
def create_in_build(session, images):
    image = session.build("created", os.path.join(HERE, "stacks", "created"),
                          arguments={"BASE": images.stack(SLOW.image), "CRIU": images.criu_image()},
                          options=RIGHTS, network="none")
    with session.start(image, options=["--network=none", *RIGHTS]) as container:
        container.wait_ready()
        expect_origin(container, "restore")
        ask(container, SLOW)


# ---- memory that comes as it is touched ----


HEAP = next(stack for stack in STACKS if stack.command[-1] == "1024")
LAZY_RIGHTS = [*RIGHTS, "--cap-add=SYS_PTRACE"]
# Who fills the memory of a restored tree has its pid before who only holds the descriptors beside it.
PAGE_SERVER = ("$(for p in /proc/[0-9]*; do grep -aq ^modal-agent-pages $p/cmdline && echo ${p#/proc/}; done"
               " | sort -n | head -n 1)")


def dumped_heap(session, images, options):
    """Cold, in a first container; what takes the place of the second and all others."""
    with start(session, images, HEAP, options) as container:
        container.wait_ready()
        container.wait_for_event("snapshot.done")
        stop_in_order(container, HEAP)


def register_lazy(who, options):
    @trial(f"a heap of 1 GiB comes back as it is touched, whole and for children, too, {who}")
    def comes_lazily(session, images):
        options_here = [*LAZY_RIGHTS, volume(session), *options]
        dumped_heap(session, images, options_here)
        with start(session, images, HEAP, options_here) as container:
            container.wait_ready()
            ask(container, HEAP, asking("/forked"))
            ask(container, HEAP, asking("/all"))
            container.wait_for_event("snapshot.pages")
            ask(container, HEAP, asking("/all"))
            seen = expect_origin(container, "restore")
            check(seen["pages"] == "lazy" and seen["pages_in_ms"] is not None, f"status says {seen}")
            stop_in_order(container, HEAP)


for user, its_options in USERS:
    register_lazy(user, its_options)


@trial("a page server that dies before the restored tree serves makes room for a cold start")
def page_server_dies_early(session, images):
    options = [*LAZY_RIGHTS, volume(session)]
    dumped_heap(session, images, options)
    # The second time it goes without.
    for origin, pages in [("cold", None), ("restore", "eager")]:
        # The hook does not return before the agent has noticed.
        hook = f'p={PAGE_SERVER}; [ -z "$p" ] || {{ kill -KILL $p; while kill -0 $p; do sleep 0.01; done; }}'
        stack = replace(HEAP, options=[f"--on-restore={hook}"])
        with start(session, images, stack, options) as container:
            container.wait_ready()
            ask(container, stack, asking("/all"))
            seen = expect_origin(container, origin)
            check(seen.get("pages") == pages, f"status says {seen}")
            stop_in_order(container, stack)


@trial("a page server that dies while the restored tree serves makes room, too, and nobody reads what has not come")
def page_server_dies_late(session, images):
    options = [*LAZY_RIGHTS, volume(session)]
    dumped_heap(session, images, options)
    stack = replace(HEAP, options=[f"--on-restore=p={PAGE_SERVER}; [ -z \"$p\" ] || kill -STOP $p"])
    with start(session, images, stack, options) as container:
        container.wait_ready()
        seen = expect_origin(container, "restore")
        check(seen["pages"] == "lazy" and seen["pages_in_ms"] is None, f"status says {seen}")
        answers = []
        asker = threading.Thread(target=lambda: answers.append(
            container.execute(*asking("/all"), may_fail=True).stdout))
        asker.start()
        container.execute("bash", "-c", f"kill -KILL {PAGE_SERVER}")
        container.wait_for_event("snapshot.memory_lost")
        asker.join()
        check("damaged" not in answers[0], f"somebody was answered: {answers[0]}")
        container.wait_ready(times=2)
        ask(container, stack, asking("/all"))
        expect_origin(container, "cold")
        stop_in_order(container, stack)


def starts_cold(session, images, options, event, named):
    """Twice the same, and the second container has nothing from the first."""
    stack = STACKS[0]
    options = [volume(session), *options]
    for _ in range(2):
        with start(session, images, stack, options) as container:
            container.wait_ready()
            ask(container, stack)
            seen = expect_origin(container, "cold")
            check(named in seen["note"], f"status says {seen}")
            said = [line for line in container.events() if line["level"] == "warn"]
            check(len(said) == 1 and said[0]["event"] == event, f"it warns: {said}")
            check(named in said[0]["message"], f"it says nothing of {named}: {said}")
            stop_in_order(container, stack)


@trial("without the rights that a snapshot needs a server starts cold, and one line says what is missing")
def no_rights(session, images):
    starts_cold(session, images, ["--cap-drop=all"], "snapshot.off", "CAP_CHECKPOINT_RESTORE")


@trial("a user without rights starts cold, and one line says what is missing")
def no_rights_user(session, images):
    starts_cold(session, images, ["--user=1000:1000"], "snapshot.off", "CAP_CHECKPOINT_RESTORE")


@trial("under the runtime's own seccomp profile a server starts cold, and one line says so")
def seccomp(session, images):
    starts_cold(session, images, RIGHTS[:2], "snapshot.failed", "seccomp")
