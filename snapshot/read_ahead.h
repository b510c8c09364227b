// Reads folders before somebody asks for them who walks through the same trees: he goes from the
// first name of the first tree on, a thread of ours from the last name of the last tree, and where
// they meet the work is done. It only takes time of CPUs that nobody else wants: what goes on
// beside it comes first. What is found is what he would have found himself: whatever has not been
// read he reads, and never waits.
//
// Nothing is entered that lies on another mount than the root's, and no conda prefix, of which
// little counts.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "snapshot/listing.h"

namespace modal::snapshot {

struct SeenEntry {
  int code = 0;  // of a look at it: what is no folder and no link
  FileFacts facts;
  std::optional<std::string> target;  // of a link
};

struct SeenFolder {
  FileFacts facts;
  Listing listing;
  std::vector<SeenEntry> entries;  // as the listing has them
};

class ReadAhead {
 public:
  // Whether a folder of this name in this folder is worth it; called from our thread.
  using Enters = std::function<bool(const std::string& folder, const char* name)>;

  // `trees`: paths below `root`, which is open on a folder of the mount `mount`.
  ReadAhead(int root, uint64_t mount, std::vector<std::string> trees, Enters enters);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // Null: it has not been read, and need not be any more.
  std::shared_ptr<const SeenFolder> Take(const std::string& path);
  // All below it has been asked for.
  void Leave(const std::string& path);

 private:
  enum class State { kReading, kRead, kTaken, kLeft };
  struct Folder {
    State state;
    std::shared_ptr<const SeenFolder> seen;
  };

  void Run();
  void Walk(int above, const char* name, int depth);
  std::shared_ptr<SeenFolder> Read(int folder) const;
  std::optional<State> Claim();
  void Put(std::shared_ptr<const SeenFolder> seen);
  void WalkWithin(int folder, const Listing& listing, int depth);
  bool IsOver();

  const int root_;
  const uint64_t mount_;
  const std::vector<std::string> trees_;
  const Enters enters_;
  std::string path_;  // of the folder that the thread is in
  size_t entries_ = 0;

  std::mutex mutex_;
  std::unordered_map<std::string, Folder> folders_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace modal::snapshot
