#include "snapshot/key_inquiry.h"

#include <chrono>

namespace modal::snapshot {

Result<ImageIdentity> IdentifyImageOf(const Job& job) {
  return IdentifyImage(job.explicit_key, kStampFile, job.fingerprint);
}

KeyInquiry::KeyInquiry(const Job& job, const Identify& identify) : job_(job) {
  if (!job.image_identity.empty()) {
    image_ = ImageIdentity{job.image_identity};
  } else if (job.explicit_key.empty()) {
    later_ = std::async(std::launch::async, [&job, identify] { return identify(job); });
  } else {
    image_ = identify(job);
  }
}

bool KeyInquiry::is_known() const {
  return !later_.valid() || later_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

const Result<ImageIdentity>& KeyInquiry::Await() {
  if (later_.valid()) image_ = later_.get();
  is_told_ = true;
  if (*image_) key_ = KeyFor((*image_)->text);
  return *image_;
}

Key KeyInquiry::KeyFor(const std::string& image_identity) const {
  KeyInputs inputs = job_.inputs;
  inputs.image.text = image_identity;
  return MakeKey(inputs);
}

}  // namespace modal::snapshot
