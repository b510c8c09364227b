"""A server of which everything may differ in the next container: its code, its environment, its host, a file that
a hook has brought. GET / tells what it has of each in memory; /reseed is for a hook after a restore.

With `daemon` it goes into the background first, with nothing of its own for standard output and error.
"""

import json
import os
import random
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

ANSWER = 1

if "daemon" in sys.argv:
    nothing = os.open("/dev/null", os.O_RDWR)
    if os.fork():
        os._exit(0)
    os.setsid()
    for descriptor in range(3):
        os.dup2(nothing, descriptor)


def read_model():
    try:
        with open("/var/model", encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


class Memory:
    count = 0
    environment = {"COLOUR": os.environ.get("COLOUR")}
    host = socket.gethostname()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/reseed":
            random.seed(os.urandom(16))
            Memory.host = socket.gethostname()
        else:
            Memory.count += 1
        body = json.dumps({"answer": ANSWER, "count": Memory.count, "colour": Memory.environment["COLOUR"],
                           "host": Memory.host, "random": random.getrandbits(64), "model": read_model(),
                           "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        print(f"asked for {self.path}", flush=True)


time.sleep(0.5)  # as one that has much to read: a restore is worth it
server = HTTPServer(("0.0.0.0", 8000), Handler)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.serve_forever()
