#include "agent/event/name_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/strings.h"
#include "agent/base/unique_fd.h"

namespace modal::event {
namespace {

constexpr size_t kMostHosts = size_t{1} << 20;
constexpr size_t kMostSettings = size_t{64} << 10;
constexpr size_t kLongestName = 253;
constexpr size_t kLongestLabel = 63;
// As the C library has it (resolv.conf(5)).
constexpr size_t kMostServers = 3;
constexpr size_t kMostSearched = 32;
constexpr uint64_t kMostDots = 15;
constexpr uint64_t kLongestTimeout = 30;
constexpr uint64_t kMostAttempts = 5;
constexpr uint16_t kDnsPort = 53;

// Up to `most` bytes, whole lines only; nothing if it cannot be read.
std::string ReadUpTo(const char* path, size_t most) {
  std::string text;
  // O_NONBLOCK: whatever stands there, nobody waits for it.
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return text;
  text.resize(most + 1);
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > most) size = text.rfind('\n', most) + 1;  // 0: no line is whole
  text.resize(size);
  return text;
}

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// The next line without its comment; false at the end.
bool NextLine(std::string_view& text, std::string_view marks, std::string_view& line) {
  if (text.empty()) return false;
  const size_t end = text.find('\n');
  line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  line = line.substr(0, line.find_first_of(marks));
  return true;
}

// The next word; empty at the end.
std::string_view NextWord(std::string_view& line) {
  const auto* const begin = std::find_if_not(line.begin(), line.end(), IsBlank);
  const auto* const end = std::find_if(begin, line.end(), IsBlank);
  const std::string_view word(begin, static_cast<size_t>(end - begin));
  line.remove_prefix(static_cast<size_t>(end - line.begin()));
  return word;
}

std::string_view WithoutDot(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  return name;
}

bool SameName(std::string_view a, std::string_view b) {
  return a.size() == b.size() && LowerCase(a) == LowerCase(b);
}

void AddOnce(std::vector<SocketAddress>& addresses, const SocketAddress& address) {
  if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
    addresses.push_back(address);
  }
}

// "ndots:5": the number behind `name`, at most `most`.
void TakeNumber(std::string_view option, std::string_view name, uint64_t most,
                std::optional<uint64_t>& value) {
  if (!option.starts_with(name)) return;
  const std::optional<uint64_t> number = ParseUnsigned(option.substr(name.size()));
  if (number) value = std::min(*number, most);
}

void TakeOptions(std::string_view line, ResolverSettings& settings) {
  std::optional<uint64_t> ndots, timeout, attempts;
  for (std::string_view word = NextWord(line); !word.empty(); word = NextWord(line)) {
    TakeNumber(word, "ndots:", kMostDots, ndots);
    TakeNumber(word, "timeout:", kLongestTimeout, timeout);
    TakeNumber(word, "attempts:", kMostAttempts, attempts);
  }
  if (ndots) settings.ndots = static_cast<size_t>(*ndots);
  if (timeout) settings.timeout = std::chrono::seconds(std::max<uint64_t>(*timeout, 1));
  if (attempts) settings.attempts = static_cast<int>(std::max<uint64_t>(*attempts, 1));
}

}  // namespace

NameFiles ReadNameFiles() {
  return {ReadUpTo("/etc/hosts", kMostHosts), ReadUpTo("/etc/resolv.conf", kMostSettings)};
}

bool IsHostName(std::string_view name) {
  name = WithoutDot(name);
  if (name.empty() || name.size() > kLongestName) return false;
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  std::string_view label;
  for (std::string_view rest = name;;) {
    const size_t dot = rest.find('.');
    label = rest.substr(0, dot);
    if (label.empty() || label.size() > kLongestLabel || label.front() == '-' ||
        label.back() == '-' || !std::all_of(label.begin(), label.end(), is_plain)) {
      return false;
    }
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  return label.find_first_not_of("0123456789") != std::string_view::npos;
}

std::vector<SocketAddress> FindInHosts(std::string_view hosts, std::string_view name) {
  name = WithoutDot(name);
  std::vector<SocketAddress> found;
  std::string_view line;
  while (NextLine(hosts, "#", line)) {
    const Result<SocketAddress> address = SocketAddress::Parse(NextWord(line), 0);
    if (!address) continue;
    for (std::string_view word = NextWord(line); !word.empty(); word = NextWord(line)) {
      if (SameName(WithoutDot(word), name)) AddOnce(found, *address);
    }
  }
  const std::string lower = LowerCase(name);
  const bool local = std::all_of(found.begin(), found.end(),
                                 [](const SocketAddress& one) { return one.is_loopback(); });
  if (local && (lower == "localhost" || lower.ends_with(".localhost"))) {
    AddOnce(found, *SocketAddress::Parse("127.0.0.1", 0));
    AddOnce(found, *SocketAddress::Parse("::1", 0));
  }
  return found;
}

ResolverSettings ParseResolverSettings(std::string_view text) {
  ResolverSettings settings;
  std::string_view line;
  while (NextLine(text, "#;", line)) {
    const std::string_view keyword = NextWord(line);
    if (keyword == "nameserver") {
      const Result<SocketAddress> server = SocketAddress::Parse(NextWord(line), kDnsPort);
      if (server && settings.servers.size() < kMostServers) settings.servers.push_back(*server);
    } else if (keyword == "search" || keyword == "domain") {
      settings.search.clear();
      for (std::string_view word = NextWord(line); !word.empty(); word = NextWord(line)) {
        const std::string_view domain = WithoutDot(word);
        if (IsHostName(domain) && settings.search.size() < kMostSearched) {
          settings.search.push_back(LowerCase(domain));
        }
        if (keyword == "domain") break;
      }
    } else if (keyword == "options") {
      TakeOptions(line, settings);
    }
  }
  if (settings.servers.empty()) {
    settings.servers.push_back(*SocketAddress::Parse("127.0.0.1", kDnsPort));
  }
  return settings;
}

std::vector<std::string> NamesToAsk(std::string_view name, const ResolverSettings& settings) {
  const std::string whole(WithoutDot(name));
  if (name.ends_with('.')) return {whole};
  std::vector<std::string> names;
  for (const std::string& domain : settings.search) names.push_back(Concat(whole, ".", domain));
  const auto dots = static_cast<size_t>(std::count(whole.begin(), whole.end(), '.'));
  names.insert(dots >= settings.ndots ? names.begin() : names.end(), whole);
  return names;
}

}  // namespace modal::event
