#!/usr/bin/env python3
"""Container trials: the example images, built and run by podman, with the agent as process 1.

    tests/container/run.py --agent build/release/modal-agent          the core trials: a Python server's life
    tests/container/run.py --agent build/release/modal-agent --all    every trial, packaging/Containerfile included

Each trial prints one line; the last line counts them. Containers and images are removed at the end.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True  # the tree stays as it is

import damage  # noqa: F401 (its trials are among those below)
import hazards  # noqa: F401 (as are these)
import stacks  # noqa: F401 (and these)
from containers import PATIENCE, TREE, Failure, Session, check, processes_in, run
from trials import TRIALS, trial

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLES = os.path.join(TREE, "packaging", "examples")
# What stacks are built of: their folder in tests/container/stacks, and the packages of their base.
STACKS = {
    "python-alone": ("python", ["python3"]),
    "python": ("python", ["python3", "python3-fastapi", "python3-uvicorn", "python3-uvloop", "python3-flask",
                          "gunicorn", "python3-django", "python3-pandas", "python3-sklearn"]),
    "node": ("node", ["nodejs", "node-express"]),
    "php": ("php", ["php8.2-fpm", "php-apcu", "nginx-light"]),
    "java": ("java", ["openjdk-17-jdk-headless"]),
}


class Images:
    """The images, each built when the first trial asks for it."""

    def __init__(self, session, binary):
        self.session = session
        self.binary = binary
        self.made = {}
        self.making = threading.RLock()

    def _once(self, name, make):
        with self.making:
            if name not in self.made:
                self.made[name] = make()
            return self.made[name]

    def agent(self):
        return self._once("agent", lambda: self.session.agent_image(self.binary))

    def _example(self, name, folder, *packages):
        return self._once(name, lambda: self.session.build(
            name, os.path.join(EXAMPLES, folder),
            arguments={"AGENT": self.agent(), "BASE": self.session.base_image(*packages)}))

    def python(self):
        return self._example("python", "python-server", "python3")

    def hooks(self):
        return self._example("hooks", "hooks", "python3")

    def static(self):
        return self._example("static", "static-server", "g++")

    def counter(self):
        return self._once("counter", lambda: self.session.program_image("counter", os.path.join(HERE, "counter.c")))

    def counter_stack(self):
        return self._once("counter-stack", lambda: self.session.program_image(
            "counter", os.path.join(HERE, "counter.c"), below=self.agent()))

    def static_stack(self):
        return self._once("static-stack", lambda: self.session.static_image(
            "static-stack", os.path.join(HERE, "stacks", "static", "server.cc"), self.agent()))

    def stack(self, name):
        if name == "static":
            return self.static_stack()
        folder, packages = STACKS[name]
        return self._once(f"stack-{name}", lambda: self.session.build(
            f"stack-{name}", os.path.join(HERE, "stacks", folder),
            arguments={"AGENT": self.agent(), "BASE": self.session.base_image(*packages)}))

    def criu(self):
        """The folder of the CRIU bundle, which stays in build/ for the next run."""
        return self._once("criu", lambda: make_bundle(os.path.join(TREE, "build", "criu")))


def make_bundle(folder):
    run([os.path.join(TREE, "packaging", "criu", "bundle.sh"), folder], timeout=300)
    return folder


def free_port():
    """A port that nobody has now; below the range from which the kernel gives out ports of its own accord."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
                return port
            except OSError:
                continue


