// A prompt's state from one process to another, over TCP and through shared memory, beside a raw UCX put of as many
// bytes in one piece over the same, as UCX comes, and for shared memory beside a memcpy there, too, for TCP beside the
// same put in segments as large as the link's:
//   transfer_bench [CONFIG_DIR [ROUNDS [TOKENS]]]
// CONFIG_DIR gives the shapes (models/configs/qwen3.5-0.8b unless given). Raw and real transfers take turns, so that a
// shared machine is equally kind to both; the ratio is the median over the turns. The receiving process checks the
// sums.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucp/api/ucp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <numeric>
#include <random>

#include "base/check.h"
#include "base/clock.h"
#include "model/decoder.h"
#include "transfer/sender.h"
#include "transfer/shared_memory.h"
#include "transfer/ucx_memory.h"

namespace hylas::bench {
namespace {

constexpr int kSequences = 4;  // in turn: more than the caches hold
constexpr int32_t kPageSize = 64;

struct Case {
  const char* name;
  ParallelSizes from;
  bool shuffled;  // the pages lie anywhere, as after many requests; otherwise side by side
};
constexpr Case kCases[] = {{"equal layouts, pages side by side", {}, false},
                           {"equal layouts, pages anywhere", {}, true},
                           {"tp 2 to tp 1, pages anywhere", {.tp = 2}, true}};

struct Way {
  const char* name;
  const char* transports;  // of UCX
  bool shared_memory;
  std::unique_ptr<Link> link() const {
    return shared_memory ? make_shm_link() : make_ucx_link({.transports = transports}).value();
  }
};
constexpr Way kWays[] = {{"shared memory", "shm", true}, {"tcp", "tcp", false}};

struct Instance {
  InstanceLayout layout;
  std::unique_ptr<Device> device = make_cpu_device();
  std::vector<StatePools> pools;

  // `file`: to be the first rank's memory, if not -1.
  Instance(const ModelConfig& model, const ParallelSizes& sizes, int64_t pages, int file = -1) {
    layout.page_size = kPageSize;
    layout.pages = pages;
    layout.slots = kSequences;
    layout.sizes = sizes;
    for (int32_t rank = 0; rank < sizes.world(); ++rank) {
      DecoderOptions options;
      options.shard = {sizes, place_of(sizes, rank)};
      layout.ranks.push_back(state_layout(model, options));
      pools.push_back(StatePools::make(*device, layout.ranks.back(), pages, kPageSize, kSequences).value());
      if (file >= 0) HYLAS_CHECK(put_in_place(file, pools[0].memory(), pools[0].memory_bytes()).ok());
      // Memory that nobody wrote is one page of zeros, and quick to read.
      std::mt19937_64 random(rank);
      auto* words = static_cast<uint64_t*>(pools.back().memory());
      for (size_t i = 0; i < pools.back().memory_bytes() / 8; ++i) words[i] = random();
    }
  }
  std::vector<const void*> memory() const {
    std::vector<const void*> starts;
    for (const StatePools& rank : pools) starts.push_back(rank.memory());
    return starts;
  }
};

std::vector<TransferPart> sequences(int64_t pages, bool shuffled) {
  std::vector<int32_t> ids(pages);
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937_64 random(1);
  std::vector<TransferPart> parts;
  for (int i = 0; i < kSequences; ++i) {
    const auto begin = static_cast<int64_t>(i) * pages / kSequences, end = (i + 1) * pages / kSequences;
    if (shuffled && i == 0) std::shuffle(ids.begin(), ids.end(), random);
    TransferPart& part = parts.emplace_back();
    part.from_pages.assign(ids.begin() + begin, ids.begin() + end);
    part.to_pages = part.from_pages;
    if (shuffled) std::shuffle(part.to_pages.begin(), part.to_pages.end(), random);
    part.from_slot = i;
    part.to_slot = kSequences - 1 - i;
  }
  return parts;
}

// What the two processes share.
struct Said {
  char text[8192];
  size_t bytes;

