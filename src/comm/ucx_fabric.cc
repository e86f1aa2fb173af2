#include "comm/ucx_fabric.h"

#include <poll.h>
#include <ucp/api/ucp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/thread.h"
#include "comm/ucx_log.h"

namespace hylas {
namespace {

// The sender stands in the upper 16 bits of the wire's tag: the receiver names whom it expects.
uint64_t wire_tag(int32_t sender, uint64_t tag) {
  HYLAS_CHECK(tag >> 48 == 0, "tag {} is too large", tag);
  return static_cast<uint64_t>(sender) << 48 | tag;
}

// One call on its way: made by a caller, driven by the progress thread, awaited by the caller.
struct Operation {
  enum class Kind { kSend, kRecv, kConnect } kind;
  int32_t peer = -1;
  uint64_t tag = 0;
  void* data = nullptr;
  size_t bytes = 0;
  const std::string* address = nullptr;
  void* request = nullptr;  // UCX's, while under way
  size_t received = 0;
  std::string failure;
  bool done = false;
  bool posted = false;          // nobody awaits it: it belongs to the fabric
  std::vector<std::byte> copy;  // a posted message
};

std::string status_text(ucs_status_t status) { return ucs_status_string(status); }

}  // namespace

struct UcxFabric::Impl {
  ucp_context_h context = nullptr;
  ucp_worker_h worker = nullptr;
  std::string address;
  PeerLost on_lost;
  int event_fd = -1;

  std::mutex mutex;
  std::condition_variable finished;
  std::vector<Operation*> inbox;                            // guarded by mutex
  std::vector<std::pair<int32_t, std::string>> lost_inbox;  // guarded by mutex
  std::vector<std::unique_ptr<Operation>> spare;            // guarded by mutex: finished posts, for their memory
  bool stopping = false;                                    // guarded by mutex

  // The progress thread's own.
  struct Peer {
    ucp_ep_h endpoint = nullptr;
    std::string lost;  // reason; empty while alive
  };
  std::map<int32_t, Peer> peers;
  std::list<Operation*> active;
  std::thread thread;
  std::optional<std::chrono::steady_clock::time_point> stopping_since;
  int32_t self = 0;

