// Clients that people use, through the gateway: curl, wrk, git, a WebSocket in Python, a browser.
// Each test is skipped where its tool is missing.
#include <doctest/doctest.h>
#include <signal.h>

#include <string>

#include "agent/base/strings.h"
#include "tests/support/agent_process.h"
#include "tests/support/origin_agent.h"

namespace modal::test {
namespace {

// Runs inside with `u` as the gateway's address; it ends at the first command that fails.
RunResult Shell(AgentProcess& agent, const std::string& script) {
  return agent.Run({"sh", "-euc", "export HOME=/tmp u=http://127.0.0.1:8080; " + script});
}

bool Has(AgentProcess& agent, const std::string& program) {
  const bool has = Shell(agent, "command -v " + program).code == 0;
  if (!has) MESSAGE("skipped: there is no ", program);
  return has;
}

void CheckEndsWell(AgentProcess& agent) {
  WaitForMetric(agent, "modal_requests_in_flight", 0);
  CHECK(agent.Count("gateway.exit") == 0);
  agent.Signal(SIGTERM);
  CHECK(agent.WaitForExit() == 0);
}

TEST_CASE("curl: versions, uploads in every form, Expect, early ends") {
  AgentProcess agent(DataPlaneOptions({"--max-body", "8MiB"}));
  WaitUntilServed(agent);
  if (!Has(agent, "curl")) return;
  const RunResult prepared = Shell(agent, "curl -sSf \"$u/down?size=5000000&seed=7\" -o /tmp/body");
  INFO(prepared.output);
  REQUIRE(prepared.code == 0);
  struct Case {
    const char* what;
    const char* script;
    const char* output;
  };
  for (const auto& row : {
           Case{"HTTP/1.0", "curl -sS0 $u/small?old", "small old\n"},
           Case{
               "HTTP/1.0, an answer without a known length: no chunks for it",
               "curl -sS0 \"$u/down?size=5000000&seed=7&chunked=1\" | cmp - /tmp/body && echo same",
               "same\n"},
           Case{"HTTP/1.1, chunked",
                "curl -sS \"$u/down?size=5000000&seed=7&chunked=1\" | cmp - /tmp/body && echo same",
                "same\n"},
           Case{"an upload of known length", "curl -sS --http1.1 -T /tmp/body $u/up?seed=7",
                "bytes=5000000 wrong=0\n"},
           Case{"an upload of unknown length", "curl -sS --http1.1 -T - $u/up?seed=7 < /tmp/body",
                "bytes=5000000 wrong=0\n"},
           Case{
               "an upload that waits to be asked for",
               "curl -sS -H 'Expect: 100-continue' --expect100-timeout 30 --data-binary @/tmp/body "
               "$u/up?seed=7",
               "bytes=5000000 wrong=0\n"},
           Case{"an upload of HTTP/1.0", "curl -sS0 --data-binary @/tmp/body $u/up?seed=7",
                "bytes=5000000 wrong=0\n"},
           Case{"a body that is too large is refused before it is sent",
                "head -c 9000000 /dev/zero > /tmp/large; "
                "curl -sS -o /dev/null -w '%{http_code} %{size_upload}' "
                "-H 'Expect: 100-continue' --expect100-timeout 30 -T /tmp/large $u/up?seed=7",
                "413 0"},
           Case{"two requests on one connection",
                "curl -sS -o /dev/null -o /dev/null -w '%{num_connects}' $u/small?1 $u/small?2",
                "10"},
           Case{"HEAD", "curl -sSI -o /dev/null -w '%{http_code} %{size_download}' $u/small?head",
                "200 0"},
           Case{"a part, and away",
                "curl -sS \"$u/down?size=5000000&seed=7\" 2>/dev/null | head -c 1000 | wc -c",
                "1000\n"},
           Case{"a server that breaks off is seen",
                "curl -s -o /dev/null \"$u/abort?size=100000&after=5000&seed=1\" || echo cut",
                "cut\n"},
           Case{"events, as they come",
                "curl -sSN \"$u/events?count=3&seed=9\" | grep -c data:", "3\n"},
       }) {
    const auto& [what, script, output] = row;
    INFO(std::string(row.what));
    const RunResult result = Shell(agent, script);
    CHECK(result.output == output);
  }
  CheckEndsWell(agent);
}

TEST_CASE("wrk: not one error, with connections kept and with new ones") {
  AgentProcess agent(DataPlaneOptions({}));
  WaitUntilServed(agent);
  if (!Has(agent, "wrk")) return;
  for (const std::string header : {"X-Nothing: x", "Connection: close"}) {
    INFO(header);
    const RunResult result = Shell(agent, "wrk -t 2 -c 32 -d 2s -H '" + header + "' $u/small?wrk");
    INFO(result.output);
    CHECK(result.code == 0);
    CHECK(Contains(result.output, "Requests/sec:"));
    CHECK_FALSE(Contains(result.output, "Socket errors"));
    CHECK_FALSE(Contains(result.output, "Non-2xx"));
  }
  CheckEndsWell(agent);
}

// As little of CGI as git needs.
constexpr const char* kGitServer = R"(
import http.server, os, subprocess

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def body(self):
        if self.headers.get('Transfer-Encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        data = b''
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() != b'\r\n':
            pass
        return data

    def answer(self):
        body = self.body()
        path, _, query = self.path.partition('?')
        env = dict(os.environ, GIT_PROJECT_ROOT='/tmp/repositories', GIT_HTTP_EXPORT_ALL='1',
                   REQUEST_METHOD=self.command, PATH_INFO=path, QUERY_STRING=query,
                   CONTENT_TYPE=self.headers.get('Content-Type', ''), CONTENT_LENGTH=str(len(body)),
                   HTTP_CONTENT_ENCODING=self.headers.get('Content-Encoding', ''),
                   GIT_PROTOCOL=self.headers.get('Git-Protocol', ''), REMOTE_USER='somebody')
        out = subprocess.run(['git', 'http-backend'], input=body, env=env, capture_output=True).stdout
        head, _, rest = out.partition(b'\r\n\r\n')
        headers = [line.split(': ', 1) for line in head.decode().split('\r\n')]
        status = [int(value.split()[0]) for name, value in headers if name == 'Status'] or [200]
        self.send_response(status[0])
        for name, value in headers:
            if name != 'Status':
                self.send_header(name, value)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        for at in range(0, len(rest), 10000):
            piece = rest[at:at + 10000]
            self.wfile.write(b'%x\r\n%s\r\n' % (len(piece), piece))
        self.wfile.write(b'0\r\n\r\n')

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Handler).serve_forever()
)";

TEST_CASE("git clones and pushes over HTTP") {
  AgentOptions options = With({"--listen", "8080", "--startup-timeout", "30", "--on-enter",
                               "mkdir -p /tmp/repositories", "--success-exit-codes", "143", "--",
                               "python3", "/mnt/git_server.py"});
  options.environment = {"HOME=/tmp"};
  options.files = {{"git_server.py", kGitServer, 0755}};
  AgentProcess agent(std::move(options));
  if (!Has(agent, "git") || !Has(agent, "python3")) return;
  if (Shell(agent, "test -x $(git --exec-path)/git-http-backend").code != 0) {
    MESSAGE("skipped: there is no git http-backend");
    return;
  }
  agent.WaitFor("lifecycle.ready");
  agent.WaitFor("gateway.start");
  const RunResult result = Shell(agent, R"(
    git config --global user.name x; git config --global user.email x@localhost
    git config --global init.defaultBranch main
    git config --global http.postBuffer 65536   # larger packs are sent in chunks
    git init -q --bare /tmp/repositories/one.git
    git -C /tmp/repositories/one.git config http.receivepack true
    git init -q /tmp/first; cd /tmp/first
    for i in 1 2 3 4 5; do head -c 700000 /dev/urandom > file$i; git add .; git commit -qm "file $i"; done
    git push -q $u/one.git main
    git clone -q $u/one.git /tmp/second
    diff -r --exclude=.git /tmp/first /tmp/second
    git -C /tmp/second fsck --strict 2>&1
    cd /tmp/second; echo more > more; git add .; git commit -qm more; git push -q origin main
    git -C /tmp/first pull -q $u/one.git main
    git clone -q --depth 1 $u/one.git /tmp/third
    cat /tmp/first/more /tmp/third/more; git -C /tmp/first rev-list --count HEAD)");
  INFO(result.output);
  CHECK(result.code == 0);
  CHECK(result.output.ends_with("more\nmore\n6\n"));
  CheckEndsWell(agent);
}

constexpr const char* kWebSocketClient = R"(
import base64, hashlib, os, socket, struct

s = socket.create_connection(('127.0.0.1', 8080))
key = base64.b64encode(os.urandom(16)).decode()
s.sendall(('GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n'
           'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n' % key).encode())
f = s.makefile('rb')
assert f.readline().startswith(b'HTTP/1.1 101 ')
headers = {}
while (line := f.readline().strip()):
    name, value = line.decode().split(': ', 1)
    headers[name.lower()] = value
digest = hashlib.sha1((key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest()
assert headers['sec-websocket-accept'] == base64.b64encode(digest).decode(), headers
assert headers['upgrade'].lower() == 'websocket' and headers['connection'].lower() == 'upgrade', headers

def send(first, data):
    mask = os.urandom(4)
    n = len(data)
    length = bytes([128 | n]) if n < 126 else bytes([254]) + struct.pack('>H', n)
    s.sendall(bytes([first]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

def receive():
    first, n = f.read(2)
    if n == 126:
        n, = struct.unpack('>H', f.read(2))
    return first, f.read(n)

for size in (0, 1, 125, 126, 1000, 60000):
    data = os.urandom(size)
    send(0x82, data)
    assert receive() == (0x82, data), size
send(0x01, b'frag'), send(0x00, b'men'), send(0x80, b'ts')
assert [receive() for _ in range(3)] == [(1, b'frag'), (0, b'men'), (0x80, b'ts')]
send(0x89, b'are you there')
assert receive() == (0x8a, b'are you there')
send(0x88, struct.pack('>H', 1000))
assert receive() == (0x88, struct.pack('>H', 1000))
assert f.read() == b''
print('well')
)";

TEST_CASE("a WebSocket in Python") {
  AgentOptions options = DataPlaneOptions({});
  options.files = {{"websocket.py", kWebSocketClient, 0755}};
  AgentProcess agent(std::move(options));
  WaitUntilServed(agent);
  if (!Has(agent, "python3")) return;
  const RunResult result = Shell(agent, "python3 /mnt/websocket.py");
  INFO(result.output);
  CHECK(result.output == "well\n");
  CheckEndsWell(agent);
}

// Loading it lasts until everything has been said, and then the browser shows it.
constexpr const char* kPage = R"(<!DOCTYPE html>
<pre id="said"></pre>
<script>
let left = 4;
const say = (text) => {
  document.getElementById('said').append('said ' + text + '\n');
  --left;
};
const events = new EventSource('/events?count=5&seed=42');
const seen = [];
events.onmessage = (event) => {
  if (seen.push(event.data) < 5) return;
  events.close();
  say('events ' + seen.join(', '));
};
const socket = new WebSocket('ws://' + location.host + '/ws');
socket.onopen = () => socket.send('from the page');
socket.onmessage = (event) => { say('message ' + event.data); socket.close(1000); };
socket.onclose = (event) => say('close ' + event.code + ' clean ' + event.wasClean);
fetch('/up?seed=0', {method: 'POST', body: 'abc'})
    .then((answer) => answer.text()).then((text) => say('upload ' + text.trim()));
const waitForAll = () => {
  if (left === 0) return;
  document.write('<script src="/slow?ms=50"><' + '/script><script>waitForAll()<' + '/script>');
};
waitForAll();
</script>
)";

TEST_CASE("a browser: a page with an EventSource, a WebSocket and an upload") {
  AgentOptions options = DataPlaneOptions({});
  options.files = {{"page.html", kPage, 0644}};
  options.environment = {"PAGE=/mnt/page.html"};
  AgentProcess agent(std::move(options));
  WaitUntilServed(agent);
  if (!Has(agent, "chromium")) return;
  const RunResult result =
      Shell(agent,
            "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
            "--user-data-dir=/tmp/chromium --dump-dom $u/page 2>/dev/null");
  INFO(result.output);
  CHECK(result.code == 0);
  CHECK(Contains(result.output, "said events 42 0, 42 1, 42 2, 42 3, 42 4\n"));
  CHECK(Contains(result.output, "said message from the page\n"));
  CHECK(Contains(result.output, "said close 1000 clean true\n"));
  CHECK(Contains(result.output, "said upload bytes=3 wrong=3\n"));
  CheckEndsWell(agent);
}

}  // namespace
}  // namespace modal::test