  void say(const std::string& what) {
    HYLAS_CHECK(what.size() <= sizeof text);
    std::memcpy(text, what.data(), what.size());
    bytes = what.size();
  }
  std::string heard() const { return {text, bytes}; }
};
struct Shared {
  Said invitation, raw, alike;  // of the link, and for raw puts: as UCX comes, and in the link's segments
  std::atomic<bool> ready, end;
  std::atomic<int> wanted{-1}, answered{-1};  // sums: case * kSequences + sequence
  uint64_t sum, sum_us;                       // the answer, and how long it took
};

// The sum over what all ranks of the case's sender wrote.
uint64_t sum_landed(const Case& sent, const ModelConfig& model, const Instance& instance, const TransferPart& part) {
  InstanceLayout from = instance.layout;
  from.sizes = sent.from;
  from.ranks.clear();
  for (int32_t rank = 0; rank < sent.from.world(); ++rank) {
    DecoderOptions options;
    options.shard = {sent.from, place_of(sent.from, rank)};
    from.ranks.push_back(state_layout(model, options));
  }
  uint64_t sum = 0;
  for (int32_t rank = 0; rank < sent.from.world(); ++rank) {
    sum += landed_sum(transfer_plan(from, rank, instance.layout, 0), part, instance.memory());
  }
  return sum;
}

std::string open(Link& link, const Region& region) {
  HYLAS_CHECK(link.open({&region, 1}).ok());
  return link.invite().value();
}

int receive(const ModelConfig& model, int64_t pages, const Way& way, int file, Shared& shared) {
  Instance instance(model, {}, pages, file);
  const Region region{instance.pools[0].memory(), instance.pools[0].memory_bytes(), file};
  const std::unique_ptr<Link> link = way.link();
  const std::unique_ptr<Link> raw = make_ucx_link({.transports = way.transports, .tcp_segments = ""}).value();
  const std::unique_ptr<Link> alike = make_ucx_link({.transports = way.transports}).value();
  shared.invitation.say(open(*link, region));
  shared.raw.say(open(*raw, region));
  shared.alike.say(open(*alike, region));
  shared.ready = true;
  while (!shared.end) {
    usleep(500);
    const int wanted = shared.wanted;
    if (wanted == shared.answered) continue;
    const Case& sent = kCases[wanted / kSequences];
    const TransferPart part = sequences(pages, sent.shuffled)[wanted % kSequences];
    const int64_t begin_us = now_us();
    shared.sum = sum_landed(sent, model, instance, part);
    shared.sum_us = now_us() - begin_us;
    shared.answered = wanted;
  }
  return 0;
}

// One ucp_put_nbx and a flush, and nothing else.
class RawPut {
 public:
  RawPut(const Way& way, const std::string& segments, const std::string& invitation)
      : memory_(decode_ucx_memory(invitation).value()) {
    ucp_config_t* config = nullptr;
    check(ucp_config_read(nullptr, nullptr, &config));
    check(ucp_config_modify(config, "TLS", way.transports));
    for (const char* name : {"TX_SEG_SIZE", "RX_SEG_SIZE"}) {
      if (!segments.empty()) check(ucp_config_modify(config, name, segments.c_str()));
    }
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_RMA;
    check(ucp_init(&params, config, &context_));
    ucp_config_release(config);
    ucp_worker_params_t worker_params{};
    worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    worker_params.thread_mode = UCS_THREAD_MODE_SINGLE;
    check(ucp_worker_create(context_, &worker_params, &worker_));
    ucp_ep_params_t endpoint{};
    endpoint.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
    endpoint.address = reinterpret_cast<const ucp_address_t*>(memory_.worker.data());
    // With it UCX leaves shared memory out.
    endpoint.err_mode = way.shared_memory ? UCP_ERR_HANDLING_MODE_NONE : UCP_ERR_HANDLING_MODE_PEER;
    check(ucp_ep_create(worker_, &endpoint, &endpoint_));
    check(ucp_ep_rkey_unpack(endpoint_, memory_.keys[0].data(), &key_));
    wait(ucp_ep_flush_nbx(endpoint_, &none_));
  }
  ~RawPut() {
    ucp_rkey_destroy(key_);
    wait(ucp_ep_close_nbx(endpoint_, &none_));
    ucp_worker_destroy(worker_);
    ucp_cleanup(context_);
  }
  int64_t put_us(const void* from, uint64_t offset, size_t bytes) {
    const int64_t begin_us = now_us();
    wait(ucp_put_nbx(endpoint_, from, bytes, memory_.addresses[0] + offset, key_, &none_));
    wait(ucp_ep_flush_nbx(endpoint_, &none_));
    return now_us() - begin_us;
  }

 private:
  static void check(ucs_status_t status) { HYLAS_CHECK(status == UCS_OK, "{}", ucs_status_string(status)); }
  void wait(void* request) {
    if (request == nullptr) return;
    check(UCS_PTR_IS_ERR(request) ? UCS_PTR_STATUS(request) : UCS_OK);
    ucs_status_t status;
    while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS) ucp_worker_progress(worker_);
    check(status);
    ucp_request_free(request);
  }

  const UcxMemory memory_;
  const ucp_request_param_t none_{};
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
  ucp_rkey_h key_ = nullptr;
};

// The sending instance of a case.
class Sending {
 public:
  Sending(const ModelConfig& model, const Case& what, int64_t pages, const Way& way, const InstanceLayout& to,
          const std::string& invitation)
      : instance_(model, what.from, pages),
        link_(way.link()),
        sender_(instance_.layout, instance_.memory(), *link_, [this](const SentReport& report) { add(report); }) {
    sender_.add_peer(1, to, link_->connect(invitation).value());
  }
  const Instance& instance() const { return instance_; }
  // Every rank's share, from the first call to the last report.
  PutResult send(const TransferPart& part, int64_t& us) {
    total_ = {};
    const int32_t ranks = instance_.layout.sizes.world();
    waiting_ = ranks;
    const int64_t begin_us = now_us();
    for (int32_t rank = 0; rank < ranks; ++rank) sender_.send(rank, {.peer = 1, .part = part});
    std::unique_lock lock(mutex_);
    reported_.wait(lock, [&] { return waiting_ == 0; });
    us = now_us() - begin_us;
    return total_;
  }

