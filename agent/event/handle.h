// Owning pointers to libuv handles: destroying one closes the handle, and the memory goes when
// libuv says that it has let go. Only for the .cc files of this folder.
#pragma once

#include <uv.h>

#include <memory>

namespace modal::event {

struct CloseHandle {
  template <class Handle>
  void operator()(Handle* handle) const {
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
  }
};

template <class Handle>
using HandlePtr = std::unique_ptr<Handle, CloseHandle>;

}  // namespace modal::event
