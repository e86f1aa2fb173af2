#pragma once
// A progress display on stderr for work that takes seconds, such as loading weights: a bar on a terminal, elsewhere one
// line every few seconds. Nothing is shown for work that ends within half a second.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>

namespace hylas {

// "Loading weights  43% [=======>          ] 1.2 GiB / 2.8 GiB  310 MiB/s  ETA 5 s", without a bar if `bar_cells` is 0.
std::string progress_line(const std::string& label, uint64_t done_bytes, uint64_t total_bytes, int64_t elapsed_us,
                          int bar_cells);

// "512 B", "1.5 KiB", "2.8 GiB".
std::string human_bytes(double bytes);

class Progress {
 public:
  // Writes to `out`; a terminal there gets the bar.
  Progress(std::string label, uint64_t total_bytes, FILE* out = stderr);
  ~Progress();  // shows the end, if anything was shown
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Adds finished bytes. Thread-safe, and cheap enough for one call a megabyte.
  void add(uint64_t bytes);

 private:
  void show(int64_t at_us, bool last);

  const std::string label_;
  const uint64_t total_bytes_;
  FILE* const out_;
  const bool terminal_;
  const int64_t started_us_;
  std::atomic<uint64_t> done_bytes_{0};
  std::atomic<int64_t> next_show_us_;
  std::mutex show_mutex_;  // guards out_ and shown_
  bool shown_ = false;
};

}  // namespace hylas
