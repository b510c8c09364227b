// A command line with its environment, parsed as main() would; the files of the machine (config,
// users) are those below `root`, and there are none to begin with.
#pragma once

#include <string>
#include <vector>

#include "agent/cli.h"
#include "agent/config.h"
#include "tests/unit/agent/temp_folder.h"

namespace modal::test {

class CommandLine {
 public:
  explicit CommandLine(std::vector<std::string> words = {}) : words_(std::move(words)) {}

  CommandLine& With(std::string variable) {
    variables_.push_back(std::move(variable));
    return *this;
  }
  CommandLine& AsProcess1() {
    is_process_1_ = true;
    return *this;
  }
  CommandLine& OnTerminal() {
    on_terminal_ = true;
    return *this;
  }
  CommandLine& WithFile(const std::string& name, std::string_view content) {
    root_.Write(name, content);
    return *this;
  }
  const std::string& root() const { return root_.path(); }

  Result<Invocation> Parse() {
    words_.insert(words_.begin(), "modal-agent");
    std::vector<char*> argv = Pointers(words_);
    std::vector<char*> environment = Pointers(variables_);
    environment.push_back(nullptr);
    Surroundings around;
    around.environment = environment.data();
    around.is_process_1 = is_process_1_;
    around.stderr_is_terminal = on_terminal_;
    around.root = root_.path();
    Result<Invocation> parsed = ParseCommandLine(argv, around);
    words_.erase(words_.begin());
    return parsed;
  }
  // Of a command line that is fine.
  Invocation Parsed() {
    Result<Invocation> parsed = Parse();
    MODAL_CHECK(parsed.ok());
    return *std::move(parsed);
  }
  // The error's text, with "ROOT" for the folder; empty if there is none.
  std::string Error() {
    const Result<Invocation> parsed = Parse();
    if (parsed) return "";
    std::string message = parsed.error().message();
    for (size_t at = 0; (at = message.find(root())) != std::string::npos;) {
      message.replace(at, root().size(), "ROOT");
    }
    return message;
  }

 private:
  static std::vector<char*> Pointers(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    return pointers;
  }

  TempFolder root_;
  std::vector<std::string> words_;
  std::vector<std::string> variables_;
  bool is_process_1_ = false;
  bool on_terminal_ = false;
};

}  // namespace modal::test