  ~Impl();
  Status init(const UcxOptions& options);
  void run();
  void close_endpoints();
  bool take_inbox();
  void start(Operation* op);
  void start_connect(Operation* op);
  void complete(Operation* op, std::string failure);
  void recycle(Operation* op, const std::string& failure);
  bool may_stop();
  bool reap();
  void mark_lost(int32_t peer, const std::string& reason);
  static void endpoint_failed(void* context, ucp_ep_h endpoint, ucs_status_t status);
  void enqueue(Operation& op);
  Status submit(Operation& op);
};

// What a clean end waits for: unsent messages, and peers that do not answer.
constexpr auto kCloseWait = std::chrono::seconds(2);

void UcxFabric::Impl::endpoint_failed(void* context, ucp_ep_h endpoint, ucs_status_t status) {
  auto* impl = static_cast<Impl*>(context);
  for (auto& [id, peer] : impl->peers) {
    if (peer.endpoint == endpoint) impl->mark_lost(id, status_text(status));
  }
}

Status UcxFabric::Impl::init(const UcxOptions& options) {
  const auto check = [](ucs_status_t status, const char* what) -> Status {
    if (status == UCS_OK) return {};
    return error(ErrorCode::kIo, "UCX: {} failed: {}", what, status_text(status));
  };
  log_ucx_here();
  ucp_config_t* config = nullptr;
  HYLAS_TRY(check(ucp_config_read(nullptr, nullptr, &config), "reading the configuration"));
  if (!options.devices.empty()) {
    HYLAS_TRY(check(ucp_config_modify(config, "NET_DEVICES", options.devices.c_str()), "setting NET_DEVICES"));
  }
  if (!options.transports.empty()) {
    HYLAS_TRY(check(ucp_config_modify(config, "TLS", options.transports.c_str()), "setting TLS"));
  }
  ucp_config_modify(config, "KEEPALIVE_INTERVAL", "1s");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_TAG | UCP_FEATURE_WAKEUP;
  const ucs_status_t initialised = ucp_init(&params, config, &context);
  ucp_config_release(config);
  HYLAS_TRY(
      check(initialised,
            fmt::format("ucp_init with devices '{}', transports '{}'", options.devices, options.transports).c_str()));
  ucp_worker_params_t worker_params{};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SINGLE;
  HYLAS_TRY(check(ucp_worker_create(context, &worker_params, &worker), "ucp_worker_create"));
  HYLAS_TRY(check(ucp_worker_get_efd(worker, &event_fd), "ucp_worker_get_efd"));
  ucp_address_t* bytes = nullptr;
  size_t length = 0;
  HYLAS_TRY(check(ucp_worker_get_address(worker, &bytes, &length), "ucp_worker_get_address"));
  address.assign(reinterpret_cast<const char*>(bytes), length);
  ucp_worker_release_address(worker, bytes);
  thread = std::thread([this] { run(); });
  return {};
}

UcxFabric::Impl::~Impl() {
  if (thread.joinable()) {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    ucp_worker_signal(worker);
    thread.join();
  }
  if (worker) ucp_worker_destroy(worker);
  if (context) ucp_cleanup(context);
}

void UcxFabric::Impl::run() {
  set_thread_name("ucx");
  bool stop = false;
  while (!stop) {
    bool worked = take_inbox();
    while (ucp_worker_progress(worker) != 0) worked = true;
    worked |= reap();
    stop = may_stop();
    if (worked || stop) continue;
    // Nothing to do: sleep until UCX or a caller has news. The timeout lets keep-alive run.
    if (ucp_worker_arm(worker) != UCS_OK) continue;
    pollfd event{event_fd, POLLIN, 0};
    poll(&event, 1, 500);
  }
  close_endpoints();
  for (Operation* op : active) recycle(op, "");
}

// A posted message that no peer takes is given up in the end.
bool UcxFabric::Impl::may_stop() {
  std::lock_guard lock(mutex);
  if (!stopping || !inbox.empty()) return false;
  const auto now = std::chrono::steady_clock::now();
  if (!stopping_since) stopping_since = now;
  const bool only_posts = std::all_of(active.begin(), active.end(), [](const Operation* op) { return op->posted; });
  return active.empty() || (only_posts && now - *stopping_since > kCloseWait);
}

// A living peer's endpoint is flushed: what was sent arrives. The wait is bounded, since the peer may be gone.
void UcxFabric::Impl::close_endpoints() {
  const auto deadline = std::chrono::steady_clock::now() + kCloseWait;
  for (auto& [id, peer] : peers) {
    ucp_request_param_t params{};
    params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    params.flags = peer.lost.empty() ? 0 : UCP_EP_CLOSE_FLAG_FORCE;
    void* request = ucp_ep_close_nbx(peer.endpoint, &params);
    if (!UCS_PTR_IS_PTR(request)) continue;
    while (ucp_request_check_status(request) == UCS_INPROGRESS && std::chrono::steady_clock::now() < deadline) {
      ucp_worker_progress(worker);
    }
    ucp_request_free(request);
  }
}

bool UcxFabric::Impl::take_inbox() {
  std::vector<Operation*> taken;
  std::vector<std::pair<int32_t, std::string>> lost;
  {
    std::lock_guard lock(mutex);
    taken.swap(inbox);
    lost.swap(lost_inbox);
    if (stopping) {
      for (Operation* op : active) {
        if (op->kind == Operation::Kind::kRecv) ucp_request_cancel(worker, op->request);
      }
    }
  }
  for (auto& [peer, reason] : lost) mark_lost(peer, reason);
  for (Operation* op : taken) start(op);
  return !taken.empty();
}

void UcxFabric::Impl::start_connect(Operation* op) {
  ucp_ep_params_t params{};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(op->address->data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler = {endpoint_failed, this};
  Peer peer;
  const ucs_status_t status = ucp_ep_create(worker, &params, &peer.endpoint);
  if (status == UCS_OK) peers[op->peer] = peer;
  complete(op, status == UCS_OK ? "" : "cannot connect: " + status_text(status));
}

void UcxFabric::Impl::start(Operation* op) {
  if (op->kind == Operation::Kind::kConnect) return start_connect(op);
  const auto found = peers.find(op->peer);
  HYLAS_CHECK(found != peers.end(), "peer {} is not connected", op->peer);
  if (!found->second.lost.empty()) return complete(op, found->second.lost);
  ucp_request_param_t params{};
  if (op->kind == Operation::Kind::kSend) {
    op->request = ucp_tag_send_nbx(found->second.endpoint, op->data, op->bytes, op->tag, &params);
  } else {
    params.op_attr_mask = UCP_OP_ATTR_FLAG_NO_IMM_CMPL;  // the request tells the length
    op->request = ucp_tag_recv_nbx(worker, op->data, op->bytes, op->tag, ~0ull, &params);
  }
  if (op->request == nullptr) return complete(op, "");
  if (UCS_PTR_IS_ERR(op->request)) return complete(op, status_text(UCS_PTR_STATUS(op->request)));
  active.push_back(op);
}

void UcxFabric::Impl::complete(Operation* op, std::string failure) {
  if (op->posted) return recycle(op, failure);
  std::lock_guard lock(mutex);
  op->failure = std::move(failure);
  op->done = true;
  finished.notify_all();
}

void UcxFabric::Impl::recycle(Operation* op, const std::string& failure) {
  if (!failure.empty()) mark_lost(op->peer, failure);
  std::lock_guard lock(mutex);
  spare.emplace_back(op);
}

// Hands finished requests back to their callers.
bool UcxFabric::Impl::reap() {
  bool any = false;
  for (auto it = active.begin(); it != active.end();) {
    Operation* op = *it;
    ucs_status_t status;
    if (op->kind == Operation::Kind::kRecv) {
      ucp_tag_recv_info_t info{};
      status = ucp_tag_recv_request_test(op->request, &info);
      op->received = info.length;
    } else {
      status = ucp_request_check_status(op->request);
    }
    if (status == UCS_INPROGRESS) {
      ++it;
      continue;
    }
    ucp_request_free(op->request);
    it = active.erase(it);
    any = true;
    const auto peer = peers.find(op->peer);
    const bool cancelled = status == UCS_ERR_CANCELED && peer != peers.end() && !peer->second.lost.empty();
    complete(op, status == UCS_OK ? "" : cancelled ? peer->second.lost : status_text(status));
  }
  return any;
}

void UcxFabric::Impl::mark_lost(int32_t id, const std::string& reason) {
  const auto found = peers.find(id);
  if (found == peers.end() || !found->second.lost.empty()) return;
  found->second.lost = reason;
  for (Operation* op : active) {
    if (op->peer == id) ucp_request_cancel(worker, op->request);
  }
  if (on_lost) on_lost(id, reason);
}

void UcxFabric::Impl::enqueue(Operation& op) {
  {
    std::lock_guard lock(mutex);
    HYLAS_CHECK(!stopping, "a call after the fabric's end");
    inbox.push_back(&op);
  }
  ucp_worker_signal(worker);
}

Status UcxFabric::Impl::submit(Operation& op) {
  enqueue(op);
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return op.done; });
  if (op.failure.empty()) return {};
  return error(ErrorCode::kIo, "connection to node {}: {}", op.peer, op.failure);
}

