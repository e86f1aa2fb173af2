#pragma once
// Stopping on SIGINT and SIGTERM without signal handlers: the signals are blocked everywhere and one thread waits for
// them.
#include <cstdint>

namespace hylas {

// Blocks SIGINT and SIGTERM and ignores SIGPIPE. Call it in main before any thread starts: threads inherit the mask.
void block_stop_signals();

// Waits for SIGINT or SIGTERM at most `wait_us`, or for ever if that is negative. The signal's number, or 0 if none
// came.
int wait_for_stop_signal(int64_t wait_us = -1);

}  // namespace hylas
