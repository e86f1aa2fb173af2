#include "transfer/stager.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/thread.h"
#include "cache/pool_blocks.h"

namespace hylas {

size_t largest_write_bytes(const StateLayout& layout, int32_t page_size) {
  size_t bytes = 0;
  for (const auto& kind : pool_blocks(layout, 1, page_size, 1).kinds) {
    for (const PoolBlock& block : kind) bytes = std::max(bytes, block.stride);
  }
  return bytes;
}

// Shared by the puts of one job: the last one that ends reports for all.
class Stager::Parts {
 public:
  Parts(size_t puts, Link::OnDone done) : open_(puts), done_(std::move(done)) {}

  void add(const PutResult& result) {
    {
      std::lock_guard lock(mutex_);
      if (total_.status.ok()) total_.status = result.status;
      total_.bytes += result.bytes;
      total_.sum += result.sum;
      if (--open_ > 0) return;
    }
    done_(std::move(total_));
  }

 private:
  std::mutex mutex_;
  PutResult total_;  // guarded by mutex_, until the last one has come
  size_t open_;      // guarded by mutex_
  const Link::OnDone done_;
};

Stager::Stager(Device& device, Link& link, const StagerOptions& options)
    : device_(device), link_(link), options_(options), host_(make_cpu_device()), reader_(device.reader()) {
  for (int32_t block = options.blocks - 1; block >= 0; --block) free_.push_back(block);
}

Result<std::unique_ptr<Stager>> Stager::make(Device& device, Link& link, const StagerOptions& options) {
  auto stager = std::unique_ptr<Stager>(new Stager(device, link, options));
  HYLAS_ASSIGN(stager->memory_, Buffer::make(*stager->host_, options.block_bytes * options.blocks));
  stager->lock_ = PageLock(device, stager->memory_.data(), stager->memory_.bytes());
  stager->thread_ = start_thread("pd stage", [mine = stager.get()] { mine->run(); });
  return stager;
}

Stager::~Stager() {
  jobs_.close();
  if (thread_.joinable()) thread_.join();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return open_jobs_ == 0; });
}

void Stager::put(int32_t peer, std::vector<Write> writes, Link::OnDone done) {
  if (writes.empty()) return link_.put(peer, {}, std::move(done));
  {
    std::lock_guard lock(mutex_);
    ++open_jobs_;
  }
  const bool pushed = jobs_.push({device_.mark(), peer, std::move(writes), std::move(done)});
  HYLAS_CHECK(pushed, "a put after the stager's end");
}

void Stager::run() {
  while (std::optional<Job> job = jobs_.pop()) {
    job->mark->wait();
    send(*std::move(job));
  }
}

// In the order of the device's memory: neighbours are copied in one piece.
void Stager::send(Job job) {
  std::sort(job.writes.begin(), job.writes.end(), [](const Write& a, const Write& b) { return a.from < b.from; });
  std::vector<std::vector<Write>> puts;
  size_t bytes = options_.block_bytes;
  for (const Write& write : job.writes) {
    HYLAS_CHECK(write.bytes <= options_.block_bytes, "a write of {} bytes", write.bytes);
    if (bytes + write.bytes > options_.block_bytes) {
      puts.emplace_back();
      bytes = 0;
    }
    puts.back().push_back(write);
    bytes += write.bytes;
  }
  // The caller hears before the job ends here: a stager that ends has reported everything.
  auto parts = std::make_shared<Parts>(puts.size(), [this, done = std::move(job.done)](PutResult result) {
    done(std::move(result));
    end_job();
  });
  for (std::vector<Write>& writes : puts) {
    const int32_t block = take_block();
    copy(writes, block);
    link_.put(job.peer, std::move(writes), [this, block, parts](const PutResult& result) {
      give_back(block);
      parts->add(result);
    });
  }
}

// From now on the writes come from the block.
void Stager::copy(std::span<Write> writes, int32_t block) {
  auto* to = static_cast<std::byte*>(memory_.data()) + options_.block_bytes * block;
  for (size_t begin = 0; begin < writes.size();) {
    const auto* from = static_cast<const std::byte*>(writes[begin].from);
    size_t end = begin, bytes = 0;
    for (; end < writes.size() && writes[end].from == from + bytes; ++end) {
      writes[end].from = to + bytes;
      bytes += writes[end].bytes;
    }
    reader_->read(to, from, bytes);
    to += bytes;
    begin = end;
  }
  reader_->finish();
}

int32_t Stager::take_block() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !free_.empty(); });
  const int32_t block = free_.back();
  free_.pop_back();
  return block;
}

void Stager::give_back(int32_t block) {
  std::lock_guard lock(mutex_);
  free_.push_back(block);
  changed_.notify_all();
}

void Stager::end_job() {
  std::lock_guard lock(mutex_);
  --open_jobs_;
  changed_.notify_all();
}

}  // namespace hylas
