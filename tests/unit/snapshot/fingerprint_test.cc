#include "snapshot/fingerprint.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <functional>

#include "tests/unit/process/launch_fixture.h"
#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using process::testing::InAnotherProcess;
using testing::FileTree;

constexpr int64_t kEarlier = 1'600'000'000;
constexpr int64_t kLater = 1'700'000'000;

// An image: a system with an interpreter or two, packages, and files of many times, so that no time
// is that of most of them.
struct Image {
  Image() {
    tree.File("usr/bin/python3.11", "ELF python", kEarlier, 0755);
    tree.Link("usr/bin/python3", "python3.11");
    tree.File("usr/bin/node", "ELF node", kEarlier + 1, 0755);
    tree.File("usr/bin/java", "ELF java", kEarlier + 2, 0755);
    tree.File("usr/bin/sh", "ELF sh", kEarlier + 3, 0755);
    tree.File("usr/bin/env", "ELF env", kEarlier + 3, 0755);
    tree.File("usr/bin/server", "ELF server", kEarlier + 4, 0755);
    tree.File("etc/app.conf", "debug = 0", kEarlier + 5);
    for (int i = 0; i < 20; ++i) {
      tree.File("usr/local/share/data/" + std::to_string(i), "data", kEarlier + 10 + i);
    }
    tree.File("app/app.py", "print(0)", kEarlier + 40);
    tree.File("etc/modal-agent/hooks.d/enter/10-model", "#!/bin/sh\n/usr/lib/models/fetch\n",
              kEarlier + 41, 0755);
    tree.File("usr/lib/models/fetch", "ELF fetch", kEarlier + 42, 0755);
    spec.hooks = {"/etc/modal-agent/hooks.d/enter/10-model"};
    spec.root = tree.path();
    spec.executable = "/usr/bin/server";
    spec.workdir = "/app";
    spec.environment = {"PATH=/usr/local/bin:/usr/bin"};
  }
  std::string Print() const {
    const std::string alone = Print(false);
    CHECK(Print(true) == alone);
    return alone;
  }
  std::string Print(bool reads_ahead) const {
    FingerprintSpec how = spec;
    how.reads_ahead = reads_ahead;
    const Result<FingerprintResult> result = Fingerprint(how);
    return result ? result->digest : "error: " + result.error().message();
  }

  FileTree tree;
  FingerprintSpec spec;
};

TEST_CASE("a large tree has the same fingerprint however far it was read ahead") {
  const Image image;
  for (int i = 0; i < 400; ++i) {
    const std::string folder = "usr/local/lib/" + std::to_string(i % 20) + "/" + std::to_string(i);
    image.tree.File(folder + "/module.so", std::string(static_cast<size_t>(i), 'x'), kEarlier + i);
    image.tree.File(folder + "/__pycache__/module.pyc", "none");
    image.tree.Link(folder + "/near", "module.so");
    image.tree.Link(folder + "/far", "../../0");
    if (i % 50 == 0) image.tree.File(folder + "/conda-meta/package.json", "{}", kEarlier);
  }
  const std::string print = image.Print();
  for (int i = 0; i < 20; ++i) CHECK(image.Print(true) == print);
}

TEST_CASE("the same image has the same fingerprint elsewhere") {
  const Image here;
  const Image there;
  CHECK(here.Print().size() == 32);
  CHECK(here.Print() == there.Print());

  SUBCASE("whatever the fractions of seconds") {
    there.tree.SetTime("app/app.py", kEarlier + 40, 123'456'789);
    there.tree.SetTime("usr/local/share/data/3", kEarlier + 13, 999'999'999);
  }
  SUBCASE("whatever the times of folders") {
    there.tree.SetTime("app", kLater);
    there.tree.SetTime("usr/local/share", kLater);
  }
  SUBCASE("whatever the inode numbers") {
    std::filesystem::copy(there.tree.At("app"), there.tree.At("copy"));
    there.tree.Remove("app");
    std::filesystem::rename(there.tree.At("copy"), there.tree.At("app"));
    there.tree.SetTime("app/app.py", kEarlier + 40);
  }
  SUBCASE("whatever the runtime writes into the container") {
    there.tree.File("etc/hostname", "4711", kLater);
    there.tree.File("etc/hosts", "127.0.0.1 4711", kLater);
    there.tree.File("etc/resolv.conf", "nameserver 10.0.0.1", kLater);
    there.tree.File(".dockerenv", "", kLater);
    there.tree.File("etc/modal-agent/config", "log-level = debug", kLater);
    there.tree.File("run/secrets/kubernetes.io/serviceaccount/token", "short-lived", kLater);
  }
  SUBCASE("whatever lies in scratch folders and caches of Python") {
    there.tree.File("tmp/x", "x", kLater);
    there.tree.File("var/log/x", "x", kLater);
    there.tree.File("app/__pycache__/app.cpython-311.pyc", "x", kLater);
  }
  CHECK(here.Print() == there.Print());
}