def get(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


# A request from inside, for containers that have no network but their own.
GET_INSIDE = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000{}', timeout=30).read().decode())"


def get_inside(container, path="/"):
    return container.execute("python3", "-c", GET_INSIDE.format(path)).stdout


def expect_nothing_left(container, namespace):
    state = container.inspect()["State"]
    check(state["Status"] == "exited" and state["Pid"] == 0, f"podman still sees it: {state['Status']}")
    left = processes_in(namespace)
    check(not left, f"processes left behind: {left}")


# ---- a server's life ----


@trial("a Python server starts, is ready, answers, and podman stop ends it in order with nothing left", core=True)
def python_life(session, images):
    port, admin = free_port(), free_port()
    with session.start(images.python(), f"--port={port}", f"--admin=127.0.0.1:{admin}", "--",
                       "python3", "/app/server.py", options=["--network=host"]) as container:
        container.wait_ready()
        status, body = get(port)
        check(status == 200 and json.loads(body)["port"] == str(port), f"the server answered {status}: {body}")
        check(get(admin, "/readyz")[0] == 200, "/readyz does not say ready")
        container.execute("/modal-agent", "health")
        session.podman("healthcheck", "run", container.name)
        seen = json.loads(container.execute("/modal-agent", "status", "--json").stdout)
        check(seen["phase"] == "Serving", f"status says {seen['phase']}")

        namespace = container.process_namespace()
        container.stop()
        container.expect_exit(0)
        check(container.has_line("server ended in order"), "the server was not given its time")
        container.wait_for_event("lifecycle.phase", to="Stopped")
        expect_nothing_left(container, namespace)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("0.0.0.0", port))


@trial("the image's own entry point and command need no option at all", core=True)
def plain_run(session, images):
    with session.start(images.python()) as container:
        container.wait_ready()
        container.execute("/modal-agent", "health")
        check("world" in get_inside(container), "no answer on port 8000")
        first = container.execute("readlink", "/proc/1/exe").stdout.strip()
        check(first == "/modal-agent", f"process 1 is {first}")
        container.stop()
        container.expect_exit(0)


@trial("a request in flight at podman stop is answered")
def drain(session, images):
    port = free_port()
    answers = []
    with session.start(images.python(), f"--port={port}", "--admin=off", "--", "python3", "/app/server.py",
                       options=["--network=host"]) as container:
        container.wait_ready()
        client = threading.Thread(target=lambda: answers.append(get(port, "/slow?seconds=1.5")))
        client.start()
        container.wait_for_line("slow request begins")
        container.stop()
        client.join(PATIENCE)
        check(answers and answers[0][0] == 200, f"the slow request got {answers}")
        container.wait_for_event("lifecycle.phase", to="Draining")
        container.expect_exit(0)


@trial("a static server on an empty, read-only root is served, healthy and stopped")
def static_root(session, images):
    with session.start(images.static(), options=["--network=none", "--read-only"]) as container:
        container.wait_ready()
        container.execute("/modal-agent", "health")
        namespace = container.process_namespace()
        container.stop()
        container.expect_exit(0)
        check(container.has_line("server ended in order"), "the server was not given its time")
        expect_nothing_left(container, namespace)


@trial("without one writable place a server is served all the same, and its health can be asked for")
def nothing_writable(session, images):
    with session.start(images.static(), options=["--network=none", "--read-only", "--read-only-tmpfs=false"]) as container:
        container.wait_ready()
        container.execute("/modal-agent", "health")
        container.stop()
        container.expect_exit(0)
        check(container.has_line("server ended in order"), "the server was not given its time")


@trial("a read-only root with its usual temporary folders works")
def read_only(session, images):
    with session.start(images.python(), options=["--network=none", "--read-only"]) as container:
        container.wait_ready()
        container.execute("/modal-agent", "health")
        container.execute("/modal-agent", "status")
        container.stop()
        container.expect_exit(0)


@trial("a user who is not root works, all capabilities dropped")
def not_root(session, images):
    with session.start(images.python(), options=["--network=none", "--user=1000:1000", "--cap-drop=all",
                                                 "--security-opt=no-new-privileges"]) as container:
        container.wait_ready()
        container.execute("/modal-agent", "health")
        container.execute("/modal-agent", "status")
        check("world" in get_inside(container), "no answer on port 8000")
        container.stop()
        container.expect_exit(0)


@trial("with a terminal the log is made for people, and podman stop works as without")
def terminal(session, images):
    with session.start(images.python(), options=["--network=none", "--tty"]) as container:
        container.wait_for_line("Serving")
        check(not container.events(), "JSON lines on a terminal")
        container.stop()
        container.expect_exit(0)


