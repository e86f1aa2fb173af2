#include "app/layout_report.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/queue.h"
#include "serve/output_text.h"

namespace hylas {
namespace {

constexpr int32_t kOutputTokensMax = 512;

struct Row {
  const char* name;
  ParallelSizes sizes;
};

EngineOptions with_sizes(EngineOptions options, const ParallelSizes& sizes) {
  options.parallel = sizes;
  options.enable_dp_attention = sizes.dp > 1;
  return options;
}

// `prefill` feeds `decode` over loopback.
LayoutCase disaggregated(const EngineOptions& base, const std::string& name, const ParallelSizes& prefill,
                         const ParallelSizes& decode) {
  LayoutCase pair{.name = name, .engine = with_sizes(base, decode), .must_be_identical = true};
  pair.engine.disaggregation_secret = std::to_string(std::random_device{}());
  pair.engine.role = InstanceRole::kDecode;
  pair.prefill = with_sizes(base, prefill);
  pair.prefill->role = InstanceRole::kPrefill;
  pair.prefill->disaggregation_secret = pair.engine.disaggregation_secret;
  pair.prefill->bootstrap = {"127.0.0.1", 0};
  return pair;
}

// What a question's request needs to become its answer.
struct Asked {
  OutputText visible;
  RequestId id = 0;
  LayoutAnswer answer;
  bool is_done = false;
};

struct Mail {
  size_t question;
  bool from_prefill;
  Output output;
};
using Mailbox = std::shared_ptr<Queue<Mail>>;

Result<RequestId> submit(Engine& engine, const Request& request, size_t question, bool is_prefill,
                         const Mailbox& mailbox) {
  return engine.submit(request, [mailbox, question, is_prefill](Output output) {
    mailbox->push({question, is_prefill, std::move(output)});
  });
}

}  // namespace

std::vector<LayoutCase> layout_cases(const EngineOptions& base, const std::string& fp8_path, bool with_experts) {
  std::vector<LayoutCase> cases{{.name = "one rank", .engine = base}};
  std::vector<Row> rows{
      {"tp 2", {.tp = 2}}, {"pp 2", {.pp = 2}}, {"pp 4 x tp 2", {.tp = 2, .pp = 4}}, {"dp 2", {.tp = 2, .dp = 2}}};
  if (with_experts) rows.push_back({"ep 2", {.tp = 2, .ep = 2}});
  if (with_experts) rows.push_back({"pp 2 x tp 2, ep 2, dp 2", {.tp = 2, .pp = 2, .ep = 2, .dp = 2}});
  for (const Row& row : rows) {
    cases.push_back({.name = row.name, .engine = with_sizes(base, row.sizes), .must_be_identical = true});
  }
  cases.push_back(disaggregated(base, "prefill one rank, decode one rank", {}, {}));
  cases.push_back(
      disaggregated(base, "prefill pp 4 x tp 2, decode tp 2, dp 2", {.tp = 2, .pp = 4}, {.tp = 2, .dp = 2}));
  LayoutCase kv{.name = "KV fp8_e4m3", .engine = base};
  kv.engine.kv_cache_dtype = "fp8_e4m3";
  LayoutCase state{.name = "state float16", .engine = base};
  state.engine.state_dtype = "float16";
  LayoutCase weights{.name = "weights FP8", .engine = base};
  weights.engine.model_path = fp8_path;
  for (LayoutCase* one : {&kv, &state, &weights}) cases.push_back(std::move(*one));
  return cases;
}

Result<std::vector<LayoutAnswer>> ask_all(const LayoutCase& one, const TextModel& text,
                                          std::span<const std::string> prompts, const std::function<void()>& answered) {
  GenerationRequest generation;
  generation.stop = gsm8k_stops();
  generation.sampling.temperature = 0;
  const Mailbox mailbox = std::make_shared<Queue<Mail>>(SIZE_MAX);
  std::unique_ptr<Engine> prefill;
  if (one.prefill) {
    HYLAS_ASSIGN(prefill, Engine::start(*one.prefill));
  }
  HYLAS_ASSIGN(std::unique_ptr<Engine> engine, Engine::start(one.engine));
  std::vector<Asked> asked;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Request request{.prompt = text.tokenizer->encode(prompts[i]), .sampling = generation.sampling};
    request.sampling.max_new_tokens = kOutputTokensMax;
    if (prefill) request.bootstrap = Bootstrap{{"127.0.0.1", prefill->info().bootstrap_port}, i};
    asked.push_back({OutputText(*text.tokenizer, generation)});
    if (prefill) HYLAS_TRY(submit(*prefill, request, i, true, mailbox));
    HYLAS_ASSIGN(asked[i].id, submit(*engine, request, i, false, mailbox));
  }
  for (size_t left = prompts.size(); left > 0;) {
    Mail mail = *mailbox->pop();
    Asked& question = asked[mail.question];
    if (mail.output.finish == FinishReason::kError) {
      return error(ErrorCode::kIo, "{}, question {}: {}", one.name, mail.question, mail.output.error);
    }
    if (mail.from_prefill || question.is_done) continue;
    const Piece piece = question.visible.push(std::move(mail.output));
    for (const OutputToken& token : piece.tokens) question.answer.tokens.push_back(token.id);
    question.answer.text += piece.text;
    if (question.visible.stopped_early()) engine->abort(question.id);
    if (!piece.finish) continue;
    question.is_done = true;
    --left;
    answered();
  }
  std::vector<LayoutAnswer> answers;
  for (Asked& question : asked) answers.push_back(std::move(question.answer));
  return answers;
}

LayoutScore score(std::span<const LayoutAnswer> answers, std::span<const LayoutAnswer> reference,
                  std::span<const Question> questions) {
  LayoutScore total;
  int64_t tokens = 0, agreeing = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::optional<std::string> number = final_number(answers[i].text);
    total.invalid += !number;
    total.accuracy += number && number == final_number(questions[i].answer);
    total.identical += answers[i].tokens == reference[i].tokens;
    const auto [mine, its] = std::ranges::mismatch(answers[i].tokens, reference[i].tokens);
    agreeing += mine - answers[i].tokens.begin();
    tokens += static_cast<int64_t>(std::max(answers[i].tokens.size(), reference[i].tokens.size()));
  }
  const auto count = static_cast<double>(answers.size());
  total.accuracy /= count, total.invalid /= count, total.identical /= count;
  total.agreeing = tokens > 0 ? static_cast<double>(agreeing) / static_cast<double>(tokens) : 1;
  return total;
}

}  // namespace hylas
