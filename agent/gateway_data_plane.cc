#include "agent/gateway_data_plane.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "agent/base/strings.h"

namespace modal {
namespace {

// Counters are told this long after the first of them has changed.
constexpr Milliseconds kTellChange{100};

adapters::Mode ModeOf(health::Carriage carriage) {
  switch (carriage) {
    case health::Carriage::kNotYet:
      return adapters::Mode::kNotYet;
    case health::Carriage::kServing:
      return adapters::Mode::kServing;
    case health::Carriage::kDraining:
      return adapters::Mode::kDraining;
    case health::Carriage::kCutting:
      return adapters::Mode::kCutting;
  }
  return adapters::Mode::kNotYet;
}

}  // namespace

Result<std::shared_ptr<const adapters::PolicySet>> ReadPolicy(int config_fd,
                                                              const adapters::PolicySet* before) {
  const off_t size = ::lseek(config_fd, 0, SEEK_END);
  if (size < 0) return Error::FromErrno("settings", errno);
  std::vector<char> bytes(static_cast<size_t>(size));
  if (::pread(config_fd, bytes.data(), bytes.size(), 0) != size) {
    return Error::FromErrno("settings", errno);
  }
  policy::GatewayConfig config{};
  if (bytes.size() < sizeof config) return Error("the settings are too short");
  std::memcpy(&config, bytes.data(), sizeof config);
  const size_t tokens_size = config.token_count * sizeof(policy::TokenRecord);
  const size_t expected = sizeof config + tokens_size + config.hosts_size + config.resolver_size;
  if (bytes.size() != expected || config.trusted_count > std::size(config.trusted)) {
    return Error("the settings are not what they say");
  }
  std::vector<policy::TokenRecord> records(config.token_count);
  if (!records.empty()) {
    std::memcpy(records.data(), bytes.data() + sizeof config, tokens_size);
  }
  const std::string_view texts =
      std::string_view(bytes.data(), bytes.size()).substr(sizeof config + tokens_size);
  event::NameFiles names{std::string(texts.substr(0, config.hosts_size)),
                         std::string(texts.substr(config.hosts_size))};
  auto policy = std::make_shared<adapters::PolicySet>(config, records, std::move(names));
  if (before != nullptr && before->config.rate_limit == config.rate_limit &&
      before->config.rate_burst == config.rate_burst) {
    policy->limiter = before->limiter;
  }
  return std::shared_ptr<const adapters::PolicySet>(std::move(policy));
}

// The first time that the C library gives memory of a thread back to the kernel, it looks into
// /proc/sys/vm/overcommit_memory for how to do that: better before the process is sealed. Blocks of
// a size that comes from the thread's own heap, and together more than the heap keeps for later.
void GiveMemoryBackOnce() {
  std::array<void*, 16> blocks;
  for (void*& block : blocks) block = std::malloc(size_t{96} * 1024);
  // The compiler would leave both out.
  asm volatile("" : : "r"(blocks.data()) : "memory");
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) std::free(*block);
}

// A loop with its thread, which waits to be let go. What a thread does to begin with (rseq,
// set_robust_list) is not allowed any more once the process is sealed.
struct GatewayDataPlane::Thread {
  enum class State { kNew, kBegun, kLetGo };

  void Run() {
    GiveMemoryBackOnce();
    Advance(State::kBegun);
    Await(State::kLetGo);
    loop->Run();
  }
  void Advance(State to) {
    const std::lock_guard lock(mutex);
    state = to;
    changed.notify_all();
  }
  void Await(State wanted) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this, wanted] { return state >= wanted; });
  }

  std::unique_ptr<event::Loop> loop;
  std::unique_ptr<event::UvClock> clock;
  std::mutex mutex;
  std::condition_variable changed;
  State state = State::kNew;
  std::thread thread;
};

GatewayDataPlane::GatewayDataPlane(Parts parts)
    : parts_(std::move(parts)),
      places_(parts_.policy->config.max_concurrency, parts_.policy->config.queue,
              static_cast<uint32_t>(parts_.listeners.size())),
      tasks_(parts_.loop) {}

GatewayDataPlane::~GatewayDataPlane() = default;

