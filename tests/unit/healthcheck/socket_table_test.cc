// The socket tables of the running kernel, in a network namespace made here, asked both ways: over
// netlink, and from /proc where a seccomp filter refuses netlink.
#include "healthcheck/socket_table.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/unique_fd.h"
#include "healthcheck/checks.h"
#include "tests/support/fake_socket_table.h"
#include "tests/support/network_namespace.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace modal::health {
namespace {

using test::AddressOf;
using test::NetworkNamespace;

constexpr uint16_t kPort = 8000;

struct ListenOptions {
  bool v6_only = false;
  int protocol = 0;
};

UniqueFd Listen(const SocketAddress& address, ListenOptions options = {}) {
  UniqueFd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, options.protocol));
  const int v6_only = options.v6_only ? 1 : 0;
  if (address.is_ipv6()) {
    MODAL_CHECK(::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only) == 0);
  }
  MODAL_CHECK(::bind(fd.get(), address.get(), address.size()) == 0);
  MODAL_CHECK(::listen(fd.get(), 4096) == 0);
  return fd;
}

UniqueFd Connect(const SocketAddress& address) {
  UniqueFd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  MODAL_CHECK(fd);
  MODAL_CHECK(::connect(fd.get(), address.get(), address.size()) == 0);
  return fd;
}

void Send(const UniqueFd& fd, const std::string& text) {
  MODAL_CHECK(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
              static_cast<ssize_t>(text.size()));
}

std::string Receive(const UniqueFd& fd) {
  char text[100];
  const ssize_t size = ::recv(fd.get(), text, sizeof text, 0);
  MODAL_CHECK(size > 0);
  return std::string(text, static_cast<size_t>(size));
}

uint64_t InodeOf(const UniqueFd& fd) {
  struct stat status {};
  MODAL_CHECK(::fstat(fd.get(), &status) == 0);
  return status.st_ino;
}

// A thread of its own, because a filter cannot be taken off again.
void WithoutNetlink(int refusal, const std::function<void()>& body) {
  std::thread([&] {
    constexpr scmp_arg_cmp kNetlink{0, SCMP_CMP_EQ, AF_NETLINK, 0};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    const int added = seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<uint16_t>(refusal)),
                                       SCMP_SYS(socket), 1, kNetlink);
    const int loaded = seccomp_load(filter);
    seccomp_release(filter);
    CHECK(added == 0);
    CHECK(loaded == 0);
    body();
  }).join();
}

// The same questions both ways. Inside, failed assertions must not throw: CHECK, not REQUIRE.
void BothWays(const std::function<void(KernelSocketTable& table, bool over_netlink)>& body) {
  {
    INFO("over netlink");
    KernelSocketTable table;
    body(table, true);
  }
  WithoutNetlink(EPERM, [&] {
    INFO("from /proc");
    KernelSocketTable table;
    body(table, false);
  });
}

std::vector<ListeningSocket> ListenersOn(SocketTable& table, uint16_t port) {
  Result<std::vector<ListeningSocket>> listeners = table.Listeners(port);
  CHECK(listeners);
  if (!listeners) return {};
  std::sort(listeners->begin(), listeners->end(),
            [](const ListeningSocket& a, const ListeningSocket& b) { return a.inode < b.inode; });
  return *std::move(listeners);
}

std::vector<Connection> ConnectionsTo(SocketTable& table, uint16_t port) {
  Result<std::vector<Connection>> connections = table.Connections(port);
  CHECK(connections);
  if (!connections) return {};
  std::sort(connections->begin(), connections->end(), [](const Connection& a, const Connection& b) {
    return a.remote.port() < b.remote.port();
  });
  return *std::move(connections);
}

#define IN_A_NETWORK_NAMESPACE()                                          \
  const NetworkNamespace network;                                         \
  if (!network.entered()) {                                               \
    MESSAGE("skipped: making a network namespace is not permitted here"); \
    return;                                                               \
  }                                                                       \
  static_assert(true)

