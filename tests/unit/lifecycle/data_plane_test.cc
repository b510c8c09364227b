#include "lifecycle/data_plane.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "tests/unit/agent/temp_folder.h"

namespace modal::lifecycle {
namespace {

policy::TokenRecord TokenOf(uint8_t byte) {
  policy::TokenRecord token{};
  std::memset(token.key_sha256, byte, sizeof token.key_sha256);
  return token;
}

TEST_CASE("a sealed configuration holds the config and behind it the tokens") {
  policy::GatewayConfig config{};
  config.rate_limit = 200;
  config.token_count = 77;  // made up; what counts is how many there are
  const std::array tokens{TokenOf(1), TokenOf(2)};
  const Result<UniqueFd> fd = SealConfig(config, tokens);
  REQUIRE(fd.ok());

  policy::GatewayConfig read{};
  std::array<policy::TokenRecord, 3> records{};
  REQUIRE(::pread(fd->get(), &read, sizeof read, 0) == sizeof read);
  CHECK(read.rate_limit == 200);
  CHECK(read.token_count == 2);
  CHECK(::pread(fd->get(), records.data(), sizeof records, sizeof read) ==
        2 * sizeof(policy::TokenRecord));
  CHECK(records[1].key_sha256[31] == 2);
}

TEST_CASE("behind the tokens stands what is known about names") {
  const std::array tokens{TokenOf(1)};
  const Result<UniqueFd> fd = SealConfig({}, tokens, {"::1 app\n", "nameserver ::1\n"});
  REQUIRE(fd.ok());
  policy::GatewayConfig read{};
  REQUIRE(::pread(fd->get(), &read, sizeof read, 0) == sizeof read);
  CHECK(read.hosts_size == 8);
  CHECK(read.resolver_size == 15);
  std::array<char, 64> text{};
  CHECK(::pread(fd->get(), text.data(), text.size(), sizeof read + sizeof tokens[0]) == 23);
  CHECK(std::string_view(text.data()) == "::1 app\nnameserver ::1\n");
}

TEST_CASE("nobody can change a sealed configuration, not even whoever made it") {
  const Result<UniqueFd> fd = SealConfig({}, {});
  REQUIRE(fd.ok());
  const size_t size = sizeof(policy::GatewayConfig);
  CHECK(::pwrite(fd->get(), "x", 1, 0) == -1);
  CHECK(errno == EPERM);
  CHECK(::ftruncate(fd->get(), 0) == -1);
  CHECK(::ftruncate(fd->get(), static_cast<off_t>(size) + 1) == -1);
  CHECK(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0) == MAP_FAILED);
  CHECK(::fcntl(fd->get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
}

TEST_CASE("the access log is appended to, and made where it is missing") {
  test::TempFolder folder;
  const std::string path = folder.path() + "/access.log";
  {
    const Result<UniqueFd> made = OpenAccessLog(path);
    REQUIRE(made.ok());
    REQUIRE(::write(made->get(), "one\n", 4) == 4);
    struct stat info {};
    REQUIRE(::fstat(made->get(), &info) == 0);
    CHECK((info.st_mode & 07137) == 0);  // 0640, less what the umask takes
  }
  const Result<UniqueFd> again = OpenAccessLog(path);
  REQUIRE(again.ok());
  REQUIRE(::write(again->get(), "two\n", 4) == 4);
  CHECK((::fcntl(again->get(), F_GETFL) & O_APPEND) != 0);
  CHECK((::fcntl(again->get(), F_GETFD) & FD_CLOEXEC) != 0);
  std::array<char, 16> text{};
  const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(::read(reader.get(), text.data(), text.size()) == 8);
  CHECK(std::string_view(text.data()) == "one\ntwo\n");
}

TEST_CASE("an access log that cannot be opened is an error that names it") {
  test::TempFolder folder;
  CHECK(OpenAccessLog(folder.path()).error().message() ==
        "--access-log " + folder.path() + ": Is a directory");
  const std::string nowhere = folder.path() + "/no/such/folder";
  CHECK(OpenAccessLog(nowhere).error().message() ==
        "--access-log " + nowhere + ": No such file or directory");
}

TEST_CASE("without an access log there is still something to write to, and - is standard output") {
  const Result<UniqueFd> none = OpenAccessLog("");
  REQUIRE(none.ok());
  CHECK(::write(none->get(), "x", 1) == 1);

  const Result<UniqueFd> standard = OpenAccessLog("-");
  REQUIRE(standard.ok());
  struct stat ours {};
  struct stat theirs {};
  REQUIRE(::fstat(STDOUT_FILENO, &ours) == 0);
  REQUIRE(::fstat(standard->get(), &theirs) == 0);
  CHECK(ours.st_ino == theirs.st_ino);
  CHECK(standard->get() > STDERR_FILENO);
}

TEST_CASE("whom a socket's mode lets in is seen") {
  test::TempFolder folder;
  const std::string path = folder.Write("app.sock", "");
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  CHECK_FALSE(NobodyMayConnect(path));
  REQUIRE(::chmod(path.c_str(), 0666) == 0);
  CHECK(NobodyMayConnect(path));
  CHECK(NobodyMayConnect(folder.path() + "/none"));
}

TEST_CASE("an upstream is an address or a name with a port, or else a path") {
  policy::GatewayConfig config{};
  Upstream upstream{.address = "::1", .port = 8000};
  SetUpstream(upstream, config);
  CHECK(std::string(config.upstream_address) == "::1");
  CHECK(config.upstream_port == 8000);
  CHECK(std::string(config.upstream_path).empty());
  CHECK(upstream.ToString() == "[::1]:8000");

  upstream.name = "app.internal";
  SetUpstream(upstream, config);
  CHECK(std::string(config.upstream_name) == "app.internal");
  CHECK(std::string(config.upstream_address).empty());
  CHECK(config.upstream_port == 8000);
  CHECK(upstream.ToString() == "app.internal:8000");

  upstream.kind = Upstream::Kind::kUnixSocket;
  upstream.path = "/run/app.sock";
  SetUpstream(upstream, config);
  CHECK(std::string(config.upstream_address).empty());
  CHECK(std::string(config.upstream_name).empty());
  CHECK(config.upstream_port == 0);
  CHECK(std::string(config.upstream_path) == "/run/app.sock");
  CHECK(upstream.ToString() == "unix:/run/app.sock");
}

}  // namespace
}  // namespace modal::lifecycle
