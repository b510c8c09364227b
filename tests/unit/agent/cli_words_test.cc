#include "agent/cli_words.h"

#include <doctest/doctest.h>

namespace modal {
namespace {

using Words = std::vector<std::string>;

struct Split {
  std::string subcommand;
  Words options;
  Words command;
  bool operator==(const Split&) const = default;
};

Split SplitOf(Words words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  CommandWords split = SplitWords(pointers);
  return {std::string(split.subcommand), split.options, split.command};
}

TEST_CASE("options end at the first word that is none") {
  CHECK(SplitOf({"--port", "8000", "./server", "--port", "1"}) ==
        Split{"", {"--port", "8000"}, {"./server", "--port", "1"}});
  CHECK(SplitOf({"--port=8000", "./server"}) == Split{"", {"--port=8000"}, {"./server"}});
  CHECK(SplitOf({"./server", "--help"}) == Split{"", {}, {"./server", "--help"}});
  CHECK(SplitOf({"-", "x"}) == Split{"", {}, {"-", "x"}});
  CHECK(SplitOf({"", "x"}) == Split{"", {}, {"", "x"}});
}

TEST_CASE("options end at --, and what follows is COMMAND whatever it looks like") {
  CHECK(SplitOf({"--port", "1", "--", "--x", "--", "-y"}) ==
        Split{"", {"--port", "1"}, {"--x", "--", "-y"}});
  CHECK(SplitOf({"--"}) == Split{"", {}, {}});
  CHECK(SplitOf({"--", "status"}) == Split{"", {}, {"status"}});
}

TEST_CASE("a subcommand is one only as the first word") {
  CHECK(SplitOf({"status", "--json"}) == Split{"status", {"--json"}, {}});
  CHECK(SplitOf({"run", "run", "status"}) == Split{"run", {}, {"run", "status"}});
  CHECK(SplitOf({"--port", "1", "status"}) == Split{"", {"--port", "1"}, {"status"}});
  CHECK(SplitOf({"statu"}) == Split{"", {}, {"statu"}});
  CHECK(SplitOf({}) == Split{"", {}, {}});
}

TEST_CASE("a switch takes no word, and any other option takes one") {
  CHECK(SplitOf({"--no-new-privs", "./server"}) ==
        Split{"", {"--no-new-privs", "true"}, {"./server"}});
  CHECK(SplitOf({"--no-new-privs=no", "./server"}) ==
        Split{"", {"--no-new-privs=no"}, {"./server"}});
  CHECK(SplitOf({"-h", "x"}) == Split{"", {"-h"}, {"x"}});
  CHECK(SplitOf({"--on-enter", "-x", "y"}) == Split{"", {"--on-enter", "-x"}, {"y"}});
}

TEST_CASE("an empty value stays a value") {
  CHECK(SplitOf({"--user=", "./server"}) == Split{"", {"--user", ""}, {"./server"}});
  CHECK(SplitOf({"--user", "", "./server"}) == Split{"", {"--user", ""}, {"./server"}});
}

TEST_CASE("a token's verb may stand before its options, among them or behind them") {
  std::vector<std::string> words{"token", "new", "--environment", "main", "--json", "more"};
  const auto verb_of = [](std::vector<std::string>& from) {
    std::vector<char*> pointers;
    for (std::string& word : from) pointers.push_back(word.data());
    return std::string(SplitWords(pointers).verb);
  };
  CHECK(SplitOf(words) == Split{"token", {"--environment", "main", "--json"}, {"more"}});
  CHECK(verb_of(words) == "new");
  words = {"token", "--environment", "new", "new"};
  CHECK(SplitOf(words) == Split{"token", {"--environment", "new"}, {}});
  CHECK(verb_of(words) == "new");
  words = {"token", "--environment=x", "--json"};
  CHECK(verb_of(words).empty());
  words = {"status", "new"};
  CHECK(SplitOf(words) == Split{"status", {}, {"new"}});
  CHECK(verb_of(words).empty());
}

TEST_CASE("nothing is guessed after an option that is unknown or lacks its value") {
  CHECK(SplitOf({"--prot", "8000", "./server"}) == Split{"", {"--prot"}, {}});
  CHECK(SplitOf({"-p", "8000"}) == Split{"", {"-p"}, {}});
  CHECK(SplitOf({"--user", "--port", "80", "x"}) == Split{"", {"--user"}, {}});
  CHECK(SplitOf({"--user", "--", "x"}) == Split{"", {"--user"}, {}});
  CHECK(SplitOf({"--user"}) == Split{"", {"--user"}, {}});
}

TEST_CASE("options may stand before and behind what a snapshot's verb is about") {
  CHECK(SplitOf({"snapshot", "--json", "inspect", "ab", "--snapshot-dir", "/s", "-"}) ==
        Split{"snapshot", {"--json", "--snapshot-dir", "/s"}, {"ab", "-"}});
  CHECK(SplitOf({"snapshot", "prune", "--keep", "3", "--dry-run", "x"}) ==
        Split{"snapshot", {"--keep", "3", "--dry-run"}, {"x"}});
  CHECK(SplitOf({"snapshot", "pack", "ab", "--", "--odd"}) ==
        Split{"snapshot", {}, {"ab", "--odd"}});
}

TEST_CASE("what stands behind `snapshot create` is COMMAND") {
  CHECK(SplitOf({"snapshot", "create", "--port", "1", "./server", "--port", "2"}) ==
        Split{"snapshot", {"--port", "1"}, {"./server", "--port", "2"}});
}

}  // namespace
}  // namespace modal
