"""A small HTTP server as people write them: it binds $PORT on every address and ends in order on SIGTERM.

GET /                 says hello, with what the agent told it through the environment
GET /slow?seconds=2   answers after a while: stop the container meanwhile and it is answered all the same
"""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/slow":
            print("slow request begins", flush=True)
            time.sleep(float(parse_qs(url.query).get("seconds", ["1"])[0]))
        elif url.path != "/":
            self.send_error(404)
            return
        body = json.dumps({"hello": "world", "port": os.environ.get("PORT"), "pid": os.getpid()}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Handler)
    server.daemon_threads = False  # server_close() then waits for the requests that have begun

    def stop(*_):
        # shutdown() waits for serve_forever(), which this handler has interrupted: another thread must call it.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, lambda *_: print("SIGUSR1 received", flush=True))
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()
    server.server_close()
    print("server ended in order", flush=True)


if __name__ == "__main__":
    main()
