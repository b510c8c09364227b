#include "agent/workload_environment.h"

#include <doctest/doctest.h>

#include <vector>

namespace modal {
namespace {

using Lines = std::vector<std::string>;

Lines Make(std::vector<const char*> inherited, WorkloadEnvironment wanted) {
  inherited.push_back(nullptr);
  if (wanted.port == 0) wanted.port = 8000;
  return MakeEnvironment(inherited.data(), wanted);
}

TEST_CASE("the workload inherits what the agent has, in its order, and gets PORT") {
  CHECK(Make({"B=2", "A=1", "EMPTY="}, {}) == Lines{"B=2", "A=1", "EMPTY=", "PORT=8000"});
  CHECK(Make({"B=2", "PORT=80", "A=1"}, {}) == Lines{"B=2", "PORT=8000", "A=1"});
}

TEST_CASE("the agent's own variables stay with the agent") {
  CHECK(Make({"MODAL_AGENT_ENV=PASSWORD=x", "MODAL_AGENT_PORT=9000", "MODAL_TOKEN=app's"}, {}) ==
        Lines{"MODAL_TOKEN=app's", "PORT=8000"});
}

TEST_CASE("the links of a service that has the agent's name are not the agent's own") {
  const Lines links{"MODAL_AGENT_PORT=tcp://10.0.0.1:80", "MODAL_AGENT_SERVICE_HOST=10.0.0.1",
                    "MODAL_AGENT_PORT_80_TCP_ADDR=10.0.0.1"};
  const Lines made = Make({links[0].c_str(), links[1].c_str(), links[2].c_str()}, {});
  CHECK(Lines(made.begin(), made.begin() + 3) == links);
}

TEST_CASE("where a control socket was chosen, hooks and workload are told") {
  WorkloadEnvironment wanted;
  wanted.control = "/x.sock";
  CHECK(Make({"MODAL_AGENT_CONTROL=y.sock", "A=1"}, wanted) ==
        Lines{"MODAL_AGENT_CONTROL=/x.sock", "A=1", "PORT=8000"});
}

TEST_CASE("what is set replaces what was there in its place, and the last setting counts") {
  WorkloadEnvironment wanted;
  wanted.entries = {{"A", "new"}, {"N", "1"}, {"N", "2"}, {"PORT", "1"}};
  CHECK(Make({"A=1", "B=2"}, wanted) == Lines{"A=new", "B=2", "N=2", "PORT=8000"});
}

TEST_CASE("a name alone takes over what the agent has, its own variables too") {
  WorkloadEnvironment wanted;
  wanted.entries = {{"A", "file"},
                    {"A", std::nullopt},
                    {"MODAL_AGENT_X", std::nullopt},
                    {"ABSENT", std::nullopt}};
  CHECK(Make({"A=1", "MODAL_AGENT_X=2"}, wanted) == Lines{"A=1", "MODAL_AGENT_X=2", "PORT=8000"});
}

TEST_CASE("another user has a home and a name of their own, unless those are set") {
  const process::Credentials app{1000, 1000, {1000}, "app", "/home/app"};
  WorkloadEnvironment wanted;
  wanted.changed_user = &app;
  CHECK(Make({"HOME=/root", "X=1", "USER=root"}, wanted) ==
        Lines{"HOME=/home/app", "X=1", "USER=app", "LOGNAME=app", "PORT=8000"});
  wanted.entries = {{"HOME", "/srv"}};
  CHECK(Make({"HOME=/root"}, wanted) == Lines{"HOME=/srv", "USER=app", "LOGNAME=app", "PORT=8000"});
}

TEST_CASE("a user without a name does not keep the name of the one before") {
  const process::Credentials nameless{1234, 1234, {1234}, "", "/"};
  WorkloadEnvironment wanted;
  wanted.changed_user = &nameless;
  CHECK(Make({"USER=root", "LOGNAME=root", "HOME=/root"}, wanted) == Lines{"HOME=/", "PORT=8000"});
}

TEST_CASE("what is no variable is dropped, and a second one of a name that is set") {
  WorkloadEnvironment wanted;
  wanted.entries = {{"A", "3"}};
  CHECK(Make({"garbage", "=x", "A=1", "A=2"}, wanted) == Lines{"A=3", "PORT=8000"});
}

TEST_CASE("links of Kubernetes services are told from settings by their form") {
  CHECK(IsServiceLink("MODAL_AGENT_SERVICE_HOST", "10.0.0.1"));
  CHECK(IsServiceLink("MODAL_AGENT_SERVICE_PORT", "80"));
  CHECK(IsServiceLink("MODAL_AGENT_SERVICE_PORT_HTTP", "80"));
  CHECK(IsServiceLink("MODAL_AGENT_PORT", "tcp://10.0.0.1:80"));
  CHECK(IsServiceLink("MODAL_AGENT_PORT", "udp://10.0.0.1:53"));
  CHECK(IsServiceLink("MODAL_AGENT_PORT_8000_TCP", "tcp://10.0.0.1:8000"));
  CHECK(IsServiceLink("MODAL_AGENT_PORT_8000_TCP_PROTO", "tcp"));
  CHECK(IsServiceLink("MODAL_AGENT_WEB_PORT_8000_UDP_ADDR", "10.0.0.1"));
  CHECK_FALSE(IsServiceLink("MODAL_AGENT_PORT", "8000"));
  CHECK_FALSE(IsServiceLink("MODAL_AGENT_PORT_8000", "x"));
  CHECK_FALSE(IsServiceLink("MODAL_AGENT_PORT_X_TCP", "x"));
  CHECK_FALSE(IsServiceLink("MODAL_AGENT_PORT_80_TCP_X", "x"));
  CHECK_FALSE(IsServiceLink("MODAL_AGENT_PORT_80_ICMP", "x"));
}

}  // namespace
}  // namespace modal