 private:
  void add(const SentReport& report) {
    HYLAS_CHECK(report.result.status.ok(), "{}", report.result.status.error().message);
    std::lock_guard lock(mutex_);
    total_.bytes += report.result.bytes;
    total_.sum += report.result.sum;
    if (--waiting_ == 0) reported_.notify_all();
  }

  Instance instance_;
  std::unique_ptr<Link> link_;
  std::mutex mutex_;
  std::condition_variable reported_;
  PutResult total_;
  int32_t waiting_ = 0;
  Sender sender_;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

int64_t memcpy_us(const Mapping& to, uint64_t offset, const void* from, size_t bytes) {
  const int64_t begin_us = now_us();
  std::memcpy(to.data() + offset, from, bytes);
  return now_us() - begin_us;
}

struct Figures {
  std::vector<double> rates, ratios;  // bytes per microsecond; of a transfer's rate to this one

  void add(uint64_t bytes, int64_t us, int64_t transfer_us) {
    rates.push_back(static_cast<double>(bytes) / static_cast<double>(us));
    ratios.push_back(static_cast<double>(us) / static_cast<double>(transfer_us));
  }
  std::string text(const char* name) const {
    return fmt::format("; {} {:.2f} GB/s: ratio {:.3f}", name, median(rates) * 1e-3, median(ratios));
  }
};

void run_case(int index, const ModelConfig& model, int64_t pages, const Way& way, const Mapping& mapped, Shared& shared,
              int rounds) {
  const Case& what = kCases[index];
  const Instance to(model, {}, pages);
  Sending sending(model, what, pages, way, to.layout, shared.invitation.heard());
  RawPut raw(way, "", shared.raw.heard()),
      alike(way, way.shared_memory ? "" : UcxLinkOptions().tcp_segments, shared.alike.heard());
  const std::vector<TransferPart> parts = sequences(pages, what.shuffled);
  Figures transfers, raws, others;
  uint64_t bytes = 0, sum_us = 0;
  for (int round = -kSequences; round < rounds; ++round) {  // each sequence once to warm up
    const int sequence = (round + kSequences) % kSequences;
    int64_t us = 0;
    const PutResult sent = sending.send(parts[sequence], us);
    bytes = sent.bytes;
    const size_t at = sequence * (to.pools[0].memory_bytes() / kSequences) / 64 * 64;
    shared.wanted = index * kSequences + sequence;
    while (shared.answered != shared.wanted) usleep(500);
    HYLAS_CHECK(shared.sum == sent.sum, "the bytes did not arrive");
    const void* from = static_cast<const std::byte*>(to.pools[0].memory()) + at;
    const int64_t raw_us = raw.put_us(from, at, bytes);
    const int64_t other_us = way.shared_memory ? memcpy_us(mapped, at, from, bytes) : alike.put_us(from, at, bytes);
    if (round < 0) continue;
    sum_us += shared.sum_us;
    transfers.add(bytes, us, us);
    raws.add(bytes, raw_us, us);
    others.add(bytes, other_us, us);
  }
  fmt::print("{:<14} {:<32} {:.1f} MiB {:.2f} GB/s{}{}; check of the sums {:.1f} GB/s\n", way.name, what.name,
             static_cast<double>(bytes) / (1 << 20), median(transfers.rates) * 1e-3, raws.text("raw put"),
             others.text(way.shared_memory ? "memcpy" : "the same in the link's segments"),
             static_cast<double>(bytes) * rounds / static_cast<double>(sum_us) * 1e-3);
  fflush(stdout);
}

void run(const ModelConfig& model, int64_t pages, const Way& way, int rounds) {
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  HYLAS_CHECK(memory != MAP_FAILED);
  auto* shared = new (memory) Shared;
  const size_t bytes = Instance(model, {}, pages).pools[0].memory_bytes();
  const FileHandle file = make_shared_file(bytes).value();
  const pid_t receiver = fork();
  if (receiver == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(receive(model, pages, way, file.number(), *shared));
  }
  while (!shared->ready) usleep(1000);
  const Mapping mapped = Mapping::of(file.number(), bytes).value();
  for (int index = 0; index < static_cast<int>(std::size(kCases)); ++index) {
    run_case(index, model, pages, way, mapped, *shared, rounds);
  }
  shared->end = true;
  waitpid(receiver, nullptr, 0);
  munmap(memory, sizeof(Shared));
}

}  // namespace
}  // namespace hylas::bench

int main(int argc, char** argv) {
  const auto model = hylas::parse_model_config(argc > 1 ? argv[1] : "models/configs/qwen3.5-0.8b");
  HYLAS_CHECK(model.ok(), "{}", model.error().message);
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 20, tokens = argc > 3 ? std::atoi(argv[3]) : 4096;
  const int64_t pages = int64_t{hylas::bench::kSequences} * tokens / hylas::bench::kPageSize;
  for (const hylas::bench::Way& way : hylas::bench::kWays) hylas::bench::run(*model, pages, way, rounds);
  return 0;
}
