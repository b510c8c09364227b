// A Supervisor and everything around it made up: a test says what starts, listens, ends and
// signals.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/status_board.h"
#include "lifecycle/supervisor.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_gateway.h"
#include "tests/support/fake_launcher.h"
#include "tests/support/fake_log.h"
#include "tests/support/fake_process_tree.h"
#include "tests/support/fake_socket_table.h"

namespace modal::lifecycle {

using namespace std::chrono_literals;
using Signals = std::vector<int>;

struct World {
  using Started = test::FakeLauncher::Started;

  World() {
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
  // Timers of the fake clock must not outlive it.
  ~World() { dying.clear(); }

  // The agent's side.
  void Start() {
    supervisor = std::make_unique<Supervisor>(
        options,
        Supervisor::Parts{loop, clock, log.log, launcher, tree, table, owners,
                          has_gateway ? &gateway : nullptr,
                          [this](const health::AgentStatus& now) { published = now; },
                          [this] { return last_orphan; },
                          [this](health::AgentStatus& now) { now.orphans_reaped = 77; },
                          [this] { return reload; }},
        terminal, [this](int code) {
          CHECK_FALSE(exit_code);
          exit_code = code;
        });
    supervisor->Start();
  }
  Phase phase() const { return supervisor->phase(); }
  std::string stop_by() const { return std::string(BoardText(published.stop_by)); }
  std::string stop_reason() const { return std::string(BoardText(published.stop_reason)); }

  // The world's side.
  void Listen(const std::string& address = "0.0.0.0", uint16_t port = 8000, uint64_t inode = 7) {
    table.listeners.push_back(test::ListenerOn(address, port, inode));
    clock.Advance(20ms);  // the longest pause between two looks
  }
  void Unlisten() { table.listeners.clear(); }
  void Serve() {
    Start();
    Listen();
    REQUIRE(phase() == Phase::kServing);
  }
  // Connections that count as being in flight.
  void HaveConnections(size_t count) {
    table.connections.assign(count, health::Connection());
    for (health::Connection& connection : table.connections) {
      connection.local.port = 8000;
      connection.receive_queue = 1;
    }
  }
  void Signal(int number, pid_t sender = 12) { supervisor->OnSignal({number, sender, 0, false}); }
  // A process ends: one that was launched, or any other one of the tree.
  void Exit(pid_t pid, ExitStatus status) {
    Started* one = launcher.Find(pid);
    if (one) {
      const bool was_watched = one->watched;
      launcher.Exit(*one, status);
      if (!was_watched) last_orphan = status;
    } else {
      last_orphan = status;
    }
    tree.Remove(pid);
    supervisor->OnChildrenCollected();
    clock.Turn();
  }
  void ExitLast(ExitStatus status) { Exit(launcher.started.back().pid, status); }
  // From now on whoever is told to end does so, on the next turn.
  void EverybodyObeys() {
    tree.on_signal = [this](pid_t pid, int signal) {
      if (signal != SIGTERM && signal != SIGKILL && signal != SIGQUIT) return;
      dying.push_back(clock.After(Milliseconds(0), [this, pid, signal] {
        if (tree.IsAlive(pid)) Exit(pid, ExitStatus::Signal(signal));
      }));
    };
  }
  Started& last() { return launcher.started.back(); }
  std::vector<std::string> Commands() const {
    std::vector<std::string> commands;
    for (const Started& one : launcher.started) commands.push_back(one.spec.argv.at(0));
    return commands;
  }

  event::Loop loop;
  test::FakeClock clock;
  test::FakeLog log;
  test::FakeLauncher launcher;
  test::FakeProcessTree tree;
  test::FakeSocketTable table;
  test::FakeSocketOwners owners;
  test::FakeGateway gateway;
  bool has_gateway = false;
  bool terminal = false;
  Options options;
  ExitStatus last_orphan;
  Result<Options> reload = Error("nothing to reload");
  health::AgentStatus published = health::NewAgentStatus();
  std::optional<int> exit_code;
  std::list<std::unique_ptr<Timer>> dying;
  std::unique_ptr<Supervisor> supervisor;
};

}  // namespace modal::lifecycle
