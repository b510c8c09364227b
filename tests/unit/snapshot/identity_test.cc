#include "snapshot/identity.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "snapshot/counted_variables.h"
#include "tests/unit/snapshot/file_tree.h"

namespace modal::snapshot {
namespace {

using testing::FileTree;

// ---- variables ----

std::vector<std::string> Names(const std::vector<std::string>& environment,
                               const std::vector<std::string>& ignored = {}) {
  std::vector<std::string> names;
  for (const std::string& variable : CountedVariables(environment, ignored)) {
    names.push_back(variable.substr(0, variable.find('=')));
  }
  return names;
}

using Texts = std::vector<std::string>;

TEST_CASE("every variable counts but those of the one container, and the agent's own") {
  CHECK(Names({"PATH=/bin", "API_KEY=x", "HOSTNAME=4711", "MODAL_AGENT_LOG_LEVEL=debug",
               "MODAL_AGENT_CONTROL=/run/modal-agent/control", "SHLVL=1", "_=/modal-agent",
               "TERM=xterm", "container=podman", "TERMINAL=no", "INVOCATION_ID=1",
               "HOSTNAME_SUFFIX=.example"}) ==
        Texts{"API_KEY", "HOSTNAME_SUFFIX", "PATH", "TERMINAL"});
}

TEST_CASE("Kubernetes' services do not count, a host and port set by hand do") {
  const Texts services{"WEB_SERVICE_HOST=10.0.0.7",         "WEB_SERVICE_PORT=80",
                       "WEB_SERVICE_PORT_HTTP=80",          "WEB_PORT=tcp://10.0.0.7:80",
                       "WEB_PORT_80_TCP=tcp://10.0.0.7:80", "WEB_PORT_80_TCP_PROTO=tcp",
                       "WEB_PORT_80_TCP_PORT=80",           "WEB_PORT_80_TCP_ADDR=10.0.0.7",
                       "V6_SERVICE_HOST=fd00::7",           "V6_SERVICE_PORT=53",
                       "V6_PORT=udp://[fd00::7]:53",        "V6_PORT_53_UDP=udp://[fd00::7]:53"};
  CHECK(Names(services).empty());

  SUBCASE("without the link") {
    CHECK(Names({"DB_SERVICE_HOST=10.0.0.7", "DB_SERVICE_PORT=5432"}).size() == 2);
  }
  SUBCASE("a link that says another port") {
    CHECK(Names({"DB_SERVICE_HOST=10.0.0.7", "DB_SERVICE_PORT=5432", "DB_PORT=tcp://10.0.0.7:1"})
              .size() == 3);
  }
  SUBCASE("a name instead of an address") {
    CHECK(Names({"DB_SERVICE_HOST=db.example", "DB_SERVICE_PORT=5432",
                 "DB_PORT=tcp://db.example:5432"})
              .size() == 3);
  }
  SUBCASE("others that begin with a service's name") {
    Texts more = services;
    more.insert(more.end(), {"WEB_PASSWORD=x", "WEB_PORT_OFFSET=1", "WEB_PORT_80_TCP_X=1"});
    CHECK(Names(more) == Texts{"WEB_PASSWORD", "WEB_PORT_80_TCP_X", "WEB_PORT_OFFSET"});
  }
}

TEST_CASE("variables can be ignored by name and by beginning") {
  CHECK(Names({"ECS_A=1", "ECS_B=1", "ECS=1", "TASK=1", "TASKS=1"}, {"ECS_*", "TASK"}) ==
        Texts{"ECS", "TASKS"});
}

// ---- key ----

KeyInputs Inputs() {
  KeyInputs inputs;
  inputs.image.text = "stamp:v1";
  inputs.command = {"python3", "app.py"};
  inputs.hooks = {"fetch-model"};
  inputs.workdir = "/app";
  inputs.groups = {1, 2};
  inputs.limits = {"core=0", "nofile=1024:4096"};
  inputs.port = 8000;
  inputs.environment = {"API_KEY=secret", "LANG=C", "LANG=de"};
  inputs.kernel = "6.1.0";
  inputs.cpu = "GenuineIntel";
  inputs.criu_build = "c1";
  inputs.agent_version = "1.0";
  return inputs;
}

TEST_CASE("equal containers have the same key") {
  KeyInputs inputs = Inputs();
  const std::string key = MakeKey(Inputs()).text;
  CHECK(key.size() == 32);
  SUBCASE("variables in another order") {
    inputs.environment = {"LANG=C", "LANG=de", "API_KEY=secret"};
  }
  SUBCASE("another host name") { inputs.environment.push_back("HOSTNAME=4711"); }
  SUBCASE("groups and limits in another order, or twice") {
    inputs.groups = {2, 1, 2};
    inputs.limits = {"nofile=1024:4096", "core=0"};
  }
  SUBCASE("more variables to ignore that are not there") { inputs.ignored = {"TASK_ID"}; }
  CHECK(MakeKey(inputs).text == key);
}

TEST_CASE("whatever the memory depends on changes the key") {
  const std::vector<std::function<void(KeyInputs&)>> changes{
      [](KeyInputs& in) { in.image.text = "stamp:v2"; },
      [](KeyInputs& in) {
        in.command = {"python3", "app.py", ""};
      },
      [](KeyInputs& in) { in.command = {"python3app.py"}; },
      [](KeyInputs& in) {
        in.command = {"python3"}, in.hooks = {"app.py", "fetch-model"};
      },
      [](KeyInputs& in) { in.hooks.clear(); },
      [](KeyInputs& in) { in.workdir = "/"; },
      [](KeyInputs& in) { in.uid = 1000; },
      [](KeyInputs& in) { in.gid = 1000; },
      [](KeyInputs& in) {
        in.groups = {1, 2, 3};
      },
      [](KeyInputs& in) { in.capabilities = 1; },
      [](KeyInputs& in) { in.no_new_privileges = true; },
      [](KeyInputs& in) { in.limits.pop_back(); },
      [](KeyInputs& in) { in.port = 8001; },
      [](KeyInputs& in) { in.environment[0] = "API_KEY=rotated"; },
      [](KeyInputs& in) { in.environment[0] = "API_KEY"; },
      [](KeyInputs& in) { in.environment[0] = "API_KEYS=ecret"; },
      [](KeyInputs& in) { in.environment.push_back("NEW="); },
      [](KeyInputs& in) { std::swap(in.environment[1], in.environment[2]); },
      [](KeyInputs& in) { in.ignored = {"API_KEY"}; },
      [](KeyInputs& in) { in.kernel = "6.1.1"; },
      [](KeyInputs& in) { in.cpu = "AuthenticAMD"; },
      [](KeyInputs& in) { in.criu_build = "c2"; },
      [](KeyInputs& in) { in.agent_version = "1.1"; },
  };
  std::vector<std::string> keys{MakeKey(Inputs()).text};
  for (const auto& change : changes) {
    KeyInputs inputs = Inputs();
    change(inputs);
    keys.push_back(MakeKey(inputs).text);
  }
  std::sort(keys.begin(), keys.end());
  CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
}

TEST_CASE("the hash of a variable shows neither its value nor that another has the same") {
  KeyInputs inputs = Inputs();
  inputs.environment = {"A=secret", "B=secret"};
  const auto first = MakeKey(inputs).variables;
  REQUIRE(first.size() == 2);
  CHECK(first[0].first == "A");
  CHECK(first[0].second.size() == 16);
  CHECK(first[0].second != first[1].second);
  CHECK(MakeKey(inputs).variables == first);
  inputs.image.text = "stamp:v2";
  CHECK(MakeKey(inputs).variables[0].second != first[0].second);
}

// ---- image ----

struct Stamped {
  Stamped() {
    tree.File("image/app/app.py", "print(0)");
    spec.root = tree.At("image");
    spec.workdir = "/app";
  }
  std::string Identify(const std::string& key = "") const {
    const auto identity = IdentifyImage(key, tree.At("stamp"), spec);
    return identity ? identity->text : identity.error().message();
  }
  FileTree tree;
  FingerprintSpec spec;
};

TEST_CASE("a key that was given names the image, then a stamp, then a fingerprint") {
  const Stamped image;
  const std::string fingerprint = image.Identify();
  CHECK(fingerprint.starts_with("fingerprint:"));
  CHECK(fingerprint.size() == 12 + 32);
  image.tree.File("stamp", "build 42\n");
  CHECK(image.Identify() == "stamp:build 42");
  CHECK(image.Identify("mine") == "key:mine");
}

TEST_CASE("a stamp may be a link") {
  const Stamped image;
  image.tree.File("real", "build 42\n");
  image.tree.Link("stamp", "real");
  CHECK(image.Identify() == "stamp:build 42");
}

TEST_CASE("a stamp that cannot be used is an error, and never passed over") {
  const Stamped image;
  const std::string what = "image stamp " + image.tree.At("stamp");
  SUBCASE("empty") {
    image.tree.File("stamp", " \n");
    CHECK(image.Identify() == what + " is empty");
  }
  SUBCASE("two lines") {
    image.tree.File("stamp", "a\nb\n");
    CHECK(image.Identify() == what + " must be one line of text");
  }
  SUBCASE("too long") {
    image.tree.File("stamp", std::string(5000, 'x'));
    CHECK(image.Identify() == what + " is longer than 1024 bytes");
  }
  SUBCASE("a folder") {
    image.tree.Folder("stamp");
    CHECK(image.Identify() == what + ": is not a regular file");
  }
  SUBCASE("a FIFO") {
    image.tree.Fifo("stamp");
    CHECK(image.Identify() == what + ": is not a regular file");
  }
  SUBCASE("a link to itself") {
    image.tree.Link("stamp", "stamp");
    CHECK(image.Identify() == what + ": Too many levels of symbolic links");
  }
}

TEST_CASE("a key that was given must be one line") {
  const Stamped image;
  CHECK(image.Identify("a\nb") == "the snapshot key must be one line of text");
}

TEST_CASE("without a fingerprint there is no identity, and it says what helps") {
  Stamped image;
  image.spec.workdir = "/none";
  CHECK(image.Identify() ==
        "no fingerprint of the image: working folder /none: no such folder; --snapshot-key can "
        "name it");
}

// ---- CPU ----

TEST_CASE("a CPU is known by vendor, family, model and flags, in any order") {
  const auto a = CpuFeatures(
      "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\n"
      "model name\t: Xeon: a name\ncpu MHz\t\t: 2900.1\nflags\t\t: fpu avx2 sse\nbugs\t: x\n\n"
      "processor\t: 1\nvendor_id\t: Other\nflags\t: none\n");
  REQUIRE(a);
  CHECK(a->starts_with("GenuineIntel/6/106/"));
  CHECK(a->ends_with(" avx2 fpu sse"));
  const auto b = CpuFeatures(
      "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t: 106\ncpu MHz\t: 800\n"
      "flags\t: sse  avx2 fpu\n");
  REQUIRE(b);
  CHECK(*b == *a);
}

TEST_CASE("an ARM is known by implementer, variant, part and features") {
  const auto arm = CpuFeatures(
      "processor\t: 0\nBogoMIPS\t: 50\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n"
      "CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n");
  REQUIRE(arm);
  CHECK(arm->find("0x41/8/0x3/0xd0c asimd fp") != std::string::npos);
}

TEST_CASE("a text without features is an error") {
  CHECK_FALSE(CpuFeatures(""));
  CHECK_FALSE(CpuFeatures("vendor_id: x\nflags:\n"));
}

}  // namespace
}  // namespace modal::snapshot
