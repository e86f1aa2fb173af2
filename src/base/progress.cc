#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace hylas {
namespace {
constexpr int64_t kFirstShowUs = 500'000;
constexpr int64_t kTerminalPeriodUs = 100'000;
constexpr int64_t kLinePeriodUs = 5'000'000;
constexpr int kBarCells = 24;
}  // namespace

std::string human_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) bytes /= 1024, ++unit;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string progress_line(const std::string& label, uint64_t done_bytes, uint64_t total_bytes, int64_t elapsed_us,
                          int bar_cells) {
  double done = double(done_bytes), total = double(total_bytes);
  double fraction = total_bytes == 0 ? 1.0 : std::min(1.0, done / total);
  std::string line = fmt::format("{} {:3}%", label, int(fraction * 100));
  if (bar_cells > 0) {
    int filled = int(fraction * bar_cells);
    std::string bar(size_t(filled), '=');
    if (filled < bar_cells) bar += '>';
    line += fmt::format(" [{:<{}}]", bar, bar_cells);
  }
  line += fmt::format(" {} / {}", human_bytes(done), human_bytes(total));
  if (elapsed_us <= 0 || done_bytes == 0) return line;
  double bytes_per_s = done * 1e6 / double(elapsed_us);
  line += fmt::format("  {}/s", human_bytes(bytes_per_s));
  if (done_bytes < total_bytes) line += fmt::format("  ETA {:.0f} s", (total - done) / bytes_per_s);
  return line;
}

Progress::Progress(std::string label, uint64_t total_bytes, FILE* out)
    : label_(std::move(label)),
      total_bytes_(total_bytes),
      out_(out),
      terminal_(isatty(fileno(out)) == 1),
      started_us_(now_us()),
      next_show_us_(started_us_ + kFirstShowUs) {}

Progress::~Progress() {
  if (shown_) show(now_us(), true);
}

void Progress::add(uint64_t bytes) {
  done_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  int64_t now = now_us(), due = next_show_us_.load(std::memory_order_relaxed);
  int64_t next = now + (terminal_ ? kTerminalPeriodUs : kLinePeriodUs);
  if (now >= due && next_show_us_.compare_exchange_strong(due, next, std::memory_order_relaxed)) show(now, false);
}

void Progress::show(int64_t at_us, bool last) {
  std::lock_guard lock(show_mutex_);
  shown_ = true;
  std::string line =
      progress_line(label_, done_bytes_.load(), total_bytes_, at_us - started_us_, terminal_ ? kBarCells : 0);
  // On a terminal each line overwrites the one before (\r) and clears what is left of it (\033[K).
  if (terminal_) {
    fmt::print(out_, "\r{}\033[K{}", line, last ? "\n" : "");
  } else {
    fmt::print(out_, "{}\n", line);
  }
  std::fflush(out_);
}

}  // namespace hylas