@trial("orphans of orphans are reaped by process 1")
def orphans(session, images):
    script = (
        "import os, time\n"
        "for _ in range(200):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.fork()\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "def zombies():\n"
        "    found = 0\n"
        "    for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "        try:\n"
        "            with open(f'/proc/{pid}/stat') as stat:\n"
        "                found += stat.read().rsplit(')', 1)[1].split()[0] == 'Z'\n"
        "        except OSError:\n"
        "            pass\n"
        "    return found\n"
        f"end = time.monotonic() + {PATIENCE // 2}\n"
        "while zombies():\n"
        "    if time.monotonic() > end: raise SystemExit(f'{zombies()} zombies')\n"
        "    time.sleep(0.01)\n"
    )
    with session.start(images.python()) as container:
        container.wait_ready()
        container.execute("python3", "-c", script)
        container.stop()
        container.expect_exit(0)


# ---- signals ----


@trial("podman kill --signal=USR1 reaches the server, which goes on")
def forwarded_signal(session, images):
    with session.start(images.python()) as container:
        container.wait_ready()
        container.kill("USR1")
        container.wait_for_line("SIGUSR1 received", stream="stdout")
        check("world" in get_inside(container), "the server is gone")
        container.stop()
        container.expect_exit(0)


@trial("SIGINT stops in order, as SIGTERM does")
def interrupt(session, images):
    with session.start(images.python()) as container:
        container.wait_ready()
        container.kill("INT")
        container.expect_exit(0)
        check(container.has_line("server ended in order"), "the server was not given its time")


@trial("a server that ignores SIGTERM is killed after --stop-timeout")
def deaf_server(session, images):
    script = "import signal, http.server as h; signal.signal(signal.SIGTERM, signal.SIG_IGN); h.test(port=8000)"
    with session.start(images.python(), "--stop-timeout=300ms", "--", "python3", "-c", script) as container:
        container.wait_ready()
        namespace = container.process_namespace()
        container.stop()
        container.expect_exit(128 + signal.SIGKILL)
        container.wait_for_event("lifecycle.phase", to="Stopped")
        expect_nothing_left(container, namespace)


@trial("a third SIGTERM kills at once")
def third_term(session, images):
    script = ("import signal, http.server as h\n"
              "signal.signal(signal.SIGTERM, lambda *_: print('SIGTERM received', flush=True))\n"
              "h.test(port=8000)")
    with session.start(images.python(), "--stop-timeout=10m", "--", "python3", "-c", script) as container:
        container.wait_ready()
        container.kill("TERM")
        container.wait_for_event("lifecycle.phase", to="Stopping")
        container.wait_for_line("SIGTERM received", stream="stdout")
        container.kill("TERM")
        container.kill("TERM")
        container.expect_exit(128 + signal.SIGKILL)


@trial("podman kill --signal=KILL leaves nothing behind")
def killed(session, images):
    with session.start(images.python()) as container:
        container.wait_ready()
        namespace = container.process_namespace()
        container.kill("KILL")
        container.expect_exit(137)
        expect_nothing_left(container, namespace)


# ---- exit codes, as podman sees them ----

EXITS = [
    ("a command that succeeds", 0, ["--", "sh", "-c", "exit 0"]),
    ("the command's own status", 7, ["--", "sh", "-c", "exit 7"]),
    ("a command killed by a signal", 137, ["--", "sh", "-c", "kill -KILL $$"]),
    ("a startup hook that fails", 120, ["--on-enter", "exit 3", "--", "python3", "/app/server.py"]),
    ("a port that is never opened", 124, ["--startup-timeout=300ms", "--", "sleep", "600"]),
    ("an option that does not exist", 125, ["--no-such-option", "--", "true"]),
    ("a port out of range", 125, ["--port=99999", "--", "true"]),
    ("a command that may not be executed", 126, ["--", "/etc/passwd"]),
    ("a command that is not there", 127, ["--", "no-such-command"]),
]


