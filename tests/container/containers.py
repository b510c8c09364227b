"""Containers for the trials: a thin layer over the podman command.

A Session owns everything that a run makes: images under a name of its own, containers under its label. close()
removes all of it, whatever happened. Only the base images of packaging/base-image.sh stay, as a cache.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 60  # seconds for anything that should take one


class Failure(Exception):
    """A trial did not go as it should; the text says what was seen."""


def check(condition, text):
    if not condition:
        raise Failure(text)


# What podman is told besides its options. No systemd and no delegated cgroup is asked for, and limits are inherited
# rather than raised, so that this works as root on a bare machine, inside of another container, and as a user.
CONFIGURATION = """\
[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


def run(arguments, timeout=PATIENCE, may_fail=False, **keywords):
    try:
        result = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=timeout, text=True, errors="replace", **keywords)
    except subprocess.TimeoutExpired as expired:
        raise Failure(f"took longer than {timeout} s: {' '.join(arguments)}") from expired
    if result.returncode != 0 and not may_fail:
        raise Failure(f"status {result.returncode}: {' '.join(arguments)}\n{result.stdout}{result.stderr}")
    return result


class Session:
    def __init__(self):
        self.id = f"{os.getpid()}-{os.urandom(3).hex()}"
        self.label = f"modal-agent.test={self.id}"
        self.folder = tempfile.TemporaryDirectory(prefix="modal-agent-containers-")
        configuration = os.path.join(self.folder.name, "containers.conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION)
        self.environment = {**os.environ, "CONTAINERS_CONF": configuration,
                            "TMPDIR": self.folder.name}
        self.images = []
        self.started = []
        self.numbers = itertools.count(1)

    def podman(self, *arguments, **keywords):
        return run(["podman", *arguments], env=self.environment, **keywords)

    def base_image(self, *packages):
        """The name of a Debian image with these packages; made on first use, then found again by its content."""
        return run([os.path.join(TREE, "packaging", "base-image.sh"), *packages], timeout=900,
                   env=self.environment).stdout.strip()

    def build(self, name, context, containerfile=None, arguments=None, timeout=300, options=(), network="host"):
        image = f"localhost/modal-agent-test/{name}:{self.id}"
        options = [*options, *(f"--build-arg={key}={value}" for key, value in (arguments or {}).items())]
        if containerfile is not None:
            options.append(f"--file={containerfile}")
        before = self._build_containers()
        self.images.append(image)
        try:
            # No layers: what a build leaves behind is the image and nothing else.
            self.podman("build", "--quiet", "--format=docker", "--layers=false", "--force-rm", f"--network={network}",
                        f"--label={self.label}", *options, f"--tag={image}", context, timeout=timeout)
        except BaseException:
            self._abandon_build(before)
            raise
        return image

    def _build_containers(self):
        listed = self.podman("ps", "--all", "--external", "--format=json", may_fail=True).stdout
        return {one["Id"] for one in json.loads(listed or "null") or [] if one.get("Command") == ["buildah"]}

    def _abandon_build(self, before):
        """A podman that is killed leaves its build step running, and the container that it worked in."""
        listed = run(["runc", "list", "--format=json"], may_fail=True).stdout
        for one in json.loads(listed or "null") or []:
            # Build steps have their bundle in the temporary folder, which is ours alone.
            if one["bundle"].startswith(self.folder.name):
                run(["runc", "delete", "--force", one["id"]], may_fail=True)
        left = self._build_containers() - before
        if left:
            self.podman("rm", "--force", *left, may_fail=True)

    def agent_image(self, binary):
        """What packaging/Containerfile ends in, from a binary that is built already."""
        context = os.path.join(self.folder.name, "agent")
        os.makedirs(context)
        shutil.copy(binary, os.path.join(context, "modal-agent"))
        with open(os.path.join(context, "Containerfile"), "w", encoding="utf-8") as file:
            file.write('FROM scratch\nCOPY modal-agent /modal-agent\nENTRYPOINT ["/modal-agent"]\n')
        return self.build("agent", context)

    def folder_image(self, name, folder):
        """One folder, as /NAME, to be copied from."""
        context = os.path.join(self.folder.name, f"{name}-image")
        os.makedirs(context)
        shutil.copytree(folder, os.path.join(context, name))
        with open(os.path.join(context, "Containerfile"), "w", encoding="utf-8") as file:
            file.write(f"FROM scratch\nCOPY {name} /{name}\n")
        return self.build(f"{name}-image", context)

    def program_image(self, name, source, below=None):
        """A C program, compiled here and static, on an otherwise empty root; its entry point is `NAME init`, or the
        agent of the image that it stands below."""
        context = tempfile.mkdtemp(dir=self.folder.name)
        run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread",
             f"-o{os.path.join(context, name)}", source])
        with open(os.path.join(context, "Containerfile"), "w", encoding="utf-8") as file:
            if below is None:
                file.write(f'FROM scratch\nCOPY {name} /{name}\nENTRYPOINT ["/{name}", "init"]\n')
            else:
                file.write(f'FROM {below}\nCOPY {name} /{name}\nENTRYPOINT ["/modal-agent"]\n')
        return self.build(name if below is None else f"{name}-stack", context)

    def static_image(self, name, source, agent):
        """A C++ server, compiled here and static, below the agent on an otherwise empty root."""
        context = os.path.join(self.folder.name, name)
        os.makedirs(context)
        run(["c++", "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread",
             f"-o{os.path.join(context, 'server')}", source])
        with open(os.path.join(context, "Containerfile"), "w", encoding="utf-8") as file:
            file.write(f'FROM {agent}\nCOPY server /server\nENTRYPOINT ["/modal-agent"]\n')
        return self.build(name, context)

    def start(self, image, *command, options=("--network=none",)):
        name = f"modal-agent-test-{self.id}-{next(self.numbers)}"
        container = Container(self, name, image, command, options)
        self.started.append(container)
        return container

    def close(self):
        left = self.podman("ps", "--all", "--quiet", f"--filter=label={self.label}", may_fail=True).stdout.split()
        if left:
            self.podman("rm", "--force", "--time=0", *left, may_fail=True)
        for image in reversed(self.images):
            self.podman("rmi", "--force", image, may_fail=True)
        self.folder.cleanup()


