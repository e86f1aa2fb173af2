// The link over UCX: puts into the peer's registered memory, driven by a thread of its own, which alone calls UCX.
#include <poll.h>
#include <ucp/api/ucp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/thread.h"
#include "comm/ucx_log.h"
#include "transfer/link.h"
#include "transfer/ucx_memory.h"
#include "transfer/ucx_peer.h"
#include "transfer/ucx_transports.h"

namespace hylas {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kConnectWait = std::chrono::seconds(5);

class UcxLink : public Link {
 public:
  ~UcxLink() override;
  Status init(const UcxLinkOptions& options);

  Status open(std::span<const Region> regions) override;
  Result<std::string> invite() override;
  bool revoke(const std::string& invitation) override;
  Result<int32_t> connect(const std::string& invitation) override;
  void put(int32_t peer, std::vector<Write> writes, OnDone done) override;
  void disconnect(int32_t peer, const std::string& why) override;

 private:
  // Who is invited writes through a worker of its own: when it is destroyed, so are its connections, and what is still
  // on its way finds nobody.
  struct Host {
    ucp_worker_h worker = nullptr;
    int event_fd = -1;
  };

  // Runs `call` on the link's thread, in the order of the calls.
  void post(std::function<void()> call);
  // The same, and waits for its answer.
  template <class Call>
  auto ask(Call call);
  bool take_inbox();
  void run();
  bool progress();
  void sleep();
  bool may_stop();
  void close_endpoints();

  Result<Host> make_host() const;
  Status map(std::span<const Region> regions);
  Result<std::string> welcome();

  ucp_context_h context_ = nullptr;
  Host mine_;  // through which this process writes
  int64_t patience_us_ = 0;

  std::mutex mutex_;
  std::vector<std::function<void()>> inbox_;  // guarded by mutex_
  bool stopping_ = false;                     // guarded by mutex_
  int32_t next_peer_ = 0;                     // guarded by mutex_

  // The thread's own.
  std::map<int32_t, UcxPeer> peers_;
  std::vector<ucp_mem_h> mapped_;
  UcxMemory memory_;                   // of what is mapped; without a worker
  std::map<std::string, Host> hosts_;  // by invitation
  std::optional<Clock::time_point> stopping_since_;
  std::thread thread_;
};

Status UcxLink::init(const UcxLinkOptions& options) {
  log_ucx_here();
  ucp_config_t* config = nullptr;
  HYLAS_TRY(ucx_check(ucp_config_read(nullptr, nullptr, &config), "reading the configuration"));
  const auto set = [&](const char* name, const std::string& value) {
    return value.empty() ? UCS_OK : ucp_config_modify(config, name, value.c_str());
  };
  ucs_status_t status = set("NET_DEVICES", options.devices);
  if (status == UCS_OK) status = set("TLS", options.transports);
  if (status == UCS_OK) status = set("KEEPALIVE_INTERVAL", "1s");
  const bool has_tcp = allows_any_of(options.transports.empty() ? ucx_transports() : options.transports, {"tcp"});
  for (const char* name : {"TX_SEG_SIZE", "RX_SEG_SIZE"}) {  // UCX complains where nobody has them
    if (status == UCS_OK && has_tcp) status = set(name, options.tcp_segments);
  }
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  if (status == UCS_OK) status = ucp_init(&params, config, &context_);
  ucp_config_release(config);
  HYLAS_TRY(ucx_check(status,
                      fmt::format("ucp_init with devices '{}', transports '{}'", options.devices, options.transports)));
  HYLAS_ASSIGN(mine_, make_host());
  patience_us_ = options.patience_us;
  thread_ = std::thread([this] { run(); });
  return {};
}

Result<UcxLink::Host> UcxLink::make_host() const {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  Host host;
  HYLAS_TRY(ucx_check(ucp_worker_create(context_, &params, &host.worker), "ucp_worker_create"));
  const Status waits = ucx_check(ucp_worker_get_efd(host.worker, &host.event_fd), "ucp_worker_get_efd");
  if (waits.ok()) return host;
  ucp_worker_destroy(host.worker);
  return waits.error();
}

UcxLink::~UcxLink() {
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ucp_worker_signal(mine_.worker);
    thread_.join();
  }
  for (const auto& [invitation, host] : hosts_) ucp_worker_destroy(host.worker);
  if (mine_.worker) ucp_worker_destroy(mine_.worker);  // with what was given up still there
  for (ucp_mem_h memory : mapped_) ucp_mem_unmap(context_, memory);
  peers_.clear();
  if (context_) ucp_cleanup(context_);
}

