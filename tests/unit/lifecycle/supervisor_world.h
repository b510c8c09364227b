// A Supervisor and everything around it made up: a test says what starts, listens, ends and
// signals.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>

#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/status_board.h"
#include "lifecycle/supervisor.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_gateway.h"
#include "tests/support/fake_launcher.h"
#include "tests/support/fake_log.h"
#include "tests/support/fake_process_tree.h"
#include "tests/support/fake_snapshots.h"
#include "tests/support/fake_socket_table.h"
#include "tests/support/fake_tree_keeper.h"

namespace modal::lifecycle {

using namespace std::chrono_literals;
using Signals = std::vector<int>;

struct World {
  using Started = test::FakeLauncher::Started;

  World();
  ~World();

  // The agent's side.
  void Start();
  Phase phase() const { return supervisor->phase(); }
  std::string stop_by() const { return std::string(BoardText(published.stop_by)); }
  std::string stop_reason() const { return std::string(BoardText(published.stop_reason)); }

  // The world's side.
  void Listen(const std::string& address = "0.0.0.0", uint16_t port = 8000, uint64_t inode = 7);
  void Unlisten() { table.listeners.clear(); }
  // Starts, and listens.
  void Serve();
  // Connections that count as being in flight.
  void HaveConnections(size_t count);
  void Signal(int number, pid_t sender = 12);
  // A process ends: one that was launched, or any other one of the tree.
  void Exit(pid_t pid, ExitStatus status);
  void ExitLast(ExitStatus status) { Exit(launcher.started.back().pid, status); }
  // From now on whoever is told to end does so, on the next turn.
  void EverybodyObeys();
  Started& last() { return launcher.started.back(); }
  // The first word of each command that was launched.
  std::vector<std::string> Commands() const;

  event::Loop loop;
  test::FakeClock clock;
  test::FakeLog log;
  test::FakeLauncher launcher;
  test::FakeProcessTree tree;
  test::FakeSocketTable table;
  test::FakeSocketOwners owners;
  test::FakeGateway gateway;
  bool has_gateway = false;
  test::FakeSnapshots snapshots;
  test::FakeTreeKeeper keeper{launcher};
  bool has_snapshots = false;
  std::set<uint64_t> own_listeners;
  Seat seat = Seat::kNone;
  Options options;
  ExitStatus last_orphan;
  Result<Options> reload = Error("nothing to reload");
  health::AgentStatus published = health::NewAgentStatus();
  std::optional<int> exit_code;
  std::list<std::unique_ptr<Timer>> dying;
  std::unique_ptr<Supervisor> supervisor;
};

}  // namespace modal::lifecycle
