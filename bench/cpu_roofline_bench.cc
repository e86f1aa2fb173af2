// Prints the memory bandwidth and the FMA peak for 1 thread and for all of them: cpu_roofline_bench [seconds]
#include <fmt/format.h>

#include <cstdlib>
#include <thread>

#include "roofline.h"

int main(int argc, char** argv) {
  namespace bench = hylas::bench;
  double seconds = argc > 1 ? std::atof(argv[1]) : 2;
  int all = static_cast<int>(std::thread::hardware_concurrency());
  for (int threads = 1; threads <= all; threads = threads < all ? all : all + 1) {
    hylas::cpu::ThreadPool pool(threads);
    bench::Roofline roofline(pool);
    for (double end = bench::seconds_now() + seconds; bench::seconds_now() < end;) roofline.measure();
    fmt::print("{} thread(s): read {:.1f} GB/s, FMA {:.1f} GFLOP/s\n", threads, roofline.bytes_per_second() / 1e9,
               roofline.flops() / 1e9);
  }
}
