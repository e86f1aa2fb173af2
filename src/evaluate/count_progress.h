#pragma once
// A progress display on stderr for work that is counted: a bar on a terminal, elsewhere a line every few seconds.
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>

namespace hylas {

// "Questions 34/200 [====>           ] 12.3/s  ETA 14 s", without a bar if `bar_cells` is 0.
std::string count_line(const std::string& label, int64_t done, int64_t total, int64_t elapsed_us, int bar_cells);

// Thread-safe. The destructor shows where it ended.
class CountProgress {
 public:
  CountProgress(std::string label, int64_t total, FILE* out = stderr);
  ~CountProgress();
  CountProgress(const CountProgress&) = delete;

  void add();  // one more is done

 private:
  void show(int64_t at_us, bool last);

  const std::string label_;
  const int64_t total_;
  FILE* const out_;
  const bool terminal_;
  const int64_t started_us_;
  std::mutex mutex_;  // guards the rest
  int64_t done_ = 0;
  int64_t next_show_us_;
};

}  // namespace hylas
