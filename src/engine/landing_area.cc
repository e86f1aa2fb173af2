#include "engine/landing_area.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hylas {
namespace {

// Host memory of all areas of an instance together, a quarter of it for slots. What lands stays for as long as its
// prompt is computed and sent: so many prompts may be under way at a time.
constexpr int64_t kAreaBytes = int64_t{4} << 30;

int64_t fitting(int64_t bytes, int64_t each, int64_t least, int64_t most) {
  return std::clamp(each > 0 ? bytes / each : most, std::min(least, most), most);
}

}  // namespace

LandingSize choose_landing(const LandingNeeds& needs) {
  LandingSize size;
  size.slots = static_cast<int32_t>(fitting(kAreaBytes / 4, needs.slot_bytes, 1, needs.slots));
  const int64_t rest = std::max<int64_t>(kAreaBytes - size.slots * needs.slot_bytes, 0);
  size.pages = fitting(rest, needs.page_bytes, needs.prompt_pages, needs.pages);
  return size;
}

Result<std::unique_ptr<LandingArea>> LandingArea::make(Device& device, const StateLayout& layout, int64_t pages,
                                                       int32_t page_size, int32_t slots) {
  auto area = std::unique_ptr<LandingArea>(new LandingArea(device));
  Result<StatePools> pools = StatePools::make(*area->host_, layout, pages, page_size, slots);
  if (!pools.ok()) {
    return error(pools.error().code, "states that arrive land in host memory: {}. Lower --context-length",
                 pools.error().message);
  }
  area->pools_ = std::move(pools).value();
  return area;
}

void LandingArea::open(OnLeft on_left) {
  lock_ = PageLock(device_, memory(), memory_bytes());
  on_left_ = std::move(on_left);
}

void LandingArea::begin(const LandOp& op, StatePools& to) {
  HYLAS_CHECK(on_left_, "nobody hears of landings");
  to.begin_pages_from(pools_, op.part.from_pages, op.part.to_pages);
  to.begin_slot_from(pools_, op.part.from_slot, op.part.to_slot);
  begun_.push_back(op.sequence);
  mark_ = device_.mark();
}

void LandingArea::finish() {
  if (begun_.empty()) return;
  mark_->wait();
  mark_.reset();
  for (const uint64_t sequence : std::exchange(begun_, {})) on_left_(sequence);
}

}  // namespace hylas