TEST_CASE("a change of the image changes the fingerprint") {
  Image image;
  const std::string before = image.Print();
  SUBCASE("contents of the app, with size and time as before") { image.tree.Edit("app/app.py"); }
  SUBCASE("the executable") { image.tree.Edit("usr/bin/server"); }
  SUBCASE("configuration in /etc") { image.tree.Edit("etc/app.conf"); }
  SUBCASE("a startup hook") { image.tree.Edit("etc/modal-agent/hooks.d/enter/10-model"); }
  SUBCASE("a program that only a startup hook names") { image.tree.Edit("usr/lib/models/fetch"); }
  SUBCASE("a file more") { image.tree.File("app/empty.py", ""); }
  SUBCASE("a file less") { image.tree.Remove("app/app.py"); }
  SUBCASE("another name") {
    std::filesystem::rename(image.tree.At("app/app.py"), image.tree.At("app/main.py"));
  }
  SUBCASE("another mode") {
    std::filesystem::permissions(image.tree.At("app/app.py"), std::filesystem::perms(0755));
  }
  SUBCASE("a folder more") { image.tree.Folder("app/static"); }
  SUBCASE("a link instead of a file") {
    image.tree.Remove("app/app.py");
    image.tree.Link("app/app.py", "/etc/app.conf");
  }
  SUBCASE("a new model in a folder of its own") { image.tree.File("models/m.bin", "weights"); }
  SUBCASE("a newer file where nobody has looked closely") {
    image.tree.SetTime("usr/local/share/data/4", kLater);
  }
  SUBCASE("another size there") {
    image.tree.File("usr/local/share/data/4", "data+", kEarlier + 14);
  }
  SUBCASE("an upgraded package of the distribution") {
    image.tree.File("var/lib/dpkg/status", "Package: libc6");
  }
  SUBCASE("another package in the Nix store") { image.tree.Folder("nix/store/abc-python-3.12"); }
  CHECK(image.Print() != before);
}

// What a command leads to is known by its contents: an edit shows that leaves size and time alone.
struct Lead {
  const char* what;
  std::vector<std::string> command;
  std::string workdir;
  std::string variable;
  std::string edited;
};

