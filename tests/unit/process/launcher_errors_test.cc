#include <doctest/doctest.h>
#include <elf.h>
#include <string.h>

#include "agent/base/strings.h"
#include "agent/process/launcher.h"
#include "tests/unit/process/launch_fixture.h"

namespace modal::process {
namespace {

using namespace testing;

bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A small dynamic program, with something in it changed.
std::string Program() { return ReadWhole("/bin/true"); }

struct ErrorFixture : LaunchFixture {
  // The error of running a file of this content.
  Error FailFile(const std::string& content, mode_t mode = 0755) {
    path = folder.File("server", content, mode);
    return Fail(Spec({path}));
  }

  TempFolder folder;
  std::string path;
};

TEST_CASE_FIXTURE(ErrorFixture, "a program that is not there is 127, and the message says where") {
  LaunchSpec spec = Spec({"./server"});
  spec.workdir = folder.path();
  const Error relative = Fail(spec);
  CHECK(relative.exit_code() == kExitNotFound);
  CHECK(relative.message() == "./server: no such file or directory (in " + folder.path() + ")");

  const Error absolute = Fail(Spec({"/no/such/server"}));
  CHECK(absolute.exit_code() == kExitNotFound);
  CHECK(absolute.message() == "/no/such/server: no such file or directory");

  LaunchSpec by_executable = Spec({"server"});
  by_executable.executable = "/no/such/server";
  CHECK(Fail(by_executable).message() == "/no/such/server: no such file or directory");
  CHECK(Fail(by_executable).exit_code() == kExitNotFound);
}

TEST_CASE_FIXTURE(ErrorFixture, "a name that PATH does not have is 127, with the PATH") {
  LaunchSpec spec = Spec({"server"});
  spec.environment = {"PATH=/bin:/nowhere"};
  const Error missing = Fail(spec);
  CHECK(missing.exit_code() == kExitNotFound);
  CHECK(missing.message() == "server: no such program in PATH (/bin:/nowhere)");

  folder.File("server", "#!/bin/sh\n", 0755);
  spec.workdir = folder.path();
  CHECK(Holds(Fail(spec).message(), "; did you mean ./server?"));

  CHECK(Fail(Spec({""})).message() == "the command is an empty word");
  CHECK(Fail(Spec({})).message() == "there is no command to run");
}

TEST_CASE_FIXTURE(ErrorFixture,
                  "PATH is searched past what cannot be executed, and it is remembered") {
  folder.File("server", "#!/bin/sh\necho first\n", 0644);
  const TempFolder second;
  LaunchSpec spec = Spec({"server"});
  spec.environment = {"PATH=" + folder.path() + ":" + second.path()};
  const Error denied = Fail(spec);
  CHECK(denied.exit_code() == kExitNotExecutable);
  CHECK(Holds(denied.message(), folder.path() + "/server: is not executable; set its x bit"));

  second.File("server", "#!/bin/sh\necho second\n", 0755);
  const auto outcome = Run(spec);
  REQUIRE(outcome);
  CHECK(outcome->output == "second\n");
}

TEST_CASE_FIXTURE(ErrorFixture, "a folder, a file without x bit and a device are 126") {
  const Error directory = Fail(Spec({folder.path()}));
  CHECK(directory.exit_code() == kExitNotExecutable);
  CHECK(directory.message() == folder.path() + ": is a directory");

  const Error no_x = FailFile("#!/bin/sh\n", 0644);
  CHECK(no_x.exit_code() == kExitNotExecutable);
  CHECK(no_x.message() == path + ": is not executable; set its x bit (chmod +x " + path + ")");

  const Error device = Fail(Spec({"/dev/null"}));
  CHECK(device.exit_code() == kExitNotExecutable);
  CHECK(device.message() == "/dev/null: is not a regular file");
}

TEST_CASE_FIXTURE(ErrorFixture, "a script without its interpreter is 127 and names it") {
  const Error missing = FailFile("#! /no/such/python3 -u\nprint()\n");
  CHECK(missing.exit_code() == kExitNotFound);
  CHECK(missing.message() ==
        path + ": its interpreter /no/such/python3 (named in its first line) does not exist here");

  const Error windows = FailFile("#!/bin/sh\r\necho\r\n");
  CHECK(windows.exit_code() == kExitNotFound);
  CHECK(Holds(windows.message(), "save the file with Unix line ends"));
}

TEST_CASE_FIXTURE(ErrorFixture, "the interpreter of an interpreter is looked at as well") {
  const std::string wrapper = folder.File("wrapper", "#!/no/such/shell\n", 0755);
  const Error missing = FailFile("#!" + wrapper + "\n");
  CHECK(missing.exit_code() == kExitNotFound);
  CHECK(missing.message() == path + ": " + wrapper +
                                 ": its interpreter /no/such/shell (named in its first line) does "
                                 "not exist here");

  const std::string locked = folder.File("locked", "#!/bin/sh\n", 0644);
  const Error denied = FailFile("#!" + locked + "\n");
  CHECK(denied.exit_code() == kExitNotExecutable);
  CHECK(Holds(denied.message(), locked + ": is not executable"));
}

TEST_CASE_FIXTURE(ErrorFixture, "a program without its loader is 127 and names it") {
  std::string program = Program();
  const size_t loader = program.find("/ld-linux");
  REQUIRE(loader != std::string::npos);
  program[loader + 1] = 'X';
  const Error missing = FailFile(program);
  CHECK(missing.exit_code() == kExitNotFound);
  CHECK(Holds(missing.message(), "its loader /lib"));
  CHECK(Holds(missing.message(), "/Xd-linux"));
  CHECK(Holds(missing.message(), "does not exist here"));
}

TEST_CASE_FIXTURE(ErrorFixture, "a symbolic link to nowhere is 127 and tells its target") {
  path = folder.path() + "/server";
  std::filesystem::create_symlink("/no/such/target", path);
  const Error dangling = Fail(Spec({path}));
  CHECK(dangling.exit_code() == kExitNotFound);
  CHECK(dangling.message() ==
        path + ": is a symbolic link to /no/such/target, which does not exist");
}

TEST_CASE_FIXTURE(ErrorFixture, "what the kernel cannot execute is 126 and says why") {
  const Error script = FailFile("echo no first line\n");
  CHECK(script.exit_code() == kExitNotExecutable);
  CHECK(Holds(script.message(), "a script needs a first line such as #!/bin/sh"));

  const Error empty = FailFile("");
  CHECK(empty.exit_code() == kExitNotExecutable);
  CHECK(empty.message() == path + ": is empty");

  std::string program = Program();
  const uint16_t other = EM_S390;
  ::memcpy(program.data() + offsetof(Elf64_Ehdr, e_machine), &other, sizeof(other));
  const Error foreign = FailFile(program);
  CHECK(foreign.exit_code() == kExitNotExecutable);
  CHECK(Holds(foreign.message(), "was built for s390, and this machine is "));

  const Error damaged = FailFile(Program().substr(0, 40));
  CHECK(damaged.exit_code() == kExitNotExecutable);
  CHECK(Holds(damaged.message(), "is damaged"));
}

TEST_CASE_FIXTURE(ErrorFixture, "arguments that are too long are 126") {
  LaunchSpec spec = Spec({"/bin/true", std::string(size_t{1} << 20, 'x')});
  const Error error = Fail(spec);
  CHECK(error.exit_code() == kExitNotExecutable);
  CHECK(Holds(error.message(), "are too long for the kernel"));
}

TEST_CASE_FIXTURE(ErrorFixture, "a program that is being written is 126") {
  path = folder.File("server", Program(), 0755);
  const UniqueFd writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const Error busy = Fail(Spec({path}));
  CHECK(busy.exit_code() == kExitNotExecutable);
  CHECK(busy.message() == path + ": somebody has it open for writing");
}

TEST_CASE_FIXTURE(ErrorFixture, "a workdir that cannot be entered is 125") {
  LaunchSpec spec = Spec({"true"});
  spec.workdir = folder.path() + "/missing";
  CHECK(Fail(spec).message() == "workdir " + spec.workdir + ": no such directory");
  CHECK(Fail(spec).exit_code() == kExitAgentError);
  spec.workdir = folder.File("file", "");
  CHECK(Fail(spec).message() == "workdir " + spec.workdir + ": is not a directory");
  CHECK(Fail(spec).exit_code() == kExitAgentError);
}

TEST_CASE_FIXTURE(ErrorFixture, "FindExecutable finds what would run, or says why nothing would") {
  folder.File("server", "#!/bin/sh\n", 0755);
  folder.File("data", "x", 0644);
  const Result<std::string> in_path = FindExecutable("server", "/bin:" + folder.path(), "");
  REQUIRE(in_path);
  CHECK(*in_path == folder.path() + "/server");
  const Result<std::string> relative = FindExecutable("./server", "/bin", folder.path());
  REQUIRE(relative);
  CHECK(*relative == "./server");

  const Result<std::string> data = FindExecutable("./data", "/bin", folder.path());
  REQUIRE_FALSE(data);
  CHECK(data.error().exit_code() == kExitNotExecutable);
  const Result<std::string> nothing = FindExecutable("nothing", "/bin", folder.path());
  REQUIRE_FALSE(nothing);
  CHECK(nothing.error().exit_code() == kExitNotFound);
}

}  // namespace
}  // namespace modal::process
