#include "ops/cuda/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace hylas::cuda {
namespace {

constexpr size_t kChangedAtOnce = 64;  // rows whose changed copies lie in the workspace together
constexpr float kNever = -std::numeric_limits<float>::infinity();

// The edits of one row, one per token: penalties, then bias, then what is blocked.
void add_edits(const SampleRow& row, int32_t index, int32_t count, std::vector<LogitEdit>& edits) {
  std::map<int32_t, LogitEdit> by_token;
  auto at = [&](int32_t token) -> LogitEdit* {
    if (token < 0 || token >= count) return nullptr;
    return &by_token.try_emplace(token, LogitEdit{index, token, 1.f, 0.f, 0.f}).first->second;
  };
  if (has_penalties(row)) {
    HYLAS_CHECK(row.history != nullptr, "penalties need a token history");
    if (row.repetition_penalty != 1.f) {
      for (const auto& [token, times] : row.history->prompt) {
        if (LogitEdit* edit = at(token)) edit->repeat = row.repetition_penalty;
      }
    }
    for (const auto& [token, times] : row.history->generated) {
      LogitEdit* edit = at(token);
      if (!edit) continue;
      edit->repeat = row.repetition_penalty;
      edit->subtract = row.frequency_penalty * static_cast<float>(times) + row.presence_penalty;
    }
  }
  for (const LogitBias& bias : row.bias) {
    if (LogitEdit* edit = at(bias.token)) edit->add += bias.bias;
  }
  for (int32_t token : row.blocked) {
    if (LogitEdit* edit = at(token)) edit->add = kNever;
  }
  for (const auto& [token, edit] : by_token) edits.push_back(edit);
}

DrawRow draw_row(const SampleRow& row, const float* logits) {
  DrawRow params;
  params.logits = logits;
  params.greedy = row.temperature <= 0.f || !std::isfinite(1 / row.temperature);
  params.inverse_temperature = params.greedy ? 1.f : 1 / row.temperature;
  params.top_k = std::max(row.top_k, 0);
  params.top_p = row.top_p;
  params.min_p = row.min_p;
  params.share = uniform_draw(row.seed, row.step);
  return params;
}

// So many of the first rows go together.
size_t together(std::span<const SampleRow> rows) {
  size_t count = 0, changed = 0;
  while (count < rows.size() && (changed += changes_logits(rows[count])) <= kChangedAtOnce) ++count;
  return count;
}

}  // namespace

template <class T>
const T* Sampler::upload(Workspace& workspace, const std::vector<T>& values) {
  T* to = workspace.take<T>(static_cast<int64_t>(std::max<size_t>(values.size(), 1)));
  device_.copy_from_host(to, values.data(), values.size() * sizeof(T));
  return to;
}

std::vector<const float*> Sampler::sources(Workspace& workspace, const Tensor& logits, int32_t count,
                                           std::span<const SampleRow> rows) {
  std::vector<const float*> result;
  std::vector<int32_t> changed, mask_of;
  std::vector<uint32_t> masks;
  std::vector<LogitEdit> edits;
  const int64_t words = (count + 31) / 32;
  for (size_t i = 0; i < rows.size(); ++i) {
    result.push_back(logits.row<float>(static_cast<int64_t>(i)));
    if (!changes_logits(rows[i])) continue;
    add_edits(rows[i], static_cast<int32_t>(changed.size()), count, edits);
    changed.push_back(static_cast<int32_t>(i));
    mask_of.push_back(rows[i].allowed.empty() ? -1 : static_cast<int32_t>(masks.size() / static_cast<size_t>(words)));
    if (rows[i].allowed.empty()) continue;
    const size_t begin = masks.size(), given = std::min(rows[i].allowed.size(), static_cast<size_t>(words));
    masks.resize(begin + static_cast<size_t>(words), 0);
    std::copy_n(rows[i].allowed.begin(), given, masks.begin() + static_cast<std::ptrdiff_t>(begin));
  }
  if (changed.empty()) return result;
  auto* copies = workspace.take<float>(static_cast<int64_t>(changed.size()) * count);
  const View to = {copies, DType::kF32, count};
  copy_masked({.logits = view(logits),
               .sources = upload(workspace, changed),
               .changed = to,
               .masks = upload(workspace, masks),
               .mask_of = upload(workspace, mask_of),
               .mask_words = words,
               .count = count,
               .rows = static_cast<int32_t>(changed.size())},
              device_.stream());
  edit_logits(upload(workspace, edits), static_cast<int64_t>(edits.size()), to, device_.stream());
  for (size_t i = 0; i < changed.size(); ++i) {
    result[static_cast<size_t>(changed[i])] = copies + static_cast<int64_t>(i) * count;
  }
  return result;
}

void Sampler::draw_rows(Workspace& workspace, const Tensor& logits, int32_t count, std::span<const SampleRow> rows,
                        std::span<const int32_t> slots, int32_t* last_tokens, int32_t* drawn) {
  const std::vector<const float*> from = sources(workspace, logits, count, rows);
  std::vector<DrawRow> draws;
  for (size_t i = 0; i < rows.size(); ++i) {
    draws.push_back(draw_row(rows[i], from[i]));
    if (!slots.empty()) draws.back().slot = slots[i];
  }
  draw({.rows = upload(workspace, draws),
        .count = count,
        .draws = static_cast<int32_t>(rows.size()),
        .tokens = drawn,
        .last_tokens = last_tokens},
       device_.stream());
}

