#include "agent/event/poller.h"

#include <cerrno>

#include "agent/event/handle.h"

namespace modal::event {

struct Poller::Impl {
  HandlePtr<uv_poll_t> handle;
  std::function<void(Ready)> on_ready;
  int waiting_for = 0;
};

namespace {

template <class Impl>
void OnPoll(uv_poll_t* handle, int status, int events) {
  auto* impl = static_cast<Impl*>(handle->data);
  // The callback may destroy the Poller, and with it the function that is running.
  const std::function<void(Poller::Ready)> on_ready = impl->on_ready;
  if (status < 0) {
    // libuv stops watching a descriptor that has an error. But what was received before the error
    // may take more than one read.
    uv_poll_start(handle, impl->waiting_for, OnPoll<Impl>);
    return on_ready({true, true});
  }
  on_ready({(events & (UV_READABLE | UV_DISCONNECT)) != 0, (events & UV_WRITABLE) != 0});
}

}  // namespace

Result<std::unique_ptr<Poller>> Poller::Watch(Loop& loop, int fd,
                                              std::function<void(Ready)> on_ready) {
  auto impl = std::make_unique<Impl>();
  auto handle = std::make_unique<uv_poll_t>();
  if (const int status = uv_poll_init(loop.uv(), handle.get(), fd); status != 0) {
    return Error::FromErrno("watch descriptor", -status);
  }
  impl->handle.reset(handle.release());
  impl->handle->data = impl.get();
  impl->on_ready = std::move(on_ready);
  return std::unique_ptr<Poller>(new Poller(std::move(impl)));
}

Poller::Poller(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Poller::~Poller() = default;

void Poller::WaitFor(bool readable, bool writable) {
  const int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
  if (events == impl_->waiting_for) return;
  impl_->waiting_for = events;
  if (events == 0) {
    uv_poll_stop(impl_->handle.get());
  } else {
    uv_poll_start(impl_->handle.get(), events, OnPoll<Impl>);
  }
}

}  // namespace modal::event