TEST_CASE("listeners of every kind are found with what they are bound to") {
  IN_A_NETWORK_NAMESPACE();
  const UniqueFd any = Listen(AddressOf("0.0.0.0", 8001));
  const UniqueFd loopback = Listen(AddressOf("127.0.0.1", 8002));
  const UniqueFd dual = Listen(AddressOf("::", 8003));
  const UniqueFd v6_only = Listen(AddressOf("::", 8004), {.v6_only = true});
  const UniqueFd v6_loopback = Listen(AddressOf("::1", 8005));
  const UniqueFd mapped = Listen(AddressOf("::ffff:127.0.0.1", 8006));

  BothWays([&](KernelSocketTable& table, bool over_netlink) {
    CHECK(ListenersOn(table, 0).size() == 6);
    const auto expect = [&](const UniqueFd& fd, const SocketAddress& address, bool is_v6_only) {
      const std::vector<ListeningSocket> found = ListenersOn(table, address.port());
      CHECK(found.size() == 1);
      if (found.empty()) return;
      CHECK(found[0].local.ToString() == address.ToString());
      CHECK(found[0].inode == InodeOf(fd));
      CHECK(found[0].uid == ::geteuid());
      CHECK(found[0].accept_queue == 0);
      CHECK(found[0].v6_only == (over_netlink && is_v6_only));
    };
    expect(any, AddressOf("0.0.0.0", 8001), false);
    expect(loopback, AddressOf("127.0.0.1", 8002), false);
    expect(dual, AddressOf("::", 8003), false);
    expect(v6_only, AddressOf("::", 8004), true);
    expect(v6_loopback, AddressOf("::1", 8005), true);
    expect(mapped, AddressOf("::ffff:127.0.0.1", 8006), false);
    CHECK(ListenersOn(table, 8007).empty());
  });
}

TEST_CASE("a socket that is bound, or whose listener was closed, does not listen") {
  IN_A_NETWORK_NAMESPACE();
  UniqueFd listener = Listen(AddressOf("0.0.0.0", kPort));
  listener.Reset();
  const UniqueFd bound(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress address = AddressOf("0.0.0.0", kPort);
  REQUIRE(::bind(bound.get(), address.get(), address.size()) == 0);
  BothWays([&](KernelSocketTable& table, bool) { CHECK(ListenersOn(table, kPort).empty()); });
}

TEST_CASE("a listener of Multipath TCP is found: Go makes them") {
  IN_A_NETWORK_NAMESPACE();
  if (!UniqueFd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP))) {
    MESSAGE("skipped: this kernel has no Multipath TCP");
    return;
  }
  const UniqueFd listener = Listen(AddressOf("::", kPort), {.protocol = IPPROTO_MPTCP});
  BothWays([&](KernelSocketTable& table, bool) {
    const std::vector<ListeningSocket> found = ListenersOn(table, kPort);
    CHECK(found.size() == 1);
    if (!found.empty()) CHECK(found[0].inode == InodeOf(listener));
  });
}

TEST_CASE("connections that nobody has accepted are counted at the listener and have no inode") {
  IN_A_NETWORK_NAMESPACE();
  const UniqueFd listener = Listen(AddressOf("::", kPort));
  const UniqueFd first = Connect(AddressOf("127.0.0.1", kPort));
  const UniqueFd second = Connect(AddressOf("::1", kPort));
  BothWays([&](KernelSocketTable& table, bool) {
    const std::vector<ListeningSocket> listeners = ListenersOn(table, kPort);
    CHECK(listeners.size() == 1);
    if (!listeners.empty()) CHECK(listeners[0].accept_queue == 2);
    const std::vector<Connection> connections = ConnectionsTo(table, kPort);
    CHECK(connections.size() == 2);
    for (const Connection& connection : connections) CHECK(connection.inode == 0);

    AcceptQueueCheck check(table, kPort);
    CHECK_FALSE(check.Check());
    CHECK(check.Check());
  });

  const UniqueFd accepted(::accept(listener.get(), nullptr, nullptr));
  const UniqueFd also_accepted(::accept(listener.get(), nullptr, nullptr));
  BothWays([&](KernelSocketTable& table, bool) {
    const std::vector<ListeningSocket> listeners = ListenersOn(table, kPort);
    if (!listeners.empty()) CHECK(listeners[0].accept_queue == 0);
    for (const Connection& connection : ConnectionsTo(table, kPort)) {
      const bool known =
          connection.inode == InodeOf(accepted) || connection.inode == InodeOf(also_accepted);
      CHECK(known);
    }
    AcceptQueueCheck check(table, kPort);
    CHECK_FALSE(check.Check());
    CHECK_FALSE(check.Check());
  });
}

