"""Python's own http.server. With an argument it holds so many MiB, none of them zero, and answers from them."""

import json
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


def answer():
    if not HEAP:
        return 6 * 7
    number = random.randrange(MIB)
    block = HEAP[number]
    return "whole" if block[:8] == number.to_bytes(8, "big") and block[8:] == BLOCK else f"block {number} is damaged"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(STATE.answer(answer())).encode()
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
