#include "agent/event/ares_name_servers.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "agent/event/poller.h"

#ifdef MODAL_STATIC
// c-ares can look up services, and we never do. The C library's own would bring all of NSS with it,
// which a static program must not use.
extern "C" int getservbyport_r(int, const char*, servent*, char*, size_t, servent** result) {
  *result = nullptr;
  return ENOENT;
}
extern "C" servent* getservbyname(const char*, const char*) { return nullptr; }
#endif

namespace modal::event {
namespace {

constexpr int kMostAddresses = 64;

// How c-ares makes its sockets: non-blocking and close-on-exec from birth, and no signal from them.
const ares_socket_functions kSocketFunctions{
    [](int family, int type, int protocol, void*) {
      return ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    },
    [](ares_socket_t fd, void*) { return ::close(fd); },
    [](ares_socket_t fd, const sockaddr* address, ares_socklen_t size, void*) {
      return ::connect(fd, address, size);
    },
    [](ares_socket_t fd, void* buffer, size_t size, int flags, sockaddr* from,
       ares_socklen_t* from_size, void* received) -> ares_ssize_t {
      const ssize_t got = ::recvfrom(fd, buffer, size, flags, from, from_size);
      if (got > 0) ++*static_cast<uint64_t*>(received);
      return got;
    },
    [](ares_socket_t fd, const iovec* pieces, int count, void*) -> ares_ssize_t {
      msghdr message{};
      message.msg_iov = const_cast<iovec*>(pieces);
      message.msg_iovlen = static_cast<size_t>(count);
      return ::sendmsg(fd, &message, MSG_NOSIGNAL);
    },
};

DnsAnswer::Kind KindOf(int status) {
  switch (status) {
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
      return DnsAnswer::Kind::kUnknown;
    case ARES_ETIMEOUT:
      return DnsAnswer::Kind::kTimedOut;
    case ARES_ECONNREFUSED:
      return DnsAnswer::Kind::kNoServer;
    default:
      return DnsAnswer::Kind::kFailed;
  }
}

DnsAnswer Found(std::vector<SocketAddress> addresses, int ttl) {
  if (addresses.empty()) return {DnsAnswer::Kind::kUnknown, {}};
  return {DnsAnswer::Kind::kFound, std::move(addresses), std::chrono::seconds(std::max(ttl, 0))};
}

DnsAnswer ReadAnswer(NameServers::Family family, int status, const unsigned char* bytes, int size) {
  if (status != ARES_SUCCESS) return {KindOf(status), {}};
  std::vector<SocketAddress> addresses;
  int count = kMostAddresses;
  int ttl = std::numeric_limits<int>::max();
  if (family == NameServers::Family::kIpv4) {
    std::array<ares_addrttl, kMostAddresses> found;
    status = ares_parse_a_reply(bytes, size, nullptr, found.data(), &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; ++i) {
      addresses.push_back(SocketAddress::FromBytes(AF_INET, &found[i].ipaddr, 0));
      ttl = std::min(ttl, found[i].ttl);
    }
  } else {
    std::array<ares_addr6ttl, kMostAddresses> found;
    status = ares_parse_aaaa_reply(bytes, size, nullptr, found.data(), &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; ++i) {
      addresses.push_back(SocketAddress::FromBytes(AF_INET6, &found[i].ip6addr, 0));
      ttl = std::min(ttl, found[i].ttl);
    }
  }
  if (status != ARES_SUCCESS) return {KindOf(status), {}};
  return Found(std::move(addresses), ttl);
}

}  // namespace

class AresNameServers::Impl {
 public:
  Impl(Loop& loop, Clock& clock) : loop_(loop), clock_(clock) {}
  ~Impl() {
    if (channel_ == nullptr) return;
    closing_ = true;
    ares_destroy(channel_);
  }

  Result<void> Open(const ResolverSettings& settings) {
    // All that c-ares would look for in files and variables otherwise.
    std::array<char, 2> lookups{'b', '\0'};
    in_addr any{};
    ares_options options{};
    options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES;
    options.timeout = static_cast<int>(settings.timeout.count());
    options.tries = settings.attempts;
    options.ndots = 0;
    options.servers = &any;
    options.nservers = 1;
    options.lookups = lookups.data();
    options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Impl*>(self)->Watch(fd, readable != 0, writable != 0);
    };
    options.sock_state_cb_data = this;
    const int status =
        ares_init_options(&channel_, &options,
                          ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS |
                              ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS |
                              ARES_OPT_SORTLIST | ARES_OPT_NOROTATE | ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) return Error(ares_strerror(status));
    ares_set_socket_functions(channel_, &kSocketFunctions, &received_);
    return SetServers(settings.servers);
  }

  uint64_t Ask(const std::string& name, Family family,
               std::function<void(const DnsAnswer&)> on_answer) {
    const uint64_t number = ++last_;
    questions_[number] = {name, family, std::move(on_answer), received_, {}};
    Send(number);
    return number;
  }

  void Drop(uint64_t number) { questions_.erase(number); }

