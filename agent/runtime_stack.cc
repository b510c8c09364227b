#include "agent/runtime_stack.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <string_view>

namespace modal {
namespace {

struct Known {
  std::string_view program;  // without its version: "python" of "python3.11"
  std::string_view runtime;
};

constexpr std::array kRuntimes{
    Known{"python", "python"}, Known{"pypy", "python"},     Known{"node", "node"},
    Known{"nodejs", "node"},   Known{"bun", "bun"},         Known{"deno", "deno"},
    Known{"java", "jvm"},      Known{"ruby", "ruby"},       Known{"perl", "perl"},
    Known{"php", "php"},       Known{"php-fpm", "php-fpm"}, Known{"php-cgi", "php"},
    Known{"dotnet", "dotnet"}, Known{"beam.smp", "erlang"}, Known{"nginx", "nginx"},
    Known{"apache", "apache"}, Known{"sh", "shell"},        Known{"dash", "shell"},
    Known{"bash", "shell"},    Known{"ash", "shell"},       Known{"busybox", "shell"},
    Known{"zsh", "shell"},
};

// By what a word of the command line ends in.
struct Framework {
  std::string_view runtime;
  std::string_view word;
  std::string_view name;
};

constexpr std::array kFrameworks{
    Framework{"python", "gunicorn", "gunicorn"},
    Framework{"python", "uvicorn", "uvicorn"},
    Framework{"python", "hypercorn", "hypercorn"},
    Framework{"python", "granian", "granian"},
    Framework{"python", "daphne", "daphne"},
    Framework{"python", "waitress-serve", "waitress"},
    Framework{"python", "uwsgi", "uwsgi"},
    Framework{"python", "flask", "flask"},
    Framework{"python", "manage.py", "django"},
    Framework{"python", "django-admin", "django"},
    Framework{"python", "http.server", "http.server"},
    Framework{"python", "streamlit", "streamlit"},
    Framework{"python", "celery", "celery"},
    Framework{"node", "next", "next"},
    Framework{"node", "nuxt", "nuxt"},
    Framework{"node", "npm", "npm"},
    Framework{"node", "pm2", "pm2"},
    Framework{"ruby", "puma", "puma"},
    Framework{"ruby", "rails", "rails"},
    Framework{"ruby", "unicorn", "unicorn"},
    Framework{"ruby", "rackup", "rack"},
};

// "gunicorn" of "/usr/bin/gunicorn" and of the title "gunicorn:".
std::string_view BaseOf(std::string_view word) {
  const size_t slash = word.rfind('/');
  if (slash != std::string_view::npos) word.remove_prefix(slash + 1);
  while (word.ends_with(':')) word.remove_suffix(1);
  return word;
}

// "python" of "/usr/bin/python3.11 (deleted)".
std::string_view ProgramOf(std::string_view executable) {
  std::string_view name = BaseOf(executable.substr(0, executable.find(' ')));
  const size_t end = name.find_last_not_of("0123456789.-");
  return name.substr(0, end + 1);
}

std::string_view RuntimeOf(const snapshot::DumpedProcess& process) {
  if (!process.command.empty() && process.command[0] == "modal-agent-keeper") return "keeper";
  const std::string_view program = ProgramOf(process.executable);
  const auto known = std::find_if(kRuntimes.begin(), kRuntimes.end(),
                                  [program](const Known& one) { return one.program == program; });
  return known != kRuntimes.end() ? known->runtime : "native";
}

// The first word that tells; empty: none does.
std::string FrameworkOf(std::string_view runtime, std::span<const std::string> command) {
  for (size_t i = 0; i < command.size(); ++i) {
    // A process that has a title has it all in one word.
    const std::string_view word =
        BaseOf(std::string_view(command[i]).substr(0, command[i].find(' ')));
    for (const Framework& one : kFrameworks) {
      if (one.runtime == runtime && one.word == word) return std::string(one.name);
    }
    if (runtime == "jvm" && i > 0 && command[i - 1] == "-jar") return std::string(word);
  }
  return {};
}

}  // namespace

std::vector<std::string> RuntimesOf(const std::vector<snapshot::DumpedProcess>& processes) {
  std::vector<std::string> runtimes;
  std::map<pid_t, const std::string*> by_pid;
  runtimes.reserve(processes.size());  // whose places are pointed at
  for (const snapshot::DumpedProcess& process : processes) {
    std::string& runtime = runtimes.emplace_back(RuntimeOf(process));
    const std::string framework = FrameworkOf(runtime, process.command);
    const auto parent = by_pid.find(process.parent);
    if (!framework.empty()) {
      runtime += "/" + framework;
    } else if (parent != by_pid.end() && parent->second->starts_with(runtime + "/")) {
      runtime = *parent->second;
    }
    by_pid.emplace(process.pid, &runtime);
  }
  return runtimes;
}

}  // namespace modal