class Container:
    """A container that runs in the foreground of a podman of its own, so that its output arrives as it is written."""

    def __init__(self, session, name, image, command, options):
        self.session = session
        self.name = name
        self.lines = []  # (stream, line)
        self.held = []
        self.grown = threading.Condition()
        # Health checks run when a trial asks for one; by default podman wants systemd timers for them.
        self.process = subprocess.Popen(
            ["podman", "run", f"--name={name}", f"--label={session.label}", "--health-interval=disable", *options, image,
             *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=session.environment)
        self.readers = [threading.Thread(target=self._read, args=(stream, name), daemon=True)
                        for stream, name in ((self.process.stdout, "stdout"), (self.process.stderr, "stderr"))]
        for reader in self.readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in self.held:
            file.close()
        self.session.podman("rm", "--force", "--time=0", self.name, may_fail=True)
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read(self, stream, name):
        for line in stream:
            with self.grown:
                self.lines.append((name, line.rstrip("\r\n")))
                self.grown.notify_all()
        with self.grown:
            self.grown.notify_all()

    def output(self):
        with self.grown:
            return "\n".join(f"    {stream}: {line}" for stream, line in self.lines)

    def events(self):
        """The agent's log lines, as objects."""
        with self.grown:
            lines = [line for _, line in self.lines]
        found = []
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict) and "event" in value:
                found.append(value)
        return found

    def _wait_until(self, found, what):
        deadline = time.monotonic() + PATIENCE
        while True:
            with self.grown:
                ended = not any(reader.is_alive() for reader in self.readers)
            result = found()
            if result is not None:
                return result
            check(not ended, f"the container ended without {what}")
            check(time.monotonic() < deadline, f"no {what} within {PATIENCE} s")
            with self.grown:
                self.grown.wait(0.5)

    def wait_for_event(self, event, **fields):
        def found():
            for line in self.events():
                if line["event"] == event and all(line.get(key) == value for key, value in fields.items()):
                    return line
            return None
        return self._wait_until(found, f"event {event} {fields or ''}")

    def wait_for_line(self, pattern, stream=None):
        def found():
            with self.grown:
                lines = list(self.lines)
            for name, line in lines:
                if (stream is None or stream == name) and re.search(pattern, line):
                    return line
            return None
        return self._wait_until(found, f"line like '{pattern}'")

    def wait_ready(self, times=1):
        def is_ready():
            phases = [line["to"] for line in self.events() if line["event"] == "lifecycle.phase"]
            return phases.count("Serving") >= times or None
        self._wait_until(is_ready, f"phase Serving, {times} times")

    def has_line(self, pattern):
        with self.grown:
            return any(re.search(pattern, line) for _, line in self.lines)

    def execute(self, *command, **keywords):
        return self.session.podman("exec", self.name, *command, **keywords)

    def inspect(self):
        return json.loads(self.session.podman("inspect", self.name).stdout)[0]

    def stop(self):
        """`podman stop`, with far more patience than is needed: who is killed in the end shows status 137."""
        self.session.podman("stop", f"--time={PATIENCE}", self.name, timeout=2 * PATIENCE)

    def kill(self, signal):
        self.session.podman("kill", f"--signal={signal}", self.name)

    def exit_code(self):
        """Waits for the end, and tells the status that podman tells."""
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired as expired:
            raise Failure(f"the container has not ended within {PATIENCE} s") from expired
        code = int(self.session.podman("wait", self.name).stdout)
        for reader in self.readers:
            reader.join(PATIENCE)
        return code

    def expect_exit(self, code):
        seen = self.exit_code()
        check(seen == code, f"ended with {seen} instead of {code}")

    def process_namespace(self):
        """The PID namespace, as the machine outside names it; held, lest another one gets its name meanwhile."""
        path = f"/proc/{self.inspect()['State']['Pid']}/ns/pid"
        self.held.append(open(path, "rb"))
        return os.readlink(path)


def processes_in(namespace):
    """The processes of a PID namespace, seen from outside of it."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == namespace:
                    found.append(int(name))
            except OSError:
                continue  # gone meanwhile, or another user's
    return found
