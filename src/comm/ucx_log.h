#pragma once
// What UCX says goes to our log: by itself it writes to standard output, among the results of a command.

namespace hylas {

// Before the first ucp_init(). Thread-safe; later calls change nothing.
void log_ucx_here();

}  // namespace hylas