TEST_CASE("a command leads to its files") {
  const std::vector<Lead> leads{
      {"a file named", {"server", "/opt/x/rules.txt"}, "/app", "", "opt/x/rules.txt"},
      {"behind =", {"server", "--rules=/opt/x/rules.txt"}, "/app", "", "opt/x/rules.txt"},
      {"behind a letter", {"server", "-r/opt/x/rules.txt"}, "/app", "", "opt/x/rules.txt"},
      {"through a link", {"server", "/opt/link"}, "/app", "", "opt/x/rules.txt"},
      {"beside a script", {"python3", "/srv/web/main.py"}, "/", "", "srv/web/pkg/util.py"},
      {"in a shell text",
       {"sh", "-c", "cd /srv/web && exec python3 main.py"},
       "/",
       "",
       "srv/web/pkg/util.py"},
      {"in quotes", {"sh", "-c", "python3 '/srv/web/main.py'|cat"}, "/", "", "srv/web/pkg/util.py"},
      {"of a module", {"python3", "-m", "web"}, "/srv", "", "srv/web/pkg/util.py"},
      {"of an app",
       {"uvicorn", "--app-dir", "/srv/web", "main:app"},
       "/",
       "",
       "srv/web/pkg/util.py"},
      {"--chdir before a name",
       {"gunicorn", "--chdir", "/srv/web", "wsgi"},
       "/",
       "",
       "srv/web/pkg/util.py"},
      {"a name before --chdir",
       {"gunicorn", "pkg.util:app", "--chdir=/srv/web"},
       "/",
       "",
       "srv/web/pkg/util.py"},
      {"a module in the root", {"uvicorn", "lone.mod:app"}, "/", "", "lone/mod.py"},
      {"a class path",
       {"java", "-cp", "/opt/j/lib/*:/opt/j/a.jar", "Main"},
       "/",
       "",
       "opt/j/lib/b.jar"},
      {"an agent of Java's",
       {"java", "-javaagent:/opt/j/lib/b.jar", "Main"},
       "/",
       "",
       "opt/j/lib/b.jar"},
      {"PYTHONPATH",
       {"python3", "-c", "import util"},
       "/",
       "PYTHONPATH=/none:/srv/web/pkg",
       "srv/web/pkg/util.py"},
      {"CLASSPATH", {"java", "Main"}, "/", "CLASSPATH=/opt/j/lib/*", "opt/j/lib/b.jar"},
      {"a file of a variable",
       {"server"},
       "/app",
       "PASSWORD_FILE=/opt/x/rules.txt",
       "opt/x/rules.txt"},
      {"an entry script's text", {"/entry.sh", "serve"}, "/", "", "srv/web/pkg/util.py"},
      {"an entry script in PATH", {"start-web"}, "/", "", "srv/web/pkg/util.py"},
      {"an editable package", {"python3", "-c", "import web"}, "/", "", "opt/src/edit/e.py"},
      {"a working folder that is a link", {"server"}, "/current", "", "srv/web/pkg/util.py"},
      {"a link out of the working folder", {"server"}, "/opt/links", "", "srv/web/pkg/util.py"},
  };
  for (const Lead& lead : leads) {
    CAPTURE(lead.what);
    Image image;
    image.tree.File("opt/x/rules.txt", "allow 1");
    image.tree.Link("opt/link", "../opt/x/rules.txt");
    image.tree.File("srv/web/main.py", "import pkg.util");
    image.tree.File("srv/web/wsgi.py", "import pkg.util");
    image.tree.File("srv/web/pkg/util.py", "ANSWER = 1");
    image.tree.File("lone/mod.py", "ANSWER = 1");
    image.tree.File("opt/j/a.jar", "PK a");
    image.tree.File("opt/j/lib/b.jar", "PK b");
    image.tree.File("opt/src/edit/e.py", "ANSWER = 1");
    image.tree.File("usr/lib/python3/dist-packages/edit.pth", "/opt/src/edit\n");
    image.tree.File("entry.sh", "#!/bin/sh\ncd \"/srv/web\"\nexec python3 main.py\n", kEarlier,
                    0755);
    image.tree.File("usr/local/bin/start-web", "#!/usr/bin/env sh\nexec python3 /srv/web/main.py\n",
                    kEarlier, 0755);
    image.tree.Link("current", "/srv/web");
    image.tree.Link("opt/links/web", "../../srv/web");
    // The newest of all, and alone: the times of the others are trusted.
    image.tree.File("usr/local/share/data/newest", "data", kLater);
    image.spec.executable = lead.command.front();
    image.spec.arguments.assign(lead.command.begin() + 1, lead.command.end());
    image.spec.workdir = lead.workdir;
    if (!lead.variable.empty()) image.spec.environment.push_back(lead.variable);
    const std::string before = image.Print();
    CHECK(before.size() == 32);
    CHECK(image.Print() == before);
    image.tree.Edit(lead.edited);
    CHECK(image.Print() != before);
  }
}

TEST_CASE("packages are known by size and time, unless their times say nothing") {
  Image image;
  image.spec.executable = "python3";
  const std::string package = "usr/lib/python3/dist-packages/flask/app.py";
  image.tree.File(package, "VERSION = 1", kEarlier);
  image.tree.File("usr/local/share/data/newest", "data", kLater);
  const std::string before = image.Print();

  SUBCASE("an edit that leaves size and time alone is not looked for") {
    image.tree.Edit(package);
    CHECK(image.Print() == before);
  }
  SUBCASE("another time is seen") {
    image.tree.SetTime(package, kEarlier + 1);
    CHECK(image.Print() != before);
  }
  SUBCASE("times of reproducible builds make contents count") {
    for (const int64_t second : {int64_t{0}, int64_t{1}, int64_t{315'532'800}, int64_t{499'162'500},
                                 int64_t{946'684'800}}) {
      image.tree.SetTime(package, second);
      const std::string first = image.Print();
      image.tree.Edit(package);
      CHECK(image.Print() != first);
    }
  }
  SUBCASE("so does a newest time that more than a third of the files have") {
    for (int i = 0; i < 20; ++i) {
      image.tree.SetTime("usr/local/share/data/" + std::to_string(i), kLater);
    }
    image.tree.SetTime(package, kLater);
    const std::string first = image.Print();
    image.tree.Edit(package);
    CHECK(image.Print() != first);
  }
}