// One connection to kPort, both ends in our hands.
struct Pair {
  UniqueFd listener = Listen(AddressOf("0.0.0.0", kPort));
  UniqueFd client = Connect(AddressOf("127.0.0.1", kPort));
  UniqueFd server{::accept(listener.get(), nullptr, nullptr)};
};

// The one connection, when the client has acknowledged everything (which it may put off a moment).
Connection Settled(SocketTable& table) {
  for (;;) {
    const std::vector<Connection> connections = ConnectionsTo(table, kPort);
    CHECK(connections.size() == 1);
    if (connections.size() != 1) return {};
    if (connections[0].send_queue == 0) return connections[0];
    std::this_thread::yield();
  }
}

// As if that much more time had passed.
Connection Older(Connection connection, uint32_t by_ms) {
  if (connection.last_sent_ms) *connection.last_sent_ms += by_ms;
  if (connection.last_received_ms) *connection.last_received_ms += by_ms;
  return connection;
}

TEST_CASE("a connection tells whether a request is being worked on") {
  IN_A_NETWORK_NAMESPACE();
  const Pair pair;
  bool idle_later = false;
  uint64_t bytes = 0;

  SUBCASE("the client has said nothing yet") { idle_later = true; }
  SUBCASE("the server has not read the request") {
    Send(pair.client, "GET");
    bytes = 3;
  }
  SUBCASE("the server has read the request and works on it") {
    Send(pair.client, "GET");
    CHECK(Receive(pair.server) == "GET");
    bytes = 3;
  }
  SUBCASE("the server has answered, and the client has taken the answer") {
    Send(pair.client, "GET");
    CHECK(Receive(pair.server) == "GET");
    Send(pair.server, "200");
    CHECK(Receive(pair.client) == "200");
    bytes = 3;
    idle_later = true;
  }
  SUBCASE("the server has answered, and works on the next request") {
    Send(pair.client, "GET");
    CHECK(Receive(pair.server) == "GET");
    Send(pair.server, "200");
    CHECK(Receive(pair.client) == "200");
    Send(pair.client, "PUT");
    CHECK(Receive(pair.server) == "PUT");
    bytes = 6;
  }
  SUBCASE("the client has not taken the answer, of which there is more") {
    Send(pair.client, "GET");
    CHECK(Receive(pair.server) == "GET");
    bytes = 3;
    const std::string lots(64 * 1024, '.');
    while (::send(pair.server.get(), lots.data(), lots.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    KernelSocketTable table;
    const std::vector<Connection> connections = ConnectionsTo(table, kPort);
    REQUIRE(connections.size() == 1);
    CHECK(connections[0].send_queue > 0);
    CHECK(CountInFlight({Older(connections[0], 5000)}) == 1);
    return;
  }

  BothWays([&](KernelSocketTable& table, bool over_netlink) {
    const Connection connection = Settled(table);
    CHECK(connection.inode == InodeOf(pair.server));
    CHECK_FALSE(connection.half_closed);
    CHECK(connection.last_sent_ms.has_value() == over_netlink);
    CHECK(connection.last_received_ms.has_value() == over_netlink);
    if (over_netlink) CHECK(connection.bytes_received == bytes);
    CHECK(CountInFlight({Older(connection, 5000)}) == (over_netlink && idle_later ? 0 : 1));
  });
}

TEST_CASE("bytes that the server has not read are counted, and a client's FIN is seen") {
  IN_A_NETWORK_NAMESPACE();
  const Pair pair;
  Send(pair.client, "GET");
  REQUIRE(::shutdown(pair.client.get(), SHUT_WR) == 0);
  BothWays([&](KernelSocketTable& table, bool) {
    const Connection connection = Settled(table);
    // /proc counts the FIN as a byte.
    CHECK(connection.receive_queue >= 3);
    CHECK(connection.receive_queue <= 4);
    CHECK(connection.half_closed);
    CHECK(CountInFlight({connection}) == 1);
  });
}

TEST_CASE("connections in any other state, and connections from the port, are not listed") {
  IN_A_NETWORK_NAMESPACE();
  Pair pair;
  BothWays([&](KernelSocketTable& table, bool) {
    const std::vector<Connection> connections = ConnectionsTo(table, kPort);
    CHECK(connections.size() == 1);
    // The client's end is to be found under the client's port.
    if (!connections.empty()) {
      CHECK(ConnectionsTo(table, connections[0].remote.port()).size() == 1);
    }
  });
  pair.server.Reset();  // FIN_WAIT2 on the server's side
  BothWays([&](KernelSocketTable& table, bool) { CHECK(ConnectionsTo(table, kPort).empty()); });
}

// The soft limit of descriptors is this, or the hard limit if that is less, while it lives.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    MODAL_CHECK(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    limit_ = std::min(limit, before_.rlim_max);
    const rlimit changed{limit_, before_.rlim_max};
    MODAL_CHECK(::setrlimit(RLIMIT_NOFILE, &changed) == 0);
  }
  ~DescriptorLimit() { MODAL_CHECK(::setrlimit(RLIMIT_NOFILE, &before_) == 0); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

  rlim_t limit() const { return limit_; }

 private:
  rlimit before_{};
  rlim_t limit_ = 0;
};

TEST_CASE("two thousand connections are all listed, both ways") {
  IN_A_NETWORK_NAMESPACE();
  const DescriptorLimit descriptors(3000);
  if (descriptors.limit() < 3000) {
    MESSAGE("skipped: the hard limit of descriptors is too low");
    return;
  }
  const UniqueFd listener = Listen(AddressOf("::", kPort));
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 1000; ++i) {
    clients.push_back(Connect(AddressOf("127.0.0.1", kPort)));
    clients.push_back(Connect(AddressOf("::1", kPort)));
  }
  std::vector<std::vector<std::string>> lists;
  BothWays([&](KernelSocketTable& table, bool) {
    CHECK(ListenersOn(table, kPort).size() == 1);
    std::vector<std::string> list;
    for (const Connection& connection : ConnectionsTo(table, kPort)) {
      list.push_back(connection.remote.ToString() + " > " + connection.local.ToString());
    }
    std::sort(list.begin(), list.end());
    CHECK(list.size() == 2000);
    CHECK(std::adjacent_find(list.begin(), list.end()) == list.end());
    lists.push_back(std::move(list));
  });
  REQUIRE(lists.size() == 2);
  CHECK(lists[0] == lists[1]);
}

