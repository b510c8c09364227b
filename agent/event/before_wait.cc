#include "agent/event/before_wait.h"

#include "agent/event/handle.h"

namespace modal::event {

struct BeforeWait::Impl {
  HandlePtr<uv_prepare_t> handle;
  std::function<void()> run;
};

BeforeWait::BeforeWait(Loop& loop, std::function<void()> run) : impl_(std::make_unique<Impl>()) {
  auto handle = std::make_unique<uv_prepare_t>();
  uv_prepare_init(loop.uv(), handle.get());
  impl_->handle.reset(handle.release());
  impl_->handle->data = impl_.get();
  impl_->run = std::move(run);
  uv_unref(reinterpret_cast<uv_handle_t*>(impl_->handle.get()));
  uv_prepare_start(impl_->handle.get(), [](uv_prepare_t* prepare) {
    // It may destroy us, and with us the function that is running.
    const std::function<void()> run_now = static_cast<Impl*>(prepare->data)->run;
    run_now();
  });
}

BeforeWait::~BeforeWait() = default;

}  // namespace modal::event
