#include "cache/memory_budget.h"

#include <algorithm>

namespace hylas {
namespace {

double mib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

int64_t pages_for(int64_t tokens, int32_t page_size) { return (tokens + page_size - 1) / page_size; }

Status check(const BudgetInputs& in) {
  if (in.fraction <= 0 || in.fraction > 1) {
    return error(ErrorCode::kInvalid, "--mem-fraction-static {}: must be greater than 0 and at most 1", in.fraction);
  }
  if (in.page_size < 1) return error(ErrorCode::kInvalid, "--page-size {}: must be at least 1", in.page_size);
  if (in.context_length < 2) {
    return error(ErrorCode::kInvalid, "--context-length {}: must be at least 2", in.context_length);
  }
  if (in.kv_tokens_max != 0 && in.kv_tokens_max < in.page_size) {
    return error(ErrorCode::kInvalid, "--max-total-tokens {}: must be at least one page of {} tokens (--page-size)",
                 in.kv_tokens_max, in.page_size);
  }
  if (in.running_max < 0) {
    return error(ErrorCode::kInvalid, "--max-running-requests {}: must be at least 1", in.running_max);
  }
  return {};
}

Error too_small(const BudgetInputs& in, int64_t usable, int64_t pages, int64_t slots) {
  const int64_t tokens = std::min<int64_t>(pages * in.page_size, in.context_length);
  const int64_t kv = pages * in.page_size * in.token_bytes;
  return error(
      ErrorCode::kExhausted,
      "memory too small: one request of {} tokens beside {} running ones needs {:.1f} MiB of KV and {:.1f} MiB of "
      "state, but {:.1f} MiB are left ({:.1f} MiB free x {} less {:.1f} MiB of activations). Lower "
      "--context-length, --max-running-requests or --chunked-prefill-size, or raise --mem-fraction-static",
      tokens, slots - 1, mib(kv), mib(slots * in.sequence_bytes), mib(std::max<int64_t>(usable, 0)), mib(in.free_bytes),
      in.fraction, mib(in.arena_bytes));
}

// As many as typical sequences fill the memory, while one of the whole context still fits beside their slots.
int32_t choose_running(const BudgetInputs& in, int64_t usable, int64_t context_kv_bytes) {
  const int64_t typical = std::min(in.context_length, kTypicalTokens) * in.token_bytes + in.sequence_bytes;
  int64_t running = kRunningMaxDefault;
  if (typical > 0) running = std::min(running, usable / typical);
  if (in.sequence_bytes > 0) running = std::min(running, (usable - context_kv_bytes) / in.sequence_bytes);
  return static_cast<int32_t>(std::max<int64_t>(running, 1));
}

}  // namespace

Result<MemoryBudget> plan_memory(const BudgetInputs& in) {
  HYLAS_TRY(check(in));
  const int64_t usable = static_cast<int64_t>(static_cast<double>(in.free_bytes) * in.fraction) - in.arena_bytes;
  const int64_t page_bytes = in.token_bytes * in.page_size;
  const int64_t context_pages = pages_for(in.context_length, in.page_size);
  const int64_t pages_asked = in.kv_tokens_max / in.page_size;
  const int64_t pages_least = pages_asked ? std::min(pages_asked, context_pages) : context_pages;

  const int32_t slots = in.running_max ? in.running_max : choose_running(in, usable, pages_least * page_bytes);
  const int64_t kv_bytes = usable - slots * in.sequence_bytes;
  if (kv_bytes < pages_least * page_bytes) return too_small(in, usable, pages_least, slots);

  int64_t pages = slots * context_pages;
  if (page_bytes > 0) pages = std::min(pages, kv_bytes / page_bytes);
  if (pages_asked) {
    if (page_bytes > 0 && pages_asked > kv_bytes / page_bytes) return too_small(in, usable, pages_asked, slots);
    pages = pages_asked;
  }
  return MemoryBudget{.pages = pages,
                      .slots = slots,
                      .page_bytes_total = pages * page_bytes,
                      .slot_bytes_total = slots * in.sequence_bytes,
                      .arena_bytes = in.arena_bytes};
}

}  // namespace hylas
