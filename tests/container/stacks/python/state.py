"""What every Python stack here keeps in memory: who it is, and how often it was asked."""

import os
import threading


class State:
    """Made once a process: the token is another one after every cold start, and the same after a restore."""

    def __init__(self):
        self.token = os.urandom(8).hex()
        self.count = 0
        self.lock = threading.Lock()

    def answer(self, value):
        with self.lock:
            self.count += 1
            return {"token": self.token, "count": self.count, "pid": os.getpid(), "answer": value}
