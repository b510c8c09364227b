#include "tests/unit/lifecycle/supervisor_world.h"

namespace modal::lifecycle {

World::World() {
  options.command = {"./server"};
  options.port = 8000;
  options.hook_timeout = 10min;
  options.startup_timeout = 5s;
  options.health_interval = 10s;
  options.health_timeout = 2s;
  options.health_threshold = 3;
  options.exit_grace_period = 5s;
  options.stop_timeout = 30s;
  launcher.on_started = [this](const Started& one) { tree.Add(one.pid); };
}

World::~World() = default;

void World::Start() {
  Supervisor::Parts parts{loop,
                          clock,
                          log.log,
                          launcher,
                          tree,
                          table,
                          owners,
                          has_gateway ? &gateway : nullptr,
                          [this](const health::AgentStatus& now) { published = now; },
                          [this] { return last_orphan; },
                          [](health::AgentStatus& now) { now.orphans_reaped = 77; },
                          [this](std::vector<std::string>&) { return reload; },
                          own_listeners,
                          has_snapshots ? &snapshots : nullptr,
                          has_snapshots ? &keeper : nullptr};
  supervisor = std::make_unique<Supervisor>(
      options, std::move(parts), [this] { return seat; },
      [this](int code) {
        CHECK_FALSE(exit_code);
        exit_code = code;
      });
  supervisor->Start();
}

void World::Listen(const std::string& address, uint16_t port, uint64_t inode) {
  table.listeners.push_back(test::ListenerOn(address, port, inode));
  clock.Advance(20ms);  // the longest pause between two looks
}

void World::Serve() {
  Start();
  Listen();
  REQUIRE(phase() == Phase::kServing);
}

void World::HaveConnections(size_t count) {
  table.connections.assign(count, health::Connection());
  for (health::Connection& connection : table.connections) {
    connection.local = test::AddressOf("127.0.0.1", 8000);
    connection.receive_queue = 1;
  }
}

void World::Signal(int number, pid_t sender) { supervisor->OnSignal({number, sender, 0, false}); }

void World::Exit(pid_t pid, ExitStatus status) {
  Started* one = launcher.Find(pid);
  if (!one || !one->watched) last_orphan = status;
  if (one) launcher.Exit(*one, status);
  tree.Remove(pid);
  supervisor->OnChildrenCollected();
  clock.Turn();
}

void World::EverybodyObeys() {
  tree.on_signal = [this](pid_t pid, int signal) {
    if (signal != SIGTERM && signal != SIGKILL) return;
    dying.push_back(clock.After(Milliseconds(0), [this, pid, signal] {
      if (tree.IsAlive(pid)) Exit(pid, ExitStatus::Signal(signal));
    }));
  };
}

std::vector<std::string> World::Commands() const {
  std::vector<std::string> commands;
  for (const Started& one : launcher.started) commands.push_back(one.spec.argv.at(0));
  return commands;
}

}  // namespace modal::lifecycle
