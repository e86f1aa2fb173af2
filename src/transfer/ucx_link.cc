// The link over UCX: puts into the peer's registered memory, driven by a thread of its own, which alone calls UCX.
#include <poll.h>
#include <ucp/api/ucp.h>

#include <chrono>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/thread.h"
#include "transfer/link.h"
#include "transfer/ucx_memory.h"
#include "transfer/ucx_peer.h"

namespace hylas {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kConnectWait = std::chrono::seconds(5);

class UcxLink : public Link {
 public:
  ~UcxLink() override;
  Status init(const UcxLinkOptions& options);

  Result<std::string> open(std::span<const Region> regions) override;
  Result<int32_t> connect(const std::string& description) override;
  void put(int32_t peer, std::vector<Write> writes, OnDone done) override;
  void disconnect(int32_t peer, const std::string& why) override;

 private:
  // Runs `call` on the link's thread, in the order of the calls.
  void post(std::function<void()> call);
  bool take_inbox();
  void run();
  bool may_stop();
  void close_endpoints();

  Result<std::string> map(std::span<const Region> regions);

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;

  std::mutex mutex_;
  std::vector<std::function<void()>> inbox_;  // guarded by mutex_
  bool stopping_ = false;                     // guarded by mutex_
  int32_t next_peer_ = 0;                     // guarded by mutex_

  // The thread's own.
  std::map<int32_t, UcxPeer> peers_;
  std::vector<ucp_mem_h> mapped_;
  std::optional<Clock::time_point> stopping_since_;
  std::thread thread_;
};

Status UcxLink::init(const UcxLinkOptions& options) {
  ucp_config_t* config = nullptr;
  HYLAS_TRY(ucx_check(ucp_config_read(nullptr, nullptr, &config), "reading the configuration"));
  const auto set = [&](const char* name, const std::string& value) {
    return value.empty() ? UCS_OK : ucp_config_modify(config, name, value.c_str());
  };
  ucs_status_t status = set("NET_DEVICES", options.devices);
  if (status == UCS_OK) status = set("TLS", options.transports);
  if (status == UCS_OK) status = set("KEEPALIVE_INTERVAL", "1s");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  if (status == UCS_OK) status = ucp_init(&params, config, &context_);
  ucp_config_release(config);
  HYLAS_TRY(ucx_check(status,
                      fmt::format("ucp_init with devices '{}', transports '{}'", options.devices, options.transports)));
  ucp_worker_params_t worker_params{};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SINGLE;
  HYLAS_TRY(ucx_check(ucp_worker_create(context_, &worker_params, &worker_), "ucp_worker_create"));
  HYLAS_TRY(ucx_check(ucp_worker_get_efd(worker_, &event_fd_), "ucp_worker_get_efd"));
  thread_ = std::thread([this] { run(); });
  return {};
}

UcxLink::~UcxLink() {
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ucp_worker_signal(worker_);
    thread_.join();
  }
  for (ucp_mem_h memory : mapped_) ucp_mem_unmap(context_, memory);
  if (worker_) ucp_worker_destroy(worker_);  // with what was given up still there
  peers_.clear();
  if (context_) ucp_cleanup(context_);
}

void UcxLink::post(std::function<void()> call) {
  {
    std::lock_guard lock(mutex_);
    HYLAS_CHECK(!stopping_, "a call after the link's end");
    inbox_.push_back(std::move(call));
  }
  ucp_worker_signal(worker_);
}

bool UcxLink::take_inbox() {
  std::vector<std::function<void()>> taken;
  {
    std::lock_guard lock(mutex_);
    taken.swap(inbox_);
  }
  for (auto& call : taken) call();
  return !taken.empty();
}

void UcxLink::run() {
  set_thread_name("ucx_link");
  bool stop = false;
  while (!stop) {
    bool worked = take_inbox();
    for (auto& [id, peer] : peers_) worked |= peer.drive();
    worked |= ucp_worker_progress(worker_) != 0;
    for (auto& [id, peer] : peers_) worked |= peer.finish();
    std::erase_if(peers_, [](auto& entry) { return entry.second.over(); });
    stop = may_stop();
    if (worked || stop) continue;
    // Nothing to do: sleep until UCX or a caller has news. The timeout lets keep-alive run.
    if (ucp_worker_arm(worker_) != UCS_OK) continue;
    pollfd event{event_fd_, POLLIN, 0};
    poll(&event, 1, 500);
  }
  close_endpoints();
}