void UcxLink::post(std::function<void()> call) {
  {
    std::lock_guard lock(mutex_);
    HYLAS_CHECK(!stopping_, "a call after the link's end");
    inbox_.push_back(std::move(call));
  }
  ucp_worker_signal(mine_.worker);
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
    worked |= progress();
    for (auto& [id, peer] : peers_) worked |= peer.finish();
    std::erase_if(peers_, [](auto& entry) { return entry.second.over(); });
    stop = may_stop();
    if (!worked && !stop) sleep();
  }
  close_endpoints();
}

bool UcxLink::progress() {
  bool worked = ucp_worker_progress(mine_.worker) != 0;
  for (const auto& [invitation, host] : hosts_) worked |= ucp_worker_progress(host.worker) != 0;
  return worked;
}

// Until UCX or a caller has news. The timeout lets keep-alive run, and patience end.
void UcxLink::sleep() {
  constexpr int kTickMs = 500;
  std::vector<pollfd> events = {{mine_.event_fd, POLLIN, 0}};
  if (ucp_worker_arm(mine_.worker) != UCS_OK) return;
  for (const auto& [invitation, host] : hosts_) {
    if (ucp_worker_arm(host.worker) != UCS_OK) return;
    events.push_back({host.event_fd, POLLIN, 0});
  }
  poll(events.data(), events.size(), kTickMs);
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
    while (!peer.closed() && Clock::now() < deadline) progress();
  }
}

template <class Call>
auto UcxLink::ask(Call call) {
  std::promise<decltype(call())> answer;
  post([&] { answer.set_value(call()); });
  return answer.get_future().get();
}

Status UcxLink::open(std::span<const Region> regions) {
  return ask([&] { return map(regions); });
}

Status UcxLink::map(std::span<const Region> regions) {
  HYLAS_CHECK(mapped_.empty(), "opened twice");
  for (const Region& region : regions) {
    memory_.addresses.push_back(reinterpret_cast<uint64_t>(region.data));
    memory_.bytes.push_back(region.bytes);
    std::string& key = memory_.keys.emplace_back();
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
  return {};
}

Result<std::string> UcxLink::invite() {
  return ask([&] { return welcome(); });
}

Result<std::string> UcxLink::welcome() {
  HYLAS_ASSIGN(const Host host, make_host());
  ucp_address_t* address = nullptr;
  size_t bytes = 0;
  const Status told = ucx_check(ucp_worker_get_address(host.worker, &address, &bytes), "ucp_worker_get_address");
  if (!told.ok()) {
    ucp_worker_destroy(host.worker);
    return told.error();
  }
  UcxMemory memory = memory_;
  memory.worker.assign(reinterpret_cast<const char*>(address), bytes);
  ucp_worker_release_address(host.worker, address);
  std::string invitation = encode(memory);
  hosts_[invitation] = host;
  return invitation;
}

bool UcxLink::revoke(const std::string& invitation) {
  return ask([&] {
    const auto found = hosts_.find(invitation);
    if (found == hosts_.end()) return true;
    ucp_worker_destroy(found->second.worker);
    hosts_.erase(found);
    return true;
  });
}

Result<int32_t> UcxLink::connect(const std::string& invitation) {
  HYLAS_ASSIGN(UcxMemory memory, decode_ucx_memory(invitation));
  auto connected = std::make_shared<std::promise<Status>>();
  std::future<Status> answer = connected->get_future();
  int32_t id = 0;
  {
    std::lock_guard lock(mutex_);
    id = next_peer_++;
  }
  post([this, id, memory = std::move(memory), connected] {
    UcxPeer& peer = peers_.try_emplace(id, memory, patience_us_).first->second;
    if (const Status made = peer.connect(mine_.worker); !made.ok()) peer.lose(made.error().message);
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

std::string ucx_transports() {
  constexpr std::string_view kName = "UCX_TLS=";
  ucp_config_t* config = nullptr;
  if (ucp_config_read(nullptr, nullptr, &config) != UCS_OK) return "all";
  char* printed = nullptr;
  size_t bytes = 0;
  FILE* stream = open_memstream(&printed, &bytes);
  HYLAS_CHECK(stream != nullptr);
  ucp_config_print(config, stream, nullptr, UCS_CONFIG_PRINT_CONFIG);
  fclose(stream);
  ucp_config_release(config);
  const std::string text = '\n' + std::string(printed, bytes);
  free(printed);
  const size_t at = text.find('\n' + std::string(kName));
  if (at == std::string::npos) return "all";
  const size_t begin = at + 1 + kName.size();
  return text.substr(begin, text.find('\n', begin) - begin);
}

Result<std::unique_ptr<Link>> make_ucx_link(const UcxLinkOptions& options) {
  auto link = std::make_unique<UcxLink>();
  HYLAS_TRY(link->init(options));
  return std::unique_ptr<Link>(std::move(link));
}

}  // namespace hylas
