"""Python's own http.server. With an argument it holds so many MiB, none of them zero, and answers from them: from one,
or (GET /all) from every one, or (GET /forked) from every one as a child sees it.
"""

import json
import os
import random
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from state import State

STATE = State()
MIB = int(sys.argv[1]) if len(sys.argv) > 1 else 0
# One block of random bytes, repeated with its number before it: no page is like another.
BLOCK = random.Random(1).randbytes((1 << 20) - 8)
HEAP = [i.to_bytes(8, "big") + BLOCK for i in range(MIB)]


def look_at(numbers):
    for number in numbers:
        block = HEAP[number]
        if block[:8] != number.to_bytes(8, "big") or block[8:] != BLOCK:
            return f"block {number} is damaged"
    return "whole"


def look_in_child():
    child = os.fork()
    if child == 0:
        os._exit(look_at(range(MIB)) != "whole")
    return "whole" if os.waitpid(child, 0)[1] == 0 else "damaged in a child"


def answer(path):
    if not HEAP:
        return 6 * 7
    if path == "/forked":
        return look_in_child()
    return look_at(range(MIB) if path == "/all" else [random.randrange(MIB)])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(STATE.answer(answer(self.path))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        print(f"asked for {self.path}", flush=True)


server = ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
print("ended in order", flush=True)
