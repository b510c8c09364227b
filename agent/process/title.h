// What `ps` shows of a process: its command line, and its name.
#pragma once

namespace modal::process {

// Where this process's own command line lies, as main() has got it. Before SetTitle().
void KeepArguments(int argc, char** argv);

// Writes over the command line and, where that is shorter, over the environment behind it. For a
// copy of us that has become something else, and has another environment.
void SetTitle(const char* title);

}  // namespace modal::process