// Puts that no peer takes are given up in the end.
bool UcxLink::may_stop() {
  {
    std::lock_guard lock(mutex_);
    if (!stopping_ || !inbox_.empty()) return false;
  }
  const auto now = Clock::now();
  if (!stopping_since_) stopping_since_ = now;
  bool idle = true;
  for (auto& [id, peer] : peers_) {
    if (!peer.busy()) continue;
    idle = false;
    if (now - *stopping_since_ > kUcxCloseWait) peer.lose("this process closes its link");
  }
  return idle;
}

void UcxLink::close_endpoints() {
  const auto deadline = Clock::now() + kUcxCloseWait;
  for (auto& [id, peer] : peers_) {
    peer.begin_close();
    while (!peer.closed() && Clock::now() < deadline) ucp_worker_progress(worker_);
  }
}

Result<std::string> UcxLink::open(std::span<const Region> regions) {
  std::promise<Result<std::string>> answer;
  post([&] { answer.set_value(map(regions)); });
  return answer.get_future().get();
}

Result<std::string> UcxLink::map(std::span<const Region> regions) {
  HYLAS_CHECK(mapped_.empty(), "opened twice");
  UcxMemory memory;
  for (const Region& region : regions) {
    memory.addresses.push_back(reinterpret_cast<uint64_t>(region.data));
    memory.bytes.push_back(region.bytes);
    std::string& key = memory.keys.emplace_back();
    if (region.bytes == 0) continue;
    ucp_mem_map_params_t params{};
    params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
    params.address = region.data;
    params.length = region.bytes;
    ucp_mem_h mapped = nullptr;
    HYLAS_TRY(ucx_check(ucp_mem_map(context_, &params, &mapped), fmt::format("registering {} bytes", region.bytes)));
    mapped_.push_back(mapped);
    void* packed = nullptr;
    size_t bytes = 0;
    HYLAS_TRY(ucx_check(ucp_rkey_pack(context_, mapped, &packed, &bytes), "ucp_rkey_pack"));
    key.assign(static_cast<const char*>(packed), bytes);
    ucp_rkey_buffer_release(packed);
  }
  ucp_address_t* address = nullptr;
  size_t bytes = 0;
  HYLAS_TRY(ucx_check(ucp_worker_get_address(worker_, &address, &bytes), "ucp_worker_get_address"));
  memory.worker.assign(reinterpret_cast<const char*>(address), bytes);
  ucp_worker_release_address(worker_, address);
  return encode(memory);
}

Result<int32_t> UcxLink::connect(const std::string& description) {
  HYLAS_ASSIGN(UcxMemory memory, decode_ucx_memory(description));
  auto connected = std::make_shared<std::promise<Status>>();
  std::future<Status> answer = connected->get_future();
  int32_t id = 0;
  {
    std::lock_guard lock(mutex_);
    id = next_peer_++;
  }
  post([this, id, memory = std::move(memory), connected] {
    UcxPeer& peer = peers_.try_emplace(id, memory).first->second;
    if (const Status made = peer.connect(worker_); !made.ok()) peer.lose(made.error().message);
    peer.add({}, [connected](const PutResult& result) { connected->set_value(result.status); });
  });
  if (answer.wait_for(kConnectWait) != std::future_status::ready) disconnect(id, "no answer");
  HYLAS_TRY(answer.get());
  return id;
}

void UcxLink::put(int32_t peer, std::vector<Write> writes, OnDone done) {
  post([this, peer, writes = std::move(writes), done = std::move(done)]() mutable {
    const auto found = peers_.find(peer);
    if (found != peers_.end()) return found->second.add(std::move(writes), std::move(done));
    done({.status = error(ErrorCode::kIo, "peer {} is gone", peer)});
  });
}

void UcxLink::disconnect(int32_t peer, const std::string& why) {
  post([this, peer, why] {
    if (const auto found = peers_.find(peer); found != peers_.end()) found->second.lose(why);
  });
}

}  // namespace

Result<std::unique_ptr<Link>> make_ucx_link(const UcxLinkOptions& options) {
  auto link = std::make_unique<UcxLink>();
  HYLAS_TRY(link->init(options));
  return std::unique_ptr<Link>(std::move(link));
}

}  // namespace hylas
