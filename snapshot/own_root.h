// Whether a folder ends with its container: it stands on the container's own root, and no other
// container will ever see what is put there. An image in which it stands has it too, but then as it
// was when the image was made.
//
// Containers have an overlay file system as their root; a machine's own root, and that of a virtual
// machine, has another, and is nobody's to warn of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace modal::snapshot {

struct FolderPlace {
  uint64_t device = 0;           // of the folder
  uint64_t root_device = 0;      // of "/"
  int64_t root_file_system = 0;  // of "/": f_type of statfs()
};

bool EndsWithContainer(const FolderPlace& place);

// As of now; of a folder that is still to be made, where it would be. Nothing if that cannot be
// told. Whoever has just used the folder is not held up: of a network volume the kernel tells what
// it remembers.
std::optional<FolderPlace> LookAtPlace(const std::string& folder);

}  // namespace modal::snapshot