def register_exit(what, code, command):
    @trial(f"{what}: exit code {code}", core=code in (7, 127))
    def exits(session, images):
        with session.start(images.python(), *command) as container:
            container.expect_exit(code)


for row in EXITS:
    register_exit(*row)


@trial("a server that stops listening: exit code 121")
def unhealthy(session, images):
    script = ("import socket, threading\n"
              "listener = socket.create_server(('0.0.0.0', 8000))\n"
              "listener.accept()\n"
              "listener.close()\n"
              "threading.Event().wait()")
    with session.start(images.python(), "--health-interval=100ms", "--health-threshold=2", "--exit-grace-period=100ms",
                       "--", "python3", "-c", script) as container:
        container.wait_ready()
        container.execute("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000))")
        container.expect_exit(121)


@trial("a server on 127.0.0.1 only: exit code 124, and the log names its address")
def wrong_address(session, images):
    with session.start(images.python(), "--startup-timeout=2s", "--", "python3", "-m", "http.server",
                       "--bind=127.0.0.1", "8000") as container:
        container.expect_exit(124)
        check(container.has_line("127.0.0.1:8000"), "the log does not name 127.0.0.1:8000")


# ---- hooks ----


@trial("startup hooks run in order before the server, exit handlers when it stops")
def hooks(session, images):
    with session.start(images.hooks()) as container:
        container.wait_ready()
        text = get_inside(container, "/greeting.txt")
        check("prepared before" in text and "command line says" in text, f"the hooks did not do their work: {text}")
        container.stop()
        # http.server knows no SIGTERM: the signal ends it.
        container.expect_exit(128 + signal.SIGTERM)
        check(container.has_line("goodbye from hooks.d"), "the handler in hooks.d/exit did not run")
        check(container.has_line("served until"), "the --on-exit handler did not run")


@trial("with nothing but a hook that starts it, a server is waited for and served")
def server_from_hook(session, images):
    with session.start(images.python(), "--on-enter", "python3 /app/server.py &", "--stop-timeout=10s") as container:
        container.wait_ready()
        check("world" in get_inside(container), "no answer on port 8000")
        container.stop()
        container.exit_code()
        check(container.has_line("server ended in order"), "the server was not given its time")


# ---- the CRIU bundle ----

# Without any privilege of process 1 but these two; a seccomp profile would prevent the dump.
CRIU_PRIVILEGES = ["--cap-drop=all", "--cap-add=CHECKPOINT_RESTORE", "--cap-add=SETPCAP",
                   "--security-opt=seccomp=unconfined"]
CRIU_FLAGS = ["--images-dir=/images", "--unprivileged", "--manage-cgroups=ignore", "--tcp-close", "--ghost-limit=64M",
              "--file-locks", "-v4"]


def dump_and_restore(session, images, *options):
    """On an empty, read-only root: what the server's memory holds goes from one container to the next."""
    folder = os.path.join(session.folder.name, f"images-{len(session.started)}")
    os.makedirs(folder)
    # For whatever user the container has.
    os.chmod(session.folder.name, 0o755)
    os.chmod(folder, 0o777)
    options = ["--network=none", "--read-only", "--read-only-tmpfs=false", *CRIU_PRIVILEGES,
               f"--volume={images.criu()}:/opt/criu:ro", f"--volume={folder}:/images", *options]
    with session.start(images.counter(), "serve", options=options) as container:
        pid = container.wait_for_line(r"^listening").split()[1]
        for count in (1, 2):
            seen = container.execute("/counter", "ask").stdout
            check(seen == f"count {count} pid {pid} wrong 0\n", f"before the dump the server says: {seen}")
        dumped = container.execute("/opt/criu/criu", "dump", f"--tree={pid}", "--log-file=dump.log", *CRIU_FLAGS,
                                   may_fail=True)
        check(dumped.returncode == 0, f"the dump ended with {dumped.returncode}\n{errors_in(folder, 'dump.log')}")
        check(container.execute("/counter", "ask", may_fail=True).returncode == 1, "the dumped server is still there")

    with session.start(images.counter(), "/opt/criu/criu", "restore", "--restore-detached", "--log-file=restore.log",
                       *CRIU_FLAGS, options=options) as container:
        ended = container.wait_for_line(r"^ended")
        check(ended == "ended 0", f"the restore {ended}\n{errors_in(folder, 'restore.log')}")
        for count in (3, 4):
            seen = container.execute("/counter", "ask").stdout
            check(seen == f"count {count} pid {pid} wrong 0\n", f"after the restore the server says: {seen}")


