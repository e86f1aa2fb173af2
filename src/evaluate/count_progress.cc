#include "evaluate/count_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "base/clock.h"

namespace hylas {
namespace {
constexpr int64_t kTerminalPeriodUs = 100'000;
constexpr int64_t kLinePeriodUs = 5'000'000;
constexpr int kBarCells = 24;
}  // namespace

std::string count_line(const std::string& label, int64_t done, int64_t total, int64_t elapsed_us, int bar_cells) {
  std::string line = fmt::format("{} {}/{}", label, done, total);
  if (bar_cells > 0) {
    int filled = total == 0 ? bar_cells : int(done * bar_cells / total);
    std::string bar(size_t(filled), '=');
    if (filled < bar_cells) bar += '>';
    line += fmt::format(" [{:<{}}]", bar, bar_cells);
  }
  if (elapsed_us <= 0 || done == 0) return line;
  double per_s = double(done) * 1e6 / double(elapsed_us);
  line += fmt::format(" {:.1f}/s", per_s);
  if (done < total) line += fmt::format("  ETA {:.0f} s", double(total - done) / per_s);
  return line;
}

CountProgress::CountProgress(std::string label, int64_t total, FILE* out)
    : label_(std::move(label)),
      total_(total),
      out_(out),
      terminal_(isatty(fileno(out)) == 1),
      started_us_(now_us()),
      next_show_us_(started_us_ + (terminal_ ? kTerminalPeriodUs : kLinePeriodUs)) {}

CountProgress::~CountProgress() { show(now_us(), true); }

void CountProgress::add() {
  std::lock_guard lock(mutex_);
  ++done_;
  int64_t at_us = now_us();
  if (at_us < next_show_us_) return;
  next_show_us_ = at_us + (terminal_ ? kTerminalPeriodUs : kLinePeriodUs);
  show(at_us, false);
}

void CountProgress::show(int64_t at_us, bool last) {
  std::string line = count_line(label_, done_, total_, at_us - started_us_, terminal_ ? kBarCells : 0);
  // On a terminal each line overwrites the one before (\r) and clears what is left of it (\033[K).
  if (terminal_) {
    fmt::print(out_, "\r{}\033[K{}", line, last ? "\n" : "");
  } else {
    fmt::print(out_, "{}\n", line);
  }
  std::fflush(out_);
}

}  // namespace hylas
