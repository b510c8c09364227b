#include "agent/event/waker.h"

#include "agent/base/check.h"
#include "agent/event/handle.h"

namespace modal::event {

struct Waker::Impl {
  HandlePtr<uv_async_t> handle;
  std::function<void()> on_wake;
};

Waker::Waker(Loop& loop, std::function<void()> on_wake) : impl_(std::make_unique<Impl>()) {
  auto handle = std::make_unique<uv_async_t>();
  MODAL_CHECK(uv_async_init(loop.uv(), handle.get(), [](uv_async_t* async) {
                // It may destroy us, and with us the function that is running.
                const std::function<void()> run_now = static_cast<Impl*>(async->data)->on_wake;
                run_now();
              }) == 0);
  handle->data = impl_.get();
  impl_->handle.reset(handle.release());
  impl_->on_wake = std::move(on_wake);
  uv_unref(reinterpret_cast<uv_handle_t*>(impl_->handle.get()));
}

Waker::~Waker() = default;

void Waker::Wake() { uv_async_send(impl_->handle.get()); }

}  // namespace modal::event