def errors_in(folder, log):
    try:
        with open(os.path.join(folder, log), encoding="utf-8", errors="replace") as file:
            return "".join(line for line in file if "Error" in line or "Warn" in line)
    except FileNotFoundError:
        return f"there is no {log}"


@trial("the CRIU bundle dumps a server in one container and restores it in a fresh one", core=True)
def criu_bundle(session, images):
    dump_and_restore(session, images)


@trial("the CRIU bundle does so for a user who is not root, too")
def criu_bundle_user(session, images):
    dump_and_restore(session, images, "--user=1000:1000", "--security-opt=no-new-privileges")


def findings_of_check(session, images, *options):
    """What `modal-agent check` says, by name, and who is left of its trial."""
    with session.start(images.static(), "check", "--json",
                       options=["--network=none", f"--volume={images.criu()}:/opt/modal-agent/criu:ro",
                                *options]) as container:
        code = container.exit_code()
        check(code == 0, f"check ended with {code}")
        seen = json.loads("".join(line for stream, line in container.lines if stream == "stdout"))
        return {finding["name"]: finding for finding in seen["findings"]}


@trial("check shows by a trial that CRIU can dump and restore, as root and as a user", core=True)
def check_criu(session, images):
    for user in ([], ["--user=1000:1000", "--security-opt=no-new-privileges"]):
        seen = findings_of_check(session, images, *CRIU_PRIVILEGES, *user)
        check(seen["criu"]["verdict"] == "ok" and "/opt/modal-agent/criu/criu" in seen["criu"]["value"],
              f"criu: {seen['criu']}")
        check(seen["snapshots"]["verdict"] == "ok", f"snapshots: {seen['snapshots']}")


@trial("check shows that it cannot where a capability is missing, or a filter forbids it", core=True)
def check_criu_cannot(session, images):
    poor = [option for option in CRIU_PRIVILEGES if "CHECKPOINT_RESTORE" not in option]
    seen = findings_of_check(session, images, *poor)["snapshots"]
    check(seen["verdict"] == "no" and "CAP_CHECKPOINT_RESTORE" in seen["meaning"], f"without it: {seen}")
    filtered = [option for option in CRIU_PRIVILEGES if "seccomp" not in option]
    seen = findings_of_check(session, images, *filtered)["snapshots"]
    check(seen["verdict"] == "no" and "seccomp=unconfined" in seen["meaning"], f"with a filter: {seen}")


# Writes what `setcap cap_checkpoint_restore,cap_setpcap+ep FILE` writes.
SETCAP = """\
import os, struct, sys
low, high = 1 << 8, 1 << (40 - 32)
os.setxattr(sys.argv[1], "security.capability", struct.pack("<5I", 0x02000001, low, 0, high, 0))
"""


@trial("capabilities given to the CRIU bundle's file are criu's, for a user who has none")
def criu_bundle_setcap(session, images):
    bundle = os.path.join(session.folder.name, "criu-setcap")
    shutil.copytree(images.criu(), bundle)
    os.chmod(session.folder.name, 0o755)
    command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all",
               "/opt/criu/criu", "check", "--unprivileged"]
    options = ["--network=none", *CRIU_PRIVILEGES, "--cap-add=SETUID", "--cap-add=SETGID",
               f"--volume={bundle}:/opt/criu:ro"]
    lacks = "CAP_CHECKPOINT_RESTORE"
    with session.start(session.base_image(), *command, options=options) as container:
        container.exit_code()
        check(container.has_line(lacks), "criu does not miss its capability")
    run([*([] if os.geteuid() == 0 else ["podman", "unshare"]), sys.executable, "-c", SETCAP,
         os.path.join(bundle, "criu")])
    with session.start(session.base_image(), *command, options=options) as container:
        container.exit_code()
        check(not container.has_line(lacks) and container.has_line("look"), "criu has not got the file's capabilities")


