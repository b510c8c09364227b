// The key of this container. What the identity of the image has to look at it looks at beside our
// other work.
#pragma once

#include <functional>
#include <future>
#include <optional>
#include <string>

#include "agent/base/result.h"
#include "snapshot/identity.h"
#include "snapshot/job.h"

namespace modal::snapshot {

// How the image is identified: as the job says (tests have another way).
using Identify = std::function<Result<ImageIdentity>(const Job&)>;
Result<ImageIdentity> IdentifyImageOf(const Job& job);

class KeyInquiry {
 public:
  // The job must outlive it.
  KeyInquiry(const Job& job, const Identify& identify);

  bool takes_time() const { return later_.valid(); }
  bool is_known() const;  // Await() takes no time (any more)
  bool is_told() const { return is_told_; }

  const Result<ImageIdentity>& Await();
  // Null: there is none, or Await() has not been called.
  const Key* key() const { return key_ ? &*key_ : nullptr; }

  // The key that we have if this is the identity of the image.
  Key KeyFor(const std::string& image_identity) const;

 private:
  const Job& job_;
  std::future<Result<ImageIdentity>> later_;
  std::optional<Result<ImageIdentity>> image_;
  std::optional<Key> key_;
  bool is_told_ = false;
};

}  // namespace modal::snapshot
