#include "agent/runtime_stack.h"

#include <doctest/doctest.h>

namespace modal {
namespace {

using Words = std::vector<std::string>;
using snapshot::DumpedProcess;

DumpedProcess Process(const std::string& executable, const Words& command, pid_t pid = 1001,
                      pid_t parent = 1000) {
  DumpedProcess process;
  process.pid = pid;
  process.parent = parent;
  process.executable = executable;
  process.command = command;
  return process;
}

std::string RuntimeOf(const std::string& executable, const Words& command) {
  return RuntimesOf({Process(executable, command)}).at(0);
}

TEST_CASE("a runtime is told from the program, and what it serves with from its words") {
  CHECK(RuntimeOf("/usr/bin/python3.11", {"/usr/bin/python3", "/usr/bin/gunicorn", "-w", "2"}) ==
        "python/gunicorn");
  CHECK(RuntimeOf("/usr/local/bin/python3.12", {"gunicorn: worker [app:app]"}) ==
        "python/gunicorn");
  CHECK(RuntimeOf("/usr/bin/python3.11", {"python3", "-m", "uvicorn", "a:b"}) == "python/uvicorn");
  CHECK(RuntimeOf("/usr/bin/python3.11", {"python3", "-m", "http.server"}) == "python/http.server");
  CHECK(RuntimeOf("/usr/bin/python3.11", {"python3", "manage.py", "runserver"}) == "python/django");
  CHECK(RuntimeOf("/usr/bin/python3.11 (deleted)", {"python3", "app.py"}) == "python");
  CHECK(RuntimeOf("/usr/bin/node", {"node", "server.js"}) == "node");
  CHECK(RuntimeOf("/usr/lib/jvm/17/bin/java", {"java", "-Xmx1g", "-jar", "/srv/app.jar"}) ==
        "jvm/app.jar");
  CHECK(RuntimeOf("/usr/sbin/php-fpm8.2", {"php-fpm: master process (/etc/php.conf)"}) ==
        "php-fpm");
  CHECK(RuntimeOf("/usr/bin/ruby3.1", {"puma", "5.6"}) == "ruby/puma");
  CHECK(RuntimeOf("/bin/dash", {"sh", "-c", "gunicorn"}) == "shell");
  CHECK(RuntimeOf("/modal-agent", {"modal-agent-keeper"}) == "keeper");
  CHECK(RuntimeOf("/srv/counter", {"./counter", "gunicorn"}) == "native");
  CHECK(RuntimeOf("", {}) == "native");
  CHECK(RuntimeOf("/usr/bin/3.11", {""}) == "native");
}

TEST_CASE("a process that does not tell has it from its parent, if that speaks the same language") {
  const Words runtimes = RuntimesOf({
      Process("/usr/bin/python3.11", {"python3", "-m", "uvicorn", "a:b"}, 1001),
      Process("/usr/bin/python3.11", {"python3", "-c", "from multiprocessing"}, 1002, 1001),
      Process("/usr/bin/python3.11", {"python3", "-c", "x"}, 1003, 1002),
      Process("/bin/bash", {"bash"}, 1004, 1001),
      Process("/usr/bin/python3.11", {"python3", "other.py"}, 1005, 1004),
  });
  CHECK(runtimes == Words{"python/uvicorn", "python/uvicorn", "python/uvicorn", "shell", "python"});
}

}  // namespace
}  // namespace modal
