#include "snapshot/key_inquiry.h"

namespace modal::snapshot {

KeyInquiry::KeyInquiry(const Job& job) : job_(job) {
  const auto identify = [&job] {
    return IdentifyImage(job.explicit_key, kStampFile, job.fingerprint);
  };
  if (job.explicit_key.empty()) {
    later_ = std::async(std::launch::async, identify);
  } else {
    image_ = identify();
  }
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
