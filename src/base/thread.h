#pragma once
// Threads with names, which debuggers, `top -H` and sanitizer reports show.
#include <string>
#include <thread>
#include <utility>

namespace hylas {

// Names the calling thread; the kernel keeps the first 15 bytes.
void set_thread_name(const std::string& name);
// The calling thread's name as the kernel has it.
std::string thread_name();

// Starts a thread named `name` that runs `body()`. As with every std::jthread, its destructor joins: whoever owns the
// thread first makes `body` end (close its queue).
template <class Body>
std::jthread start_thread(std::string name, Body body) {
  return std::jthread([name = std::move(name), body = std::move(body)]() mutable {
    set_thread_name(name);
    body();
  });
}

}  // namespace hylas