TEST_CASE("whatever refuses netlink, /proc is read instead") {
  IN_A_NETWORK_NAMESPACE();
  const UniqueFd listener = Listen(AddressOf("0.0.0.0", kPort));
  for (const int refusal : {EPERM, EACCES, EAFNOSUPPORT, EPROTONOSUPPORT, ENOSYS}) {
    WithoutNetlink(refusal, [&] {
      KernelSocketTable table;
      CHECK(ListenersOn(table, kPort).size() == 1);
      CHECK(ListenersOn(table, kPort).size() == 1);
    });
  }
}

TEST_CASE("where neither way is open, the error names both") {
  WithoutNetlink(EPERM, [] {
    KernelSocketTable table("/nowhere");
    const auto listeners = table.Listeners(kPort);
    CHECK_FALSE(listeners);
    if (!listeners) {
      CHECK(listeners.error().message() ==
            "sock_diag: open a netlink socket: Operation not permitted; open /nowhere/net/tcp: No "
            "such file or directory");
    }
  });
}

TEST_CASE("at the limit of descriptors an open table goes on, and a new one recovers later") {
  IN_A_NETWORK_NAMESPACE();
  const UniqueFd listener = Listen(AddressOf("0.0.0.0", kPort));
  KernelSocketTable open_table;
  CHECK(ListenersOn(open_table, kPort).size() == 1);
  KernelSocketTable new_table;
  {
    const DescriptorLimit none(0);
    CHECK(ListenersOn(open_table, kPort).size() == 1);
    CHECK_FALSE(new_table.Listeners(kPort));
  }
  CHECK(ListenersOn(new_table, kPort).size() == 1);
}

}  // namespace
}  // namespace modal::health