TEST_CASE("packages are found by the program that will import them") {
  struct Place {
    const char* what;
    std::vector<std::string> command;
    std::string variable;
    std::string file;  // out of what counts as the rest of the image
  };
  const std::vector<Place> places{
      {"of the distribution", {"python3"}, "", "usr/lib/python3/dist-packages/a.py"},
      {"of a version", {"/usr/bin/python3"}, "", "usr/lib/python3.11/site-packages/a.py"},
      {"of a venv", {"/var/venv/bin/python"}, "", "var/venv/lib/python3.11/site-packages/a.py"},
      {"of a script in a venv",
       {"/var/venv/bin/gunicorn"},
       "",
       "var/venv/lib/python3.11/site-packages/a.py"},
      {"of a venv in PATH",
       {"gunicorn"},
       "PATH=/var/venv/bin:/usr/bin",
       "var/venv/lib/python3.11/site-packages/a.py"},
      {"of an active venv",
       {"python3"},
       "VIRTUAL_ENV=/var/venv",
       "var/venv/lib/python3.11/site-packages/a.py"},
      {"of pyenv",
       {"/var/pyenv/shims/python"},
       "",
       "var/pyenv/versions/3.11.4/lib/python3.11/site-packages/a.py"},
      {"of conda",
       {"/var/conda/bin/python"},
       "",
       "var/conda/envs/web/lib/python3.11/site-packages/a.py"},
      {"of the user",
       {"python3"},
       "HOME=/var/user",
       "var/user/.local/lib/python3.11/site-packages/a.py"},
      {"above the working folder", {"node", "x.js"}, "", "var/node_modules/a/index.js"},
      {"of node", {"node", "x.js"}, "", "usr/lib/node_modules/a/index.js"},
      {"of NODE_PATH", {"node", "x.js"}, "NODE_PATH=/var/modules", "var/modules/a/index.js"},
      {"of a node that env finds", {"/var/web/cli"}, "", "usr/lib/node_modules/a/index.js"},
  };
  for (const Place& place : places) {
    CAPTURE(place.what);
    Image image;
    image.tree.File("var/web/x.js", "x");
    image.tree.File("var/web/cli", "#!/usr/bin/env node\n", kEarlier, 0755);
    image.tree.Link("var/venv/bin/python", "/usr/bin/python3");
    image.tree.File("var/venv/bin/gunicorn", "#!/var/venv/bin/python\nimport gunicorn", kEarlier,
                    0755);
    image.tree.File("var/venv/pyvenv.cfg", "home = /usr/bin");
    image.tree.File("var/pyenv/shims/python", "#!/usr/bin/env sh\nexec pyenv", kEarlier, 0755);
    image.tree.File("var/conda/bin/python", "ELF", kEarlier, 0755);
    image.tree.File("var/conda/conda-meta/history", "1");
    image.spec.executable = place.command.front();
    image.spec.arguments.assign(place.command.begin() + 1, place.command.end());
    image.spec.workdir = "/var/web";
    if (!place.variable.empty()) {
      image.spec.environment.insert(image.spec.environment.begin(), place.variable);
    }
    image.tree.File(place.file, "a = 1", kEarlier);
    const std::string before = image.Print();
    image.tree.SetTime(place.file, kEarlier + 7);
    CHECK(image.Print() != before);
  }
}

TEST_CASE("what is not a file is never opened") {
  Image image;
  const std::string before = image.Print();
  image.tree.Fifo("app/queue");  // opening it would wait for a writer
  image.spec.arguments = {"/app/queue", "/opt/pipe"};
  const FileTree& tree = image.tree;
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  tree.At("app/socket").copy(address.sun_path, sizeof(address.sun_path) - 1);
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  CHECK(image.Print() == before);
}

TEST_CASE("loops of links end") {
  Image image;
  image.tree.Link("app/here", ".");
  image.tree.Link("app/up", "../app");
  image.tree.Link("app/self", "./self");
  image.tree.Link("app/a", "../srv/b");
  image.tree.Link("srv/b", "../app/a");
  image.tree.Link("app/root", "/");
  image.tree.Link("app/nowhere", "/not/there");
  CHECK(image.Print().size() == 32);
}