UcxFabric::UcxFabric(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
UcxFabric::~UcxFabric() = default;

Result<std::unique_ptr<UcxFabric>> UcxFabric::make(const UcxOptions& options, int32_t self, PeerLost on_lost) {
  HYLAS_CHECK(self >= 0 && self < (1 << 16), "id {}", self);
  auto impl = std::make_unique<Impl>();
  impl->self = self;
  impl->on_lost = std::move(on_lost);
  HYLAS_TRY(impl->init(options));
  return std::unique_ptr<UcxFabric>(new UcxFabric(std::move(impl)));
}

const std::string& UcxFabric::address() const { return impl_->address; }

Status UcxFabric::connect(int32_t peer, const std::string& address) {
  Operation op{.kind = Operation::Kind::kConnect, .peer = peer, .address = &address};
  return impl_->submit(op);
}

Status UcxFabric::send(int32_t peer, uint64_t tag, const void* data, size_t bytes) {
  Operation op{.kind = Operation::Kind::kSend,
               .peer = peer,
               .tag = wire_tag(impl_->self, tag),
               .data = const_cast<void*>(data),
               .bytes = bytes};
  return impl_->submit(op);
}

void UcxFabric::post(int32_t peer, uint64_t tag, const void* data, size_t bytes) {
  std::unique_ptr<Operation> op;
  {
    std::lock_guard lock(impl_->mutex);
    if (!impl_->spare.empty()) {
      op = std::move(impl_->spare.back());
      impl_->spare.pop_back();
    }
  }
  std::vector<std::byte> copy = op ? std::move(op->copy) : std::vector<std::byte>();
  copy.resize(bytes);
  if (bytes > 0) std::memcpy(copy.data(), data, bytes);
  if (!op) op = std::make_unique<Operation>();
  *op = {.kind = Operation::Kind::kSend, .peer = peer, .tag = wire_tag(impl_->self, tag), .bytes = bytes};
  op->copy = std::move(copy);
  op->data = op->copy.data();
  op->posted = true;
  impl_->enqueue(*op.release());
}

Status UcxFabric::recv(int32_t peer, uint64_t tag, void* data, size_t bytes) {
  Operation op{.kind = Operation::Kind::kRecv, .peer = peer, .tag = wire_tag(peer, tag), .data = data, .bytes = bytes};
  HYLAS_TRY(impl_->submit(op));
  if (op.received == bytes) return {};
  return error(ErrorCode::kIo, "node {} sent {} bytes where {} were expected", peer, op.received, bytes);
}

Status UcxFabric::send_message(int32_t peer, uint64_t tag, const std::string& message) {
  const uint64_t bytes = message.size();
  HYLAS_TRY(send(peer, tag, &bytes, sizeof bytes));
  return send(peer, tag, message.data(), message.size());
}

Result<std::string> UcxFabric::recv_message(int32_t peer, uint64_t tag, size_t bytes_max) {
  uint64_t bytes = 0;
  HYLAS_TRY(recv(peer, tag, &bytes, sizeof bytes));
  if (bytes > bytes_max) {
    return error(ErrorCode::kIo, "node {} announces a message of {} bytes, at most {} are allowed", peer, bytes,
                 bytes_max);
  }
  std::string message(bytes, '\0');
  HYLAS_TRY(recv(peer, tag, message.data(), message.size()));
  return message;
}

void UcxFabric::lose(int32_t peer, const std::string& reason) {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->lost_inbox.emplace_back(peer, reason);
  }
  ucp_worker_signal(impl_->worker);
}

}  // namespace hylas