@trial("made twice the CRIU bundle is the same one; a changed file has it made anew; another's folder is left alone")
def criu_bundle_again(session, images):
    manifest = os.path.join(images.criu(), "MANIFEST")
    before = os.stat(manifest)
    make_bundle(images.criu())
    check(os.stat(manifest).st_ino == before.st_ino, "a whole bundle was made once more")
    with open(os.path.join(images.criu(), "lib", "passcred.so"), "ab") as file:
        file.write(b"x")
    make_bundle(images.criu())
    again = os.stat(manifest)
    check(again.st_ino != before.st_ino, "a damaged bundle was left as it was")
    make_bundle(images.criu())
    check(os.stat(manifest).st_ino == again.st_ino, "what was made anew is not whole")

    other = os.path.join(session.folder.name, "other")
    os.makedirs(os.path.join(other, "precious"))
    refused = run([os.path.join(TREE, "packaging", "criu", "bundle.sh"), other], may_fail=True)
    check(refused.returncode == 1 and "no CRIU bundle" in refused.stderr, f"the folder was taken: {refused.stderr}")
    check(os.path.isdir(os.path.join(other, "precious")), "a folder that is not ours was emptied")


# ---- the image of the agent ----


@trial("packaging/Containerfile builds an image that holds the agent and nothing else")
def containerfile(session, _):
    image = session.build("from-source", TREE, containerfile=os.path.join(TREE, "packaging", "Containerfile"),
                          arguments={"BASE": session.base_image()}, timeout=1500)
    with session.start(image, "version") as container:
        container.expect_exit(0)
        check(container.has_line(r"\d+\.\d+"), "no version was printed")
        archive = os.path.join(session.folder.name, "root.tar")
        session.podman("export", f"--output={archive}", container.name)
    listed = run(["tar", "--list", "--verbose", f"--file={archive}"]).stdout.splitlines()
    # Empty files and folders are podman's mount points.
    files = [(line.split()[5], int(line.split()[2])) for line in listed if line.startswith("-")]
    files = [(name, size) for name, size in files if size > 0]
    check([name for name, _ in files] == ["modal-agent"], f"the image holds {files}")
    check(files[0][1] <= 8 << 20, f"the binary has {files[0][1]} bytes, more than 8 MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", required=True, help="the static binary to put into the images")
    parser.add_argument("--all", action="store_true", help="every trial, not only the core ones")
    parser.add_argument("--only", help="trials whose name holds this text")
    options = parser.parse_args()
    if not os.access(options.agent, os.X_OK):
        parser.error(f"{options.agent} is no program; build it first: cmake --build --preset release")

    # An end from outside must remove the containers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    passed = failed = 0
    session = Session()
    try:
        images = Images(session, options.agent)
        for name, core, function in TRIALS:
            if options.only is not None:
                if options.only not in name:
                    continue
            elif not (core or options.all):
                continue
            begin = time.monotonic()
            problem = attempt(session, images, function)
            passed, failed = passed + (problem is None), failed + (problem is not None)
            print(f"{'pass' if problem is None else 'FAIL'}  {time.monotonic() - begin:6.1f} s  {name}", flush=True)
            if problem is not None:
                print("  " + problem.replace("\n", "\n  "), flush=True)
    finally:
        session.close()
    print(f"{passed} passed, {failed} failed")
    return 0 if passed > 0 and failed == 0 else 1


def attempt(session, images, function):
    """None, or what went wrong together with everything that the trial's containers said."""
    first = len(session.started)
    try:
        function(session, images)
        return None
    except Failure as failure:
        return f"{failure}\n{said_by(session.started[first:])}"
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}\n{said_by(session.started[first:])}"


def said_by(containers):
    return "\n".join(container.output() for container in containers if container.lines)


if __name__ == "__main__":
    sys.exit(main())
