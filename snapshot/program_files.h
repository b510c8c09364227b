// Where to look for the files that a program is made of: what the words of a command, its
// environment and the kind of its interpreter lead to. Says where, not what is there
// (fingerprint.h, whose rules these are).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "snapshot/fingerprint.h"

namespace modal::snapshot {

enum class PartKind {
  kFile,      // one of the program's own files
  kProgram,   // a program found by PATH: as a package's file
  kShallow,   // a folder's own files, without what is in its folders
  kHome,      // working folder, a script's folder: with all below
  kNamed,     // another folder that a word names
  kPackages,  // a package folder
  kEtc,       // of the rest of the image: by contents
  kRest,      // of the rest of the image
  kNames,     // the names in a folder and nothing else
};

struct Part {
  PartKind kind;
  std::string path;  // resolved, without leading slash

  bool operator==(const Part&) const = default;
};

// In the order in which they are to be looked at: of two that hold the same folder the closer look
// comes first. `root` is open on spec.root. An Error: the working folder is not there.
Result<std::vector<Part>> PartsOf(const FingerprintSpec& spec, int root);

// Folders that belong to the system: a program may live there among others.
bool IsSystemFolder(std::string_view path);

// What may name files in a text of a shell, or in one word ("--config=/etc/x", "a.jar:b.jar",
// "main:app"): pieces between blanks, quotes and the shell's signs, each once.
std::vector<std::string> WordsIn(std::string_view text);

}  // namespace modal::snapshot
