#include "agent/config_file.h"

#include <optional>

#include "agent/base/strings.h"
#include "agent/text_file.h"

namespace modal {
namespace {

constexpr std::string_view kBlank = " \t";

std::string_view SkipBlanks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlank), text.size()));
}

Error Unclosed() { return Error("the quote is not closed on this line"); }

// The character that `\c` stands for within double quotes.
std::optional<char> Unescape(char c) {
  switch (c) {
    case '"':
    case '\\':
      return c;
    case 'n':
      return '\n';
    case 't':
      return '\t';
    default:
      return std::nullopt;
  }
}

// Takes a quoted value from the front of `text`.
Result<std::string> TakeDoubleQuoted(std::string_view& text) {
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return value;
    }
    if (text[i] != '\\') {
      value += text[i];
      continue;
    }
    if (++i == text.size()) break;
    const std::optional<char> meant = Unescape(text[i]);
    if (!meant) {
      return Error(Concat("\\", text[i], " means nothing in double quotes; \\\\ is a backslash"));
    }
    value += *meant;
  }
  return Unclosed();
}

Result<std::string> TakeSingleQuoted(std::string_view& text) {
  const size_t end = text.find('\'', 1);
  if (end == std::string_view::npos) return Unclosed();
  std::string value(text.substr(1, end - 1));
  text.remove_prefix(end + 1);
  return value;
}

std::string_view WithoutComment(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const bool after_blank = i == 0 || kBlank.find(text[i - 1]) != std::string_view::npos;
    if (text[i] == '#' && after_blank) return text.substr(0, i);
  }
  return text;
}

Result<std::string> ParseValue(std::string_view text) {
  text = SkipBlanks(text);
  if (!text.starts_with('"') && !text.starts_with('\'')) {
    return std::string(Trim(WithoutComment(text)));
  }
  Result<std::string> value = text.front() == '"' ? TakeDoubleQuoted(text) : TakeSingleQuoted(text);
  if (!value) return value;
  // Directly after the quote a # is no comment, and neither is anything else.
  const std::string_view rest = Trim(WithoutComment(text));
  if (!rest.empty() || text.starts_with('#')) {
    return Error(Concat("'", text, "' after the closing quote; quote the whole value"));
  }
  return value;
}

}  // namespace

Result<std::vector<ConfigEntry>> ParseConfigFile(std::string_view text, const std::string& name) {
  if (Result<void> checked = CheckIsText(text, name); !checked) return std::move(checked.error());
  std::vector<ConfigEntry> entries;
  LineReader lines(text);
  while (const std::optional<std::string_view> line = lines.Next()) {
    const std::string where = Concat(name, ":", lines.number());
    const std::string_view content = Trim(*line);
    if (content.empty() || content.starts_with('#')) continue;
    const size_t equals = content.find('=');
    const std::string_view key = Trim(content.substr(0, equals));
    if (content.starts_with('[')) {
      return Error(where + ": there are no [sections] here; every line is `key = value`");
    }
    if (equals == std::string_view::npos || key.empty()) {
      return Error(where + ": not of the form `key = value`");
    }
    Result<std::string> value = ParseValue(content.substr(equals + 1));
    if (!value) return std::move(value.error()).While(where);
    entries.push_back({std::string(key), *std::move(value), lines.number()});
  }
  return entries;
}

std::string QuoteConfigValue(std::string_view value) {
  const bool plain = !value.empty() && Trim(value) == value && !value.starts_with('"') &&
                     !value.starts_with('\'') && value.find('\n') == std::string_view::npos &&
                     WithoutComment(value) == value;
  if (plain) return std::string(value);
  std::string quoted = "\"";
  for (const char c : value) {
    if (c == '\n') {
      quoted += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace modal
