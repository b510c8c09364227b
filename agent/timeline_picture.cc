#include "agent/timeline_picture.h"

#include <algorithm>

#include "agent/base/strings.h"
#include "agent/readable.h"

namespace modal {
namespace {

constexpr std::string_view kServing = "serving";
constexpr size_t kLeastBar = 10;
constexpr size_t kTimeColumn = 10;  // "59.9 ms" and what keeps it apart
constexpr int64_t kLongest = int64_t{1000} * 365 * 86'400 * 1'000'000;  // a thousand years

struct Row {
  std::string name;
  std::string at;
  std::string took;
  int64_t begin_us = 0;
  int64_t end_us = 0;
  char mark = '#';
};

std::string RightAligned(const std::string& text, size_t width) {
  return std::string(text.size() < width ? width - text.size() : 1, ' ') + text;
}

// "12.3" of 12345 thousandths: `digits` after the point.
std::string Decimal(int64_t thousandths, size_t digits) {
  std::string rest = std::to_string(thousandths % 1000);
  rest.insert(0, 3 - rest.size(), '0');
  return Concat(thousandths / 1000, ".", rest.substr(0, digits));
}

Row RowOf(const TimelineStep& step, int64_t now_us) {
  const size_t dot = step.name.find('.');
  const bool is_part = dot != std::string::npos;
  Row row;
  row.name = is_part ? "  " + step.name.substr(dot + 1) : step.name;
  std::replace(row.name.begin(), row.name.end(), '_', ' ');
  if (step.failed) row.name += " failed";
  row.begin_us = std::clamp<int64_t>(step.begin_us, 0, kLongest);
  row.at = ShortTime(row.begin_us);
  if (step.name == kServing) {
    row.end_us = row.begin_us;
    row.mark = '>';
    return row;
  }
  const int64_t until_now = std::clamp<int64_t>(now_us, row.begin_us, kLongest) - row.begin_us;
  const int64_t us = std::clamp<int64_t>(step.us.value_or(until_now), 0, kLongest);
  row.took = ShortTime(us) + (step.us ? "" : "+");
  row.end_us = row.begin_us + us;
  row.mark = step.failed ? 'x' : is_part ? '=' : '#';
  return row;
}

// From the column in which it begins to the one in which it ends, both included.
std::string Bar(const Row& row, int64_t total_us, size_t width) {
  const auto column = [total_us, width](int64_t us) {
    const double share = static_cast<double>(us) / static_cast<double>(total_us);
    return std::min(static_cast<size_t>(share * static_cast<double>(width)), width - 1);
  };
  const size_t first = column(row.begin_us);
  const size_t last = std::max(first, column(std::max<int64_t>(row.end_us - 1, 0)));
  return std::string(first, ' ') + std::string(last - first + 1, row.mark);
}

}  // namespace

std::string ShortTime(int64_t us) {
  if (us < 10'000) return Decimal(us, 2) + " ms";
  if (us < 100'000) return Decimal(us, 1) + " ms";
  if (us < 1'000'000) return Concat(us / 1000, " ms");
  if (us < 60'000'000) return Decimal(us / 1000, us < 10'000'000 ? 2 : 1) + " s";
  return ReadableTime(us / 1000);
}

std::string DrawTimeline(const std::vector<TimelineStep>& steps, int64_t now_us, size_t width) {
  std::vector<Row> rows;
  size_t names = 0;
  int64_t total_us = 1;
  for (const TimelineStep& step : steps) {
    const Row& row = rows.emplace_back(RowOf(step, now_us));
    names = std::max(names, row.name.size());
    total_us = std::max(total_us, row.end_us);
  }
  const size_t left = names + 2 * kTimeColumn + 2;
  const size_t bars = std::max(width > left ? width - left : 0, kLeastBar);
  const std::string total = ShortTime(total_us);
  std::string out =
      Concat(std::string(names, ' '), RightAligned("at", kTimeColumn),
             RightAligned("took", kTimeColumn), "  0", RightAligned(total, bars - 1), "\n");
  for (const Row& row : rows) {
    out += row.name + std::string(names - row.name.size(), ' ');
    out += RightAligned(row.at, kTimeColumn) + RightAligned(row.took, kTimeColumn) + "  ";
    out += Bar(row, total_us, bars) + "\n";
  }
  return out;
}

}  // namespace modal
