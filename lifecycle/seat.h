// Whether somebody sits at our terminal, and whether it is our turn there.
#pragma once

namespace modal::lifecycle {

enum class Seat {
  kNone,        // no terminal
  kBackground,  // a terminal that belongs to somebody else now: started with &, continued by `bg`
  kForeground,
};

}  // namespace modal::lifecycle
