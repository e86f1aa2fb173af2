#include "transfer/instance_layout.h"

#include <algorithm>
#include <map>

#include "base/byte_io.h"
#include "cache/pool_blocks.h"

namespace hylas {

// The members on the wire, in their order (base/byte_io.h).
template <class Io>
void fields(Io& io, Like<StateSegment> auto& v) {
  io(v.name, v.units, v.unit_elements, v.unit_begin);
}
template <class Io>
void fields(Io& io, Like<StateKind> auto& v) {
  io(v.name, v.scope, v.layers, v.segments, v.replicated, v.dtype);
  io.expect(v.scope <= StateScope::kPerSequence && v.dtype <= DType::kU8);
}
template <class Io>
void fields(Io& io, Like<StateLayout> auto& v) {
  io(v.kinds);
}
template <class Io>
void fields(Io& io, Like<ParallelSizes> auto& v) {
  io(v.tp, v.pp, v.ep, v.dp, v.nodes);
}
template <class Io>
void fields(Io& io, Like<InstanceLayout> auto& v) {
  io(v.model, v.weights, v.page_size, v.pages, v.slots, v.sizes, v.ranks);
}

namespace {

// Far more than any model or machine has; they keep what is computed from a peer's numbers small.
constexpr int64_t kRanksMax = 1 << 12;
constexpr size_t kKindsMax = 8, kSegmentsMax = 8, kLayersMax = 1 << 10;
constexpr int64_t kUnitsMax = 1 << 10, kUnitElementsMax = 1 << 24, kPageSizeMax = 1 << 16;
constexpr int64_t kPoolBytesMax = int64_t{1} << 48;

Error senseless(const std::string& what) {
  return error(ErrorCode::kInvalid, "the description of an instance's state makes no sense: {}", what);
}

bool within(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }

Status check_kind(const StateKind& kind) {
  const bool ascending =
      std::adjacent_find(kind.layers.begin(), kind.layers.end(), std::greater_equal<>()) == kind.layers.end();
  if (kind.layers.empty() || kind.layers.size() > kLayersMax || kind.layers.front() < 0 || !ascending) {
    return senseless(fmt::format("{} layers of {}, or not in ascending order", kind.layers.size(), kind.name));
  }
  if (kind.segments.empty() || kind.segments.size() > kSegmentsMax) {
    return senseless(fmt::format("{} has {} segments", kind.name, kind.segments.size()));
  }
  for (const StateSegment& s : kind.segments) {
    if (within(s.units, 1, kUnitsMax) && within(s.unit_begin, 0, kUnitsMax) &&
        within(s.unit_elements, 1, kUnitElementsMax)) {
      continue;
    }
    return senseless(fmt::format("{}.{} has {} units of {} elements from number {} on", kind.name, s.name, s.units,
                                 s.unit_elements, s.unit_begin));
  }
  return {};
}

Status check_rank(const StateLayout& layout, int32_t page_size, int64_t pages, int64_t slots) {
  if (layout.kinds.size() > kKindsMax) return senseless(fmt::format("{} kinds", layout.kinds.size()));
  for (size_t i = 0; i < layout.kinds.size(); ++i) {
    const StateKind& kind = layout.kinds[i];
    HYLAS_TRY(check_kind(kind));
    if (layout.find(kind.name) != &kind) return senseless(fmt::format("a rank has two kinds named {}", kind.name));
    // None of these products overflows: at most 2^16 * 8 * 2^10 * 2^24 * 2^10 * 8.
    const double count = static_cast<double>(kind.scope == StateScope::kPerToken ? pages * page_size : slots);
    const double bytes = static_cast<double>(kind.layer_elements()) * static_cast<double>(kind.layers.size()) *
                         dtype_bytes(kind.dtype) * count;
    if (bytes > static_cast<double>(kPoolBytesMax)) return senseless(fmt::format("{} bytes of {}", bytes, kind.name));
  }
  return {};
}

Status check(const InstanceLayout& layout) {
  const ParallelSizes& sizes = layout.sizes;
  if (const Status status = check_sizes(sizes); !status.ok()) return senseless(status.error().message);
  if (int64_t{sizes.tp} * sizes.pp > kRanksMax || static_cast<int64_t>(layout.ranks.size()) != sizes.world()) {
    return senseless(fmt::format("{} ranks where tp is {} and pp {}", layout.ranks.size(), sizes.tp, sizes.pp));
  }
  if (!within(layout.page_size, 1, kPageSizeMax) || !within(layout.pages, 0, INT32_MAX) ||
      !within(layout.slots, 0, INT32_MAX)) {
    return senseless(fmt::format("{} pages of {} tokens and {} slots", layout.pages, layout.page_size, layout.slots));
  }
  for (const StateLayout& rank : layout.ranks) {
    HYLAS_TRY(check_rank(rank, layout.page_size, layout.pages, layout.slots));
  }
  return {};
}

// Heads of one segment of one layer that the ranks of a dp group hold.
using Held = std::vector<bool>;
// What an instance keeps of one kind, over all its ranks.
struct Total {
  const StateKind* example = nullptr;
  std::vector<int64_t> units;                                    // [segment]
  std::map<int32_t, std::map<int32_t, std::vector<Held>>> held;  // {layer, dp group} -> [segment]
};
using Totals = std::map<std::string, Total>;

std::string shape(const StateKind& kind) {
  std::string text = fmt::format("{} {} of", dtype_name(kind.dtype),
                                 kind.scope == StateScope::kPerToken ? "per token" : "per sequence");
  for (const StateSegment& s : kind.segments) text += fmt::format(" {}[{}]", s.name, s.unit_elements);
  return text;
}

Error differ(const std::string& what, const std::string& at_prefill, const std::string& at_decode) {
  return error(ErrorCode::kUnsupported,
               "the prefilling and the decoding instance do not fit together: {} there, {} here ({})", at_prefill,
               at_decode, what);
}

Status add_rank(const StateLayout& layout, int32_t group, Totals& totals) {
  for (const StateKind& kind : layout.kinds) {
    Total& total = totals[kind.name];
    if (total.example == nullptr) total.example = &kind;
    if (shape(*total.example) != shape(kind)) {
      return error(ErrorCode::kUnsupported, "ranks of one instance keep different {}: {} and {}", kind.name,
                   shape(*total.example), shape(kind));
    }
    total.units.resize(kind.segments.size());
    for (int32_t layer : kind.layers) {
      std::vector<Held>& held = total.held[layer][group];
      held.resize(kind.segments.size());
      for (size_t s = 0; s < kind.segments.size(); ++s) {
        const StateSegment& segment = kind.segments[s];
        const int64_t end = segment.unit_begin + segment.units;
        total.units[s] = std::max(total.units[s], end);
        if (static_cast<int64_t>(held[s].size()) < end) held[s].resize(end);
        std::fill_n(held[s].begin() + segment.unit_begin, segment.units, true);
      }
    }
  }
  return {};
}

// kUnsupported when a dp group lacks a head of a layer that another one has.
Result<Totals> totals_of(const InstanceLayout& layout, const char* who) {
  Totals totals;
  for (int32_t rank = 0; rank < layout.sizes.world(); ++rank) {
    HYLAS_TRY(add_rank(layout.ranks[rank], place_of(layout.sizes, rank).dp_group, totals));
  }
  for (const auto& [name, total] : totals) {
    for (const auto& [layer, groups] : total.held) {
      for (int32_t group = 0; group < layout.sizes.dp; ++group) {
        const auto found = groups.find(group);
        for (size_t s = 0; s < total.units.size(); ++s) {
          const int64_t held =
              found == groups.end() ? 0 : std::count(found->second[s].begin(), found->second[s].end(), true);
          if (held == total.units[s]) continue;
          return error(ErrorCode::kUnsupported,
                       "dp group {} of the {} instance holds {} of {} heads of {}.{}, layer {}", group, who, held,
                       total.units[s], name, total.example->segments[s].name, layer);
        }
      }
    }
  }
  return totals;
}

std::string numbers(const std::map<int32_t, std::map<int32_t, std::vector<Held>>>& layers) {
  std::string text;
  for (const auto& [layer, groups] : layers) text += fmt::format("{}{}", text.empty() ? "" : " ", layer);
  return text;
}

Status check_kinds(const std::string& name, const Total& prefill, const Total& decode) {
  if (shape(*prefill.example) != shape(*decode.example)) {
    return differ(name, shape(*prefill.example), shape(*decode.example));
  }
  for (size_t s = 0; s < prefill.units.size(); ++s) {
    if (prefill.units[s] == decode.units[s]) continue;
    return differ(name + "." + prefill.example->segments[s].name, fmt::format("{} heads", prefill.units[s]),
                  fmt::format("{}", decode.units[s]));
  }
  if (numbers(prefill.held) == numbers(decode.held)) return {};
  return differ(name, "layers " + numbers(prefill.held), numbers(decode.held));
}

}  // namespace

std::string encode(const InstanceLayout& layout) {
  ByteWriter out;
  out(layout);
  return out.take();
}

Result<InstanceLayout> decode_instance_layout(std::string_view bytes) {
  InstanceLayout layout;
  ByteReader in(bytes);
  in(layout);
  if (!in.complete()) {
    return error(ErrorCode::kInvalid, "{} bytes that describe no instance's state", bytes.size());
  }
  HYLAS_TRY(check(layout));
  return layout;
}

Status check_pair(const InstanceLayout& prefill, const InstanceLayout& decode) {
  if (prefill.weights != decode.weights) {
    return differ("both need the same checkpoint", fmt::format("'{}' ({})", prefill.model, prefill.weights),
                  fmt::format("'{}' ({})", decode.model, decode.weights));
  }
  if (prefill.page_size != decode.page_size) {
    return differ("--page-size", fmt::format("pages of {} tokens", prefill.page_size),
                  fmt::format("{}", decode.page_size));
  }
  HYLAS_ASSIGN(const Totals from, totals_of(prefill, "prefilling"));
  HYLAS_ASSIGN(const Totals to, totals_of(decode, "decoding"));
  for (const auto& [name, total] : from) {
    if (!to.contains(name)) return differ("state", name, "no " + name);
    HYLAS_TRY(check_kinds(name, total, to.at(name)));
  }
  for (const auto& [name, total] : to) {
    if (!from.contains(name)) return differ("state", "no " + name, name);
  }
  return {};
}

}  // namespace hylas