TEST_CASE("what is ours is left out") {
  Image image;
  image.spec.left_out = {"/app/snapshots", "/app/agent.log", "/missing"};
  image.tree.Folder("app/snapshots");
  const std::string before = image.Print();
  image.tree.File("app/snapshots/key/pages.img", "pages");
  image.tree.File("app/agent.log", "started");
  // The folder's own name counts as little as its contents.
  image.tree.Remove("app/snapshots");
  CHECK(image.Print() == before);
  image.tree.File("app/other.log", "x");
  CHECK(image.Print() != before);
}

TEST_CASE("a file beyond what is hashed is known by time and samples") {
  Image image;
  image.spec.max_hashed = 300'000;
  image.tree.File("app/a.bin", std::string(290'000, 'a'));
  image.tree.File("app/b.bin", std::string(2'000'000, 'b'));
  image.tree.File("app/z.py", "z = 1");
  const std::string before = image.Print();
  SUBCASE("its end") { image.tree.Edit("app/b.bin"); }
  SUBCASE("its time") { image.tree.SetTime("app/b.bin", kLater); }
  SUBCASE("a small file behind it is still hashed whole") { image.tree.Edit("app/z.py"); }
  CHECK(image.Print() != before);
  CHECK(Fingerprint(image.spec)->hashed_bytes < 700'000);
}

TEST_CASE("there is no fingerprint without a working folder, or of too many files") {
  Image image;
  SUBCASE("no such folder") {
    image.spec.workdir = "/none";
    CHECK(image.Print() == "error: working folder /none: no such folder");
  }
  SUBCASE("too many") {
    image.spec.max_files = 10;
    for (int i = 0; i < 20; ++i) image.tree.File("app/lib/" + std::to_string(i), "x");
    CHECK(image.Print() == "error: there are more than 10 files (now in /app/lib)");
  }
  SUBCASE("folders without end") {
    std::string folder = "app";
    for (int i = 0; i < 110; ++i) folder += "/d";
    image.tree.Folder(folder);
    CHECK(image.Print().find("nested deeper than 100") != std::string::npos);
  }
}

TEST_CASE("what cannot be read counts, and hinders nothing") {
  if (!process::testing::IsRoot()) return;  // there is nobody else to be
  Image image;
  std::filesystem::permissions(image.tree.path(), std::filesystem::perms(0755));
  image.tree.File("app/secret", "x", kEarlier, 0600);
  image.tree.File("app/private/x", "x");
  std::filesystem::permissions(image.tree.At("app/private"), std::filesystem::perms(0700));
  const auto as_nobody = [&] {
    return InAnotherProcess([&]() -> std::string {
      if (::setgid(65534) != 0 || ::setuid(65534) != 0) return "cannot";
      return image.Print();
    });
  };
  const std::string before = as_nobody();
  CHECK(before.size() == 32);
  CHECK(as_nobody() == before);
  image.tree.SetTime("app/secret", kEarlier + 1);
  CHECK(as_nobody() == before);
  image.tree.File("app/secret", "xx", kEarlier, 0600);
  CHECK(as_nobody() != before);
}

// ---- mounts ----

// Runs `body` where it may mount; "cannot" where that is not permitted.
std::string InMountNamespace(const std::function<std::string()>& body) {
  return InAnotherProcess([&]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return "cannot";
    }
    return body();
  });
}

bool IsForbidden(const std::string& seen) {
  if (seen != "cannot") return false;
  MESSAGE("not shown: mounts are not permitted here");
  return true;
}

bool MountTmpfs(const Image& image, const std::string& name) {
  image.tree.Folder(name);
  return ::mount("tmpfs", image.tree.At(name).c_str(), "tmpfs", 0, "size=16m") == 0;
}

bool MakeReadOnly(const Image& image, const std::string& name) {
  return ::mount("none", image.tree.At(name).c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY,
                 nullptr) == 0;
}

TEST_CASE("of a volume below the working folder program text and configuration count") {
  const std::string seen = InMountNamespace([]() -> std::string {
    const Image image;
    if (!MountTmpfs(image, "app/data")) return "cannot";
    const std::string before = image.Print();
    image.tree.File("app/data/rows.bin", "1", kLater);
    image.tree.File("app/data/new/rows.csv", "1", kLater);
    std::string what = image.Print() == before ? "data: same" : "data: other";
    image.tree.File("app/data/settings.py", "A = 1");
    what += image.Print() == before ? ", settings: same" : ", settings: other";
    return what;
  });
  if (IsForbidden(seen)) return;
  CHECK(seen == "data: same, settings: other");
}

TEST_CASE("of a mounted working folder all counts but what programs leave behind") {
  const std::string seen = InMountNamespace([]() -> std::string {
    const Image image;
    if (!MountTmpfs(image, "app")) return "cannot";
    image.tree.File("app/app.py", "print(0)");
    image.tree.File("app/model.bin", "weights");
    const std::string before = image.Print();
    for (const char* name : {"__pycache__/app.pyc", ".git/index", "app.log", "app.log.1",
                             "server.pid", "db.sqlite3", "db.sqlite3-wal", "nohup.out"}) {
      image.tree.File(std::string("app/") + name, "x", kLater);
    }
    image.tree.SetTime("app/app.py", kLater);  // the same bytes, checked out again
    std::string what = image.Print() == before ? "left behind: same" : "left behind: other";
    image.tree.Edit("app/model.bin");
    what += image.Print() == before ? ", model: same" : ", model: other";
    return what;
  });
  if (IsForbidden(seen)) return;
  CHECK(seen == "left behind: same, model: other");
}

TEST_CASE("mounted configuration counts by its contents, whatever Kubernetes calls its folders") {
  for (const std::string place : {"etc/web", "config", "app/config", "opt/x/config"}) {
    for (const bool is_stamped : {false, true}) {
      CAPTURE(place);
      CAPTURE(is_stamped);
      const std::string seen = InMountNamespace([&]() -> std::string {
        const auto print = [&](const std::string& stamp, const char* text,
                               int64_t time) -> std::string {
          Image image;
          image.spec.mounted_only = is_stamped;
          if (!MountTmpfs(image, place)) return "cannot";
          image.tree.File(place + "/" + stamp + "/web.yaml", text, time);
          image.tree.File(place + "/" + stamp + "/sub/web.yaml", text, time);
          image.tree.Link(place + "/..data", stamp);
          image.tree.Link(place + "/web.yaml", "..data/web.yaml");
          image.tree.Link(place + "/sub", "..data/sub");
          if (!MakeReadOnly(image, place)) return "cannot";
          const std::string digest = image.Print();
          ::umount2(image.tree.At(place).c_str(), MNT_DETACH);
          return digest;
        };
        const std::string before = print("..2024_01_01_1", "a: 1", kEarlier);
        if (before.size() != 32) return before;
        const bool pod = print("..2025_02_02_2", "a: 1", kLater) == before;
        const bool value = print("..2024_01_01_1", "a: 2", kEarlier) == before;
        return std::string(pod ? "pod: same" : "pod: other") +
               (value ? ", value: same" : ", value: other");
      });
      if (IsForbidden(seen)) return;
      CHECK(seen == "pod: same, value: other");
    }
  }
}

TEST_CASE("of volumes elsewhere neither what is writable nor what is large counts") {
  const std::string seen = InMountNamespace([]() -> std::string {
    Image image;
    image.spec.arguments = {"--log-file", "/logs/app.log"};
    for (const char* name : {"data", "logs", "dataset"}) {
      if (!MountTmpfs(image, name)) return "cannot";
    }
    for (int i = 0; i < 2100; ++i) image.tree.File("dataset/" + std::to_string(i), "x");
    if (!MakeReadOnly(image, "dataset")) return "cannot";
    const std::string before = image.Print();
    if (::mount("none", image.tree.At("dataset").c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr) !=
        0) {
      return "cannot";
    }
    image.tree.File("data/rows.json", "{}");
    image.tree.File("logs/app.log", "started");
    image.tree.File("dataset/1", "y");
    if (!MakeReadOnly(image, "dataset")) return "cannot";
    return image.Print() == before ? "same" : "other";
  });
  if (IsForbidden(seen)) return;
  CHECK(seen == "same");
}

TEST_CASE("beside a stamp only what is mounted over the program counts") {
  const std::string seen = InMountNamespace([]() -> std::string {
    Image image;
    image.spec.mounted_only = true;
    std::string what = image.Print().empty() ? "image: nothing" : "image: something";
    if (!MountTmpfs(image, "app/src") || !MountTmpfs(image, "data")) return "cannot";
    image.tree.File("app/src/x.py", "x = 1");
    const std::string before = image.Print();
    image.tree.Edit("app/app.py");
    image.tree.File("data/rows.bin", "1");
    what += image.Print() == before ? ", image: same" : ", image: other";
    image.tree.Edit("app/src/x.py");
    what += image.Print() == before ? ", mounted: same" : ", mounted: other";
    return what;
  });
  if (IsForbidden(seen)) return;
  CHECK(seen == "image: nothing, image: same, mounted: other");
}

}  // namespace
}  // namespace modal::snapshot
