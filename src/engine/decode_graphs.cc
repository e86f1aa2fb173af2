#include "engine/decode_graphs.h"

#include <algorithm>

namespace hylas {

DecodeGraphs::DecodeGraphs(std::span<const int32_t> rows, int32_t pages_max) {
  for (int32_t count : rows) {
    for (int32_t pages = std::min(kPages, pages_max);; pages = std::min(4 * pages, pages_max)) {
      graphs_.push_back({{count, pages}, {}});
      if (pages == pages_max) break;
    }
  }
}

DecodeGraph* DecodeGraphs::find(std::span<const PlanRow> rows, std::span<const int32_t> group_tokens,
                                int32_t page_size) {
  int32_t pages = 1;
  for (const PlanRow& row : rows) {
    const bool plain = row.kind == RowKind::kDecode && row.sample && !row.want_logits && row.prompt_logprobs_from < 0;
    if (!plain) return nullptr;
    pages = std::max(pages, (row.begin + row.length + page_size - 1) / page_size);
  }
  const int32_t most = *std::max_element(group_tokens.begin(), group_tokens.end());  // a row has one
  const auto fits = [&](const DecodeGraph& graph) { return graph.shape.rows >= most && graph.shape.pages >= pages; };
  const auto found = std::find_if(graphs_.begin(), graphs_.end(), fits);
  return rows.empty() || found == graphs_.end() ? nullptr : &*found;
}

std::vector<int32_t> decode_graph_rows(std::span<const int32_t> asked, int32_t rows_max) {
  std::vector<int32_t> rows(asked.begin(), asked.end());
  if (rows.empty()) {
    for (int32_t count = 1; count < rows_max; count += count < 4 ? count : count < 16 ? 4 : count < 64 ? 8 : 32) {
      rows.push_back(count);
    }
    rows.push_back(rows_max);
  }
  for (int32_t& count : rows) count = std::min(count, rows_max);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

}  // namespace hylas
