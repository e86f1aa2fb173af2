#include "engine/plan_codec.h"

#include "base/byte_io.h"

namespace hylas {

// The members on the wire, in their order (base/byte_io.h).
template <class Io>
void fields(Io& io, Like<LogitBias> auto& v) {
  io(v.token, v.bias);
}
template <class Io>
void fields(Io& io, Like<TokenLogprob> auto& v) {
  io(v.token, v.logprob);
}
template <class Io>
void fields(Io& io, Like<SamplingParams> auto& v) {
  io(v.max_new_tokens, v.min_new_tokens, v.temperature, v.top_k, v.top_p, v.min_p, v.frequency_penalty,
     v.presence_penalty, v.repetition_penalty, v.seed, v.ignore_eos, v.stop_token_ids, v.logit_bias, v.top_logprobs,
     v.prompt_logprobs_from);
}
template <class Io>
void fields(Io& io, Like<SequenceStart> auto& v) {
  io(v.sequence, v.sampling, v.stop_ids, v.prompt, v.generated);
}
template <class Io>
void fields(Io& io, Like<PlanRow> auto& v) {
  io(v.sequence, v.group, v.kind, v.begin, v.length, v.tokens, v.pages, v.state_read, v.state_write, v.sample, v.step,
     v.block_stops, v.allowed, v.prompt_logprobs_from, v.next_token, v.want_logits, v.want_drafts);
  io.expect(v.kind <= RowKind::kPrefill);
}
template <class Io>
void fields(Io& io, Like<SlotCopy> auto& v) {
  io(v.from, v.to, v.group);
}
template <class Io>
void fields(Io& io, Like<SwapOp> auto& v) {
  io(v.direction, v.key, v.pages, v.slot, v.group);
  io.expect(v.direction <= SwapOp::Direction::kDrop);
}
template <class Io>
void fields(Io& io, Like<TransferPart> auto& v) {
  io(v.first_page, v.from_pages, v.to_pages, v.from_slot, v.to_slot);
}
template <class Io>
void fields(Io& io, Like<SendOp> auto& v) {
  io(v.transfer, v.peer, v.group, v.to_group, v.part);
}
template <class Io>
void fields(Io& io, Like<LandOp> auto& v) {
  io(v.sequence, v.group, v.part);
}
template <class Io>
void fields(Io& io, Like<StepPlan> auto& v) {
  io(v.id, v.lane, v.known, v.ends, v.lands, v.swaps, v.starts, v.rows, v.copies, v.sends);
}
template <class Io>
void fields(Io& io, Like<SampleResult> auto& v) {
  io(v.token, v.logprob, v.top);
}
template <class Io>
void fields(Io& io, Like<OutputToken> auto& v) {
  io(v.id, v.logprob, v.top);
}
template <class Io>
void fields(Io& io, Like<FirstToken> auto& v) {
  io(v.token, v.prompt_logprobs, v.seed);
}
template <class Io>
void fields(Io& io, Like<RowResult> auto& v) {
  io(v.sequence, v.did_sample, v.sampled, v.prompt_logprobs, v.logits, v.drafts);
}
template <class Io>
void fields(Io& io, Like<StepResult> auto& v) {
  io(v.id, v.rows, v.begin_us, v.end_us, v.wait_us, v.sums_us);
}

namespace {

struct Header {
  uint32_t version = kPlanCodecVersion;
  uint64_t sum = 0;
};
constexpr size_t kHeaderBytes = sizeof(uint32_t) + sizeof(uint64_t);

std::string sealed(const std::string& body) {
  ByteWriter out;
  out(kPlanCodecVersion, checksum(body));
  return out.take() + body;
}

Result<std::string_view> unsealed(std::string_view bytes, const char* what) {
  Header header;
  ByteReader in(bytes);
  in(header.version, header.sum);
  if (!in.ok()) return error(ErrorCode::kIo, "a {} of {} bytes is cut short", what, bytes.size());
  if (header.version != kPlanCodecVersion) {
    return error(ErrorCode::kIo, "a {} of version {}, not {}: run the same hylas on all nodes", what, header.version,
                 kPlanCodecVersion);
  }
  bytes.remove_prefix(kHeaderBytes);
  if (checksum(bytes) != header.sum) return error(ErrorCode::kIo, "a {} of {} bytes is damaged", what, bytes.size());
  return bytes;
}

}  // namespace

std::string encode(const StepPlan& plan) {
  ByteWriter body;
  body(plan);
  return sealed(body.bytes());
}

std::string encode(const RankReport& report) {
  ByteWriter body;
  body(report.place.rank, report.result);
  return sealed(body.bytes());
}

Result<StepPlan> decode_plan(std::string_view bytes) {
  HYLAS_ASSIGN(const std::string_view body, unsealed(bytes, "plan"));
  StepPlan plan;
  ByteReader in(body);
  in(plan);
  if (!in.complete()) return error(ErrorCode::kIo, "a plan of {} bytes does not hold together", bytes.size());
  return plan;
}

Result<RankReport> decode_report(std::string_view bytes, const ParallelSizes& sizes) {
  HYLAS_ASSIGN(const std::string_view body, unsealed(bytes, "report"));
  RankReport report;
  int32_t rank = -1;
  ByteReader in(body);
  in(rank, report.result);
  in.expect(rank >= 0 && rank < sizes.world());
  if (!in.complete()) return error(ErrorCode::kIo, "a report of {} bytes does not hold together", bytes.size());
  report.place = place_of(sizes, rank);
  return report;
}

std::string encode_first(const FirstToken& first) {
  ByteWriter writer;
  writer(first);
  return writer.take();
}

std::optional<FirstToken> decode_first(std::string_view bytes) {
  FirstToken first;
  ByteReader reader(bytes);
  reader(first);
  if (!reader.complete() || first.token.id < 0) return std::nullopt;
  return first;
}

}  // namespace hylas
