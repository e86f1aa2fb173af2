#include "transfer/ucx_peer.h"

#include <utility>

namespace hylas {
namespace {

using Clock = std::chrono::steady_clock;

// Enough to keep the wire busy while the next bytes are summed; more would only hold UCX's memory.
constexpr int kUnderWayMax = 128;
// Puts begun before callers, UCX and other peers get their turn.
constexpr int kPutsAtOnce = 8;
// Neighbours are put together up to here: summed just before, they are still in the cache when UCX reads them.
constexpr uint64_t kPutBytes = 256 << 10;

}  // namespace

Status ucx_check(ucs_status_t status, const std::string& what) {
  if (status == UCS_OK) return {};
  return error(ErrorCode::kIo, "UCX: {} failed: {}", what, ucs_status_string(status));
}

Status UcxPeer::connect(ucp_worker_h worker) {
  ucp_ep_params_t params{};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(memory_.worker.data());
  // Outstanding puts to a process that died must fail. UCX 1.13 cannot do that over shared memory, and leaves it out:
  // that is what the link through shared memory is for.
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler = {endpoint_failed, this};
  HYLAS_TRY(ucx_check(ucp_ep_create(worker, &params, &endpoint_), "connecting"));
  for (const std::string& key : memory_.keys) {
    ucp_rkey_h& unpacked = keys_.emplace_back(nullptr);
    if (key.empty()) continue;
    HYLAS_TRY(ucx_check(ucp_ep_rkey_unpack(endpoint_, key.data(), &unpacked), "ucp_ep_rkey_unpack"));
  }
  return {};
}

void UcxPeer::add(std::vector<Write> writes, Link::OnDone done) {
  auto put = std::make_unique<Put>();
  put->peer = this;
  put->writes = std::move(writes);
  put->done = std::move(done);
  puts_.push_back(std::move(put));
}

void UcxPeer::lose(const std::string& why) {
  if (!lost_.empty()) return;
  lost_ = why.empty() ? "disconnected" : why;
  lost_at_ = Clock::now();
}

void UcxPeer::endpoint_failed(void* peer, ucp_ep_h, ucs_status_t status) {
  static_cast<UcxPeer*>(peer)->lose(ucs_status_string(status));
}

void UcxPeer::ended(Put& put, ucs_status_t status) {
  --put.under_way;
  --put.peer->under_way_;
  put.peer->moved_at_ = Clock::now();
  if (status != UCS_OK) put.peer->lose(ucs_status_string(status));
}

void UcxPeer::request_ended(void* request, ucs_status_t status, void* put) {
  ended(*static_cast<Put*>(put), status);
  ucp_request_free(request);
}

template <class Start>
void UcxPeer::begin(Put& put, Start start) {
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.cb.send = request_ended;
  params.user_data = &put;
  if (put.peer->under_way_ == 0) put.peer->moved_at_ = Clock::now();
  ++put.under_way;
  ++put.peer->under_way_;
  void* request = start(params);
  if (!UCS_PTR_IS_PTR(request)) ended(put, UCS_PTR_RAW_STATUS(request));
}

// The next writes that lie together on both sides, as one. Each is summed on its own.
void UcxPeer::put_next(Put& put) {
  const Write first = put.writes[put.next];
  uint64_t bytes = 0;
  while (put.next < put.writes.size()) {
    const Write& write = put.writes[put.next];
    const bool adjacent = write.region == first.region && write.offset == first.offset + bytes &&
                          write.from == static_cast<const std::byte*>(first.from) + bytes;
    if (bytes > 0 && (!adjacent || bytes + write.bytes > kPutBytes)) break;
    put.result.status = check_inside(write, memory_.bytes);
    if (!put.result.status.ok()) break;
    put.result.sum += write_sum(write.from, write.bytes, write.identity);
    bytes += write.bytes;
    ++put.next;
  }
  if (bytes == 0) return;
  put.result.bytes += bytes;
  begin(put, [&](const ucp_request_param_t& params) {
    return ucp_put_nbx(endpoint_, first.from, bytes, memory_.addresses[first.region] + first.offset,
                       keys_[first.region], &params);
  });
}

bool UcxPeer::out_of_patience() const {
  return lost_.empty() && under_way_ > 0 && Clock::now() - moved_at_ > patience_;
}

// Asked before anything else: a process that was stopped itself for so long writes nothing when it wakes, since its
// peer may have given the memory to others.
bool UcxPeer::drive() {
  bool worked = false;
  if (out_of_patience()) lose(fmt::format("it took no bytes for {:.1f} s", patience_.count() * 1e-6));
  for (auto put = puts_.begin(); put != puts_.end() && lost_.empty(); ++put) {
    for (int i = 0; i < kPutsAtOnce && under_way_ < kUnderWayMax && lost_.empty() && !(*put)->all_begun(); ++i) {
      put_next(**put);
      worked = true;
    }
    if (!(*put)->all_begun()) break;
    if ((*put)->flushed || !lost_.empty()) continue;
    (*put)->flushed = true;
    begin(**put, [&](const ucp_request_param_t& params) { return ucp_ep_flush_nbx(endpoint_, &params); });
    worked = true;
  }
  if (!lost_.empty()) begin_close();
  return worked;
}

bool UcxPeer::finish() {
  bool any = false;
  for (auto it = puts_.begin(); it != puts_.end();) {
    Put& put = **it;
    const bool given_up = !lost_.empty() && Clock::now() - lost_at_ > kUcxCloseWait;
    const bool over = put.under_way == 0 && (lost_.empty() ? put.flushed : closed());
    if (!over && !given_up) {
      ++it;
      continue;
    }
    if (!lost_.empty()) put.result.status = error(ErrorCode::kIo, "the peer is lost: {}", lost_);
    put.done(std::move(put.result));
    if (put.under_way > 0) given_up_.push_back(std::move(*it));
    it = puts_.erase(it);
    any = true;
  }
  if (!lost_.empty()) closed();
  return any;
}

bool UcxPeer::over() const {
  return !lost_.empty() && puts_.empty() && under_way_ == 0 && endpoint_ == nullptr && closing_ == nullptr;
}

void UcxPeer::begin_close() {
  if (endpoint_ == nullptr) return;
  for (ucp_rkey_h key : std::exchange(keys_, {})) {
    if (key != nullptr) ucp_rkey_destroy(key);
  }
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = lost_.empty() ? 0 : UCP_EP_CLOSE_FLAG_FORCE;
  void* request = ucp_ep_close_nbx(std::exchange(endpoint_, nullptr), &params);
  if (UCS_PTR_IS_PTR(request)) closing_ = request;
}

bool UcxPeer::closed() {
  if (endpoint_ != nullptr) return false;
  if (closing_ == nullptr) return true;
  if (ucp_request_check_status(closing_) == UCS_INPROGRESS) return false;
  ucp_request_free(std::exchange(closing_, nullptr));
  return true;
}

}  // namespace hylas