void Sampler::sample_ahead(Workspace& workspace, const Tensor& logits, int32_t vocab_tokens,
                           std::span<const SampleRow> rows, std::span<const int32_t> slots, const Tensor& last_tokens,
                           const Tensor& drawn) {
  HYLAS_CHECK(rows.size() == slots.size() && static_cast<int64_t>(rows.size()) <= drawn.dim(0) &&
                  static_cast<int64_t>(rows.size()) <= logits.dim(0),
              "{} rows, {} slots, {} logits", rows.size(), slots.size(), logits.dim(0));
  const int32_t count = std::min(vocab_tokens, static_cast<int32_t>(logits.dim(1)));
  for (size_t begin = 0, here = 0; begin < rows.size(); begin += here) {
    workspace.reset();
    here = together(rows.subspan(begin));
    const Tensor block = logits.rows(static_cast<int64_t>(begin), static_cast<int64_t>(here));
    draw_rows(workspace, block, count, rows.subspan(begin, here), slots.subspan(begin, here), last_tokens.as<int32_t>(),
              drawn.as<int32_t>() + begin);
  }
}

void Sampler::sample(Workspace& workspace, const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                     std::span<SampleResult> results) {
  HYLAS_CHECK(rows.size() == results.size() && static_cast<int64_t>(rows.size()) <= logits.dim(0),
              "{} rows to sample into {} results from {} logits", rows.size(), results.size(), logits.dim(0));
  const int32_t count = std::min(vocab_tokens, static_cast<int32_t>(logits.dim(1)));
  for (size_t begin = 0, here = 0; begin < rows.size(); begin += here) {
    workspace.reset();
    here = together(rows.subspan(begin));
    const Tensor block = logits.rows(static_cast<int64_t>(begin), static_cast<int64_t>(here));
    auto* drawn = workspace.take<int32_t>(static_cast<int64_t>(here));
    draw_rows(workspace, block, count, rows.subspan(begin, here), {}, nullptr, drawn);
    std::vector<int32_t> tokens(here);
    device_.copy_to_host(tokens.data(), drawn, here * sizeof(int32_t));
    for (size_t i = 0; i < here; ++i) {
      results[begin + i] = {};
      results[begin + i].token = tokens[i];
    }
  }
  std::map<int32_t, std::vector<int32_t>> by_top;  // rows that want the same number of best tokens
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].top_logprobs >= 0) by_top[rows[i].top_logprobs].push_back(static_cast<int32_t>(i));
  }
  for (const auto& [top, which] : by_top) fill_logprobs(workspace, logits, count, top, which, results);
}

void Sampler::logprobs(Workspace& workspace, const Tensor& logits, std::span<const int32_t> targets, int32_t top,
                       std::span<SampleResult> results) {
  HYLAS_CHECK(targets.size() == results.size() && static_cast<int64_t>(targets.size()) <= logits.dim(0),
              "{} targets into {} results from {} logits", targets.size(), results.size(), logits.dim(0));
  std::vector<int32_t> which;
  for (size_t i = 0; i < targets.size(); ++i) {
    results[i].token = targets[i];
    which.push_back(static_cast<int32_t>(i));
  }
  fill_logprobs(workspace, logits, static_cast<int32_t>(logits.dim(1)), top, which, results);
}

void Sampler::fill_logprobs(Workspace& workspace, const Tensor& logits, int32_t best_of, int32_t top,
                            std::span<const int32_t> which, std::span<SampleResult> results) {
  HYLAS_CHECK(top <= kSortedMax, "{} best tokens of at most {}", top, kSortedMax);
  if (which.empty()) return;
  workspace.reset();
  std::vector<int32_t> row_of(which.begin(), which.end()), targets;
  for (int32_t i : which) targets.push_back(results[static_cast<size_t>(i)].token);
  const auto size = static_cast<int64_t>(which.size());
  ScoreArgs args;
  args.logits = view(logits);
  args.row_of = upload(workspace, row_of);
  args.targets = upload(workspace, targets);
  args.results = static_cast<int32_t>(size);
  args.count = static_cast<int32_t>(logits.dim(1));
  args.best_of = best_of;
  args.best = std::max(top, 0);
  args.scores = workspace.take<RowScores>(size);
  args.best_tokens = workspace.take<int32_t>(size * args.best);
  args.best_logits = workspace.take<float>(size * args.best);
  score(args, device_.stream());
  std::vector<RowScores> scores(which.size());
  std::vector<int32_t> best_tokens(which.size() * static_cast<size_t>(args.best));
  std::vector<float> best_logits(best_tokens.size());
  device_.copy_to_host(scores.data(), args.scores, scores.size() * sizeof(RowScores));
  device_.copy_to_host(best_tokens.data(), args.best_tokens, best_tokens.size() * sizeof(int32_t));
  device_.copy_to_host(best_logits.data(), args.best_logits, best_logits.size() * sizeof(float));
  for (size_t i = 0; i < which.size(); ++i) {
    SampleResult& result = results[static_cast<size_t>(which[i])];
    const double log_sum = std::log(scores[i].sum), highest = scores[i].highest;
    auto logprob = [&](float logit) {
      return std::isnan(logit) || logit == kNever ? kNever : static_cast<float>(logit - highest - log_sum);
    };
    result.logprob = logprob(scores[i].target);
    result.top.clear();
    for (size_t j = i * static_cast<size_t>(args.best); j < (i + 1) * static_cast<size_t>(args.best); ++j) {
      if (best_tokens[j] >= 0) result.top.push_back({best_tokens[j], logprob(best_logits[j])});
    }
  }
}

}  // namespace hylas::cuda
