#include "transfer/outbox.h"

#include <chrono>
#include <utility>

#include "base/log.h"
#include "base/thread.h"

namespace hylas {

Outbox::~Outbox() {
  close();
  if (writer_.joinable()) writer_.join();
}

bool Outbox::push(std::string message) {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return false;
    if (bytes_ + message.size() <= kBytesMax) {
      bytes_ += message.size();
      messages_.push_back(std::move(message));
      changed_.notify_all();
      return true;
    }
  }
  log::warn("a peer lets more than {} bytes of control messages wait: it is given up", kBytesMax);
  close();
  return false;
}

void Outbox::start(ControlLink& link) {
  std::lock_guard lock(mutex_);
  link_ = &link;
  if (closed_) link.stop();
  writer_ = start_thread("pd writer", [this, &link] { run(link); });
}

void Outbox::run(ControlLink& link) {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    const bool woken =
        changed_.wait_for(lock, std::chrono::microseconds(kHeartbeatUs), [&] { return closed_ || !messages_.empty(); });
    if (closed_) return;
    std::string message;
    if (woken) {
      message = std::move(messages_.front());
      messages_.pop_front();
      bytes_ -= message.size();
    }
    lock.unlock();
    const Status sent = woken ? link.send(message) : link.send_heartbeat();
    if (!sent.ok()) {
      log::debug("nothing reaches {} any more: {}", link.peer(), sent.error().message);
      close();
    }
    lock.lock();
  }
}

void Outbox::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  messages_.clear();
  bytes_ = 0;
  if (link_) link_->stop();
  changed_.notify_all();
}

}  // namespace hylas
