// Whether a snapshot's files are still what was published: compares their checksums with those of
// the manifest before anything of the tree runs.
//
// Two threads read. One from the start on: everything but memory, which is little, and must be
// right before CRIU sees it. The other one, once it is told to, the images of memory (pages-N.img),
// while CRIU reads them too. What one of them has found wrong is told by its Await, again and
// again. The destructor ends both, within a piece of a file.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/result.h"
#include "snapshot/manifest.h"

namespace modal::snapshot {

class ImageCheck {
 public:
  // `folder`: the snapshot's. Without `with_memory` that is somebody else's to compare.
  ImageCheck(std::string folder, const std::vector<ImageFile>& files, bool with_memory = true);
  ~ImageCheck();
  ImageCheck(const ImageCheck&) = delete;
  ImageCheck& operator=(const ImageCheck&) = delete;

  Result<void> AwaitOthers();
  // Not before CRIU has come so far: until then the CPU has better things to do. Once.
  void StartMemory();
  // Starts it, if nobody has.
  Result<void> AwaitMemory();

  // Whether the file holds the memory of processes.
  static bool IsMemory(const std::string& name);

 private:
  // One of the two.
  struct Reader {
    std::vector<ImageFile> files;
    Result<void> found;
    std::thread thread;
  };

  bool has_started_memory_ = false;

  void Start(Reader& reader);
  Result<void> Compare(const std::vector<ImageFile>& files) const;
  static Result<void> Await(Reader& reader);

  const std::string folder_;
  std::atomic<bool> is_over_ = false;
  Reader memory_;
  Reader others_;
};

}  // namespace modal::snapshot