  Result<void> SetServers(const std::vector<SocketAddress>& servers) {
    // It takes no others while it waits for these: what is open is asked again.
    resetting_ = true;
    ares_cancel(channel_);
    resetting_ = false;
    std::vector<ares_addr_port_node> nodes(servers.size());
    for (size_t i = 0; i < servers.size(); ++i) {
      nodes[i].next = i + 1 < servers.size() ? &nodes[i + 1] : nullptr;
      nodes[i].family = servers[i].get()->sa_family;
      nodes[i].udp_port = nodes[i].tcp_port = servers[i].port();
      if (servers[i].is_ipv6()) {
        const auto* v6 = reinterpret_cast<const sockaddr_in6*>(servers[i].get());
        std::memcpy(&nodes[i].addr.addr6, &v6->sin6_addr, sizeof v6->sin6_addr);
      } else {
        nodes[i].addr.addr4 = reinterpret_cast<const sockaddr_in*>(servers[i].get())->sin_addr;
      }
    }
    const int status = ares_set_servers_ports(channel_, nodes.empty() ? nullptr : nodes.data());
    std::vector<uint64_t> open;
    for (const auto& [number, question] : questions_) {
      if (!question.answer) open.push_back(number);
    }
    for (const uint64_t number : open) Send(number);
    if (status != ARES_SUCCESS) return Error(ares_strerror(status));
    return {};
  }

 private:
  struct Question {
    std::string name;
    Family family;
    std::function<void(const DnsAnswer&)> on_answer;
    uint64_t received_before;
    std::optional<DnsAnswer> answer;
  };
  // What c-ares knows a question by.
  struct Sent {
    Impl& impl;
    uint64_t number;
  };

  void Send(uint64_t number) {
    const Question& question = questions_.at(number);
    ares_query(channel_, question.name.c_str(), ns_c_in,
               question.family == Family::kIpv4 ? ns_t_a : ns_t_aaaa, OnAnswer,
               new Sent{*this, number});
    Rearm();
  }

  static void OnAnswer(void* argument, int status, int, unsigned char* bytes, int size) {
    const std::unique_ptr<const Sent> sent(static_cast<const Sent*>(argument));
    Impl& self = sent->impl;
    if (self.closing_ || self.resetting_) return;
    const auto question = self.questions_.find(sent->number);
    if (question == self.questions_.end()) return;
    DnsAnswer answer = ReadAnswer(question->second.family, status, bytes, size);
    // "Connection refused" is also what c-ares (1.18) makes of servers that only say that they
    // cannot tell.
    if (answer.kind == DnsAnswer::Kind::kNoServer &&
        self.received_ != question->second.received_before) {
      answer.kind = DnsAnswer::Kind::kFailed;
    }
    question->second.answer = std::move(answer);
    // Not from here: c-ares may be in the middle of something.
    if (self.deliver_) return;
    self.deliver_ = self.clock_.After(Milliseconds(0), [&self] { self.Deliver(); });
  }

  void Deliver() {
    deliver_.reset();
    std::vector<uint64_t> answered;
    for (const auto& [number, question] : questions_) {
      if (question.answer) answered.push_back(number);
    }
    for (const uint64_t number : answered) {
      // One of those that were told before may have dropped it.
      const auto node = questions_.extract(number);
      if (node) node.mapped().on_answer(*node.mapped().answer);
    }
  }

  // c-ares says what it waits for; before it closes a socket, nothing.
  void Watch(ares_socket_t fd, bool readable, bool writable) {
    if (!readable && !writable) {
      pollers_.erase(fd);
      return;
    }
    std::unique_ptr<Poller>& poller = pollers_[fd];
    if (!poller) {
      Result<std::unique_ptr<Poller>> made =
          Poller::Watch(loop_, fd, [this, fd](Poller::Ready ready) { OnReady(fd, ready); });
      if (!made) {  // the question times out
        pollers_.erase(fd);
        return;
      }
      poller = *std::move(made);
    }
    poller->WaitFor(readable, writable);
  }

  void OnReady(ares_socket_t fd, Poller::Ready ready) {
    ares_process_fd(channel_, ready.readable ? fd : ARES_SOCKET_BAD,
                    ready.writable ? fd : ARES_SOCKET_BAD);
    Rearm();
  }

  void Rearm() {
    timeval room{};
    const timeval* const left = ares_timeout(channel_, nullptr, &room);
    if (left == nullptr) {
      timer_.reset();
      return;
    }
    // Rounded up: a timer that fires too early would find nothing to do, again and again.
    const Milliseconds wait(left->tv_sec * 1'000 + left->tv_usec / 1'000 + 1);
    timer_ = clock_.After(wait, [this] {
      ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      Rearm();
    });
  }

  Loop& loop_;
  Clock& clock_;
  uint64_t received_ = 0;  // messages from servers
  uint64_t last_ = 0;
  std::map<uint64_t, Question> questions_;
  std::map<ares_socket_t, std::unique_ptr<Poller>> pollers_;
  std::unique_ptr<Timer> timer_;
  std::unique_ptr<Timer> deliver_;
  bool closing_ = false;
  bool resetting_ = false;
  ares_channel channel_ = nullptr;
};

Result<std::unique_ptr<AresNameServers>> AresNameServers::Create(Loop& loop, Clock& clock,
                                                                 const ResolverSettings& settings) {
  auto impl = std::make_unique<Impl>(loop, clock);
  if (Result<void> opened = impl->Open(settings); !opened) {
    return std::move(opened.error()).While("name servers");
  }
  return std::unique_ptr<AresNameServers>(new AresNameServers(std::move(impl)));
}

AresNameServers::AresNameServers(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AresNameServers::~AresNameServers() = default;

uint64_t AresNameServers::Ask(const std::string& name, Family family,
                              std::function<void(const DnsAnswer&)> on_answer) {
  return impl_->Ask(name, family, std::move(on_answer));
}

void AresNameServers::Drop(uint64_t question) { impl_->Drop(question); }

// Those that c-ares does not take leave it with those it has.
void AresNameServers::SetServers(const std::vector<SocketAddress>& servers) {
  (void)impl_->SetServers(servers);
}

}  // namespace modal::event