Result<std::unique_ptr<GatewayDataPlane>> GatewayDataPlane::Create(Parts parts) {
  std::unique_ptr<GatewayDataPlane> plane(new GatewayDataPlane(std::move(parts)));
  std::vector<UniqueFd> listeners = std::move(plane->parts_.listeners);
  const size_t count = listeners.size();
  plane->parts_.most_connections = std::max<size_t>(1, plane->parts_.most_connections / count);
  plane->quiet_.resize(count);
  for (UniqueFd& listener : listeners) {
    if (Result<void> added = plane->AddWorker(std::move(listener)); !added) {
      return std::move(added.error()).While("data plane");
    }
  }
  return plane;
}

Result<void> GatewayDataPlane::AddWorker(UniqueFd listener) {
  const auto number = static_cast<uint32_t>(workers_.size());
  event::Loop* loop = &parts_.loop;
  Clock* clock = &parts_.clock;
  // The first shares the main loop; so does any other for which there is no thread, since the
  // kernel hands connections to each listener, whoever looks after it.
  if (number > 0) {
    auto thread = std::make_unique<Thread>();
    if (Result<std::unique_ptr<event::Loop>> own = event::Loop::Create(); own) {
      thread->loop = *std::move(own);
      thread->clock = std::make_unique<event::UvClock>(*thread->loop);
      try {
        thread->thread = std::thread([its = thread.get()] { its->Run(); });
        thread->Await(Thread::State::kBegun);
        loop = thread->loop.get();
        clock = thread->clock.get();
        threads_.push_back(std::move(thread));
      } catch (const std::system_error& error) {
        parts_.log.Warn("gateway.threads", {{"message", Concat("no thread: ", error.what())}});
        thread->clock.reset();
      }
    }
  }
  Result<std::unique_ptr<GatewayWorker>> worker = GatewayWorker::Create(
      {*loop, *clock, places_, number, std::move(listener),
       UniqueFd(::fcntl(parts_.access_log.get(), F_DUPFD_CLOEXEC, 0)), parts_.policy,
       parts_.most_connections,
       [this] {
         const std::optional<health::AgentStatus> status = parts_.agent_board.Read();
         return status && status->ready;
       },
       [this](uint32_t other) { workers_[other]->GiveTurns(); }, [this] { NoteChange(); },
       [this, number](uint32_t order) {
         tasks_.Post([this, number, order] { OnQuiet(number, order); });
       }});
  if (!worker) return std::move(worker.error());
  workers_.push_back(*std::move(worker));
  return {};
}

void GatewayDataPlane::Run() {
  for (const std::unique_ptr<Thread>& thread : threads_) {
    thread->thread.detach();
    thread->Advance(Thread::State::kLetGo);
  }
}

void GatewayDataPlane::SetCarriage(health::Carriage carriage, uint32_t order) {
  order_ = order;
  std::fill(quiet_.begin(), quiet_.end(), false);
  for (const auto& worker : workers_) worker->SetMode(ModeOf(carriage), order);
}

void GatewayDataPlane::OnQuiet(uint32_t worker, uint32_t order) {
  if (order != order_) return;
  quiet_[worker] = true;
  if (std::all_of(quiet_.begin(), quiet_.end(), [](bool quiet) { return quiet; })) {
    parts_.on_drained(order);
  }
}

void GatewayDataPlane::Reconfigure(std::shared_ptr<const adapters::PolicySet> policy,
                                   UniqueFd access_log) {
  parts_.policy = std::move(policy);
  parts_.access_log = std::move(access_log);
  places_.SetLimits(parts_.policy->config.max_concurrency, parts_.policy->config.queue);
  for (const auto& worker : workers_) {
    worker->SetPolicy(parts_.policy,
                      UniqueFd(::fcntl(parts_.access_log.get(), F_DUPFD_CLOEXEC, 0)));
  }
}

void GatewayDataPlane::AddTo(policy::TrafficStatus& sum) const {
  for (const auto& worker : workers_) policy::AddTo(sum, worker->traffic());
}

// On any thread: the first change of a while wakes the main loop.
void GatewayDataPlane::NoteChange() {
  if (changed_.load(std::memory_order_relaxed) || changed_.exchange(true)) return;
  tasks_.Post([this] {
    tell_change_ = parts_.clock.After(kTellChange, [this] {
      changed_.store(false);
      parts_.on_change();
    });
  });
}

}  // namespace modal
