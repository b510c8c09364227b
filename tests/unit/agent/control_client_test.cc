#include "agent/control_client.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "agent/base/unique_fd.h"
#include "tests/unit/agent/temp_folder.h"

namespace modal {
namespace {

// An agent's socket that answers one client with fixed bytes and closes, from a thread of its own.
class OneAnswer {
 public:
  OneAnswer(const std::string& path, std::string answer, size_t piece = std::string::npos)
      : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    MODAL_CHECK(::bind(listener_.get(), name, sizeof address) == 0);
    MODAL_CHECK(::listen(listener_.get(), 1) == 0);
    thread_ = std::thread([this, answer = std::move(answer), piece] { Serve(answer, piece); });
  }
  ~OneAnswer() {
    if (thread_.joinable()) thread_.join();
  }
  // What the client has said, up to its newline.
  const std::string& request() {
    thread_.join();
    return request_;
  }

 private:
  void Serve(const std::string& answer, size_t piece) {
    const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    char byte = 0;
    while (byte != '\n' && ::recv(client.get(), &byte, 1, 0) == 1) request_ += byte;
    for (size_t at = 0; at < answer.size();) {
      const size_t size = std::min(piece, answer.size() - at);
      if (::send(client.get(), answer.data() + at, size, MSG_NOSIGNAL) < 0) return;
      at += size;
    }
  }

  UniqueFd listener_;
  std::string request_;
  std::thread thread_;
};

TEST_CASE("a question is one line, and the answer is the line that comes back") {
  test::TempFolder folder;
  const std::string path = folder.path() + "/c.sock";
  OneAnswer agent(path, "{\"ok\":true}\n");
  const Result<std::string> answer = AskAgent({path}, "drain");
  REQUIRE(answer.ok());
  CHECK(*answer == "{\"ok\":true}");
  CHECK(agent.request() == "drain\n");
}

TEST_CASE("an answer may come in pieces") {
  test::TempFolder folder;
  const std::string path = folder.path() + "/c.sock";
  const std::string status = "{\"text\":\"" + std::string(20'000, 'x') + "\"}";
  OneAnswer agent(path, status + "\n", 777);
  CHECK(*AskAgent({path}, "status") == status);
}

TEST_CASE("the first place where an agent answers is taken") {
  test::TempFolder folder;
  const std::string stale = folder.path() + "/stale.sock";
  {
    OneAnswer gone(stale, "\n");
    CHECK(AskAgent({stale}, "status").ok());
  }
  const std::string path = folder.path() + "/c.sock";
  OneAnswer agent(path, "{}\n");
  CHECK(*AskAgent({folder.path() + "/missing.sock", stale, path}, "status") == "{}");
}

TEST_CASE("where nobody answers, the error says where was looked and why") {
  test::TempFolder folder;
  const std::string path = folder.path() + "/none.sock";
  CHECK(AskAgent({path, "/x" + std::string(200, 'y')}, "status").error().message() ==
        "no agent answers at " + path + " (No such file or directory), /x" + std::string(200, 'y') +
            " (longer than 107 bytes; choose a shorter path)");
}

TEST_CASE("an agent that closes without a line, or talks without end, has not answered") {
  test::TempFolder folder;
  const std::string silent = folder.path() + "/silent.sock";
  OneAnswer closes(silent, "{\"cut");
  CHECK(AskAgent({silent}, "status").error().message() ==
        "no agent answers at " + silent + " (it closed the connection without an answer)");
  const std::string talking = folder.path() + "/talking.sock";
  OneAnswer talks(talking, std::string(kControlLongestReply * 2, 'x'));
  CHECK(AskAgent({talking}, "status").error().message() ==
        "no agent answers at " + talking + " (its answer is too long)");
}

TEST_CASE("an agent that hangs is given up after the time limit") {
  test::TempFolder folder;
  const std::string path = folder.path() + "/c.sock";
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  CHECK(AskAgent({path}, "status", Milliseconds(20)).error().message() ==
        "no agent answers at " + path +
            " (it accepts connections, but gave no answer within "
            "20 ms: is the agent stopped?)");
}

TEST_CASE("a chosen place is the only one, otherwise the places of our user come first") {
  CHECK(ControlPathsToTry("/x.sock") == std::vector<std::string>{"/x.sock"});
  const std::vector<std::string> paths = ControlPathsToTry("");
  CHECK(paths.front() == "/run/modal-agent/control.sock");
  CHECK(std::count(paths.begin(), paths.end(), paths.front()) == 1);
}

}  // namespace
}  // namespace modal
