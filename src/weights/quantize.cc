#include "weights/quantize.h"

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "ops/weight.h"
#include "weights/safetensors_writer.h"
#include "weights/tensor_spec.h"

namespace hylas {
namespace {

constexpr std::string_view kFusedGateUp = ".experts.gate_up_proj";
constexpr std::string_view kFusedDown = ".experts.down_proj";

// A tensor of the new checkpoint, made from a view of the old one.
struct Piece {
  std::string name;
  Tensor source;               // [out, in] if it is quantised
  std::vector<int64_t> shape;  // as written
  bool quantised = false;

  std::vector<OutputTensor> outputs() const {
    if (!quantised) return {{name, source.dtype, shape}};
    const int64_t down = (shape[0] + kFp8Block - 1) / kFp8Block, across = (shape[1] + kFp8Block - 1) / kFp8Block;
    return {{name, DType::kF8E4M3, shape}, {scale_name(name), DType::kBF16, {down, across}}};
  }
  size_t bytes() const {
    size_t total = 0;
    for (const OutputTensor& output : outputs()) total += output.bytes();
    return total;
  }
};

Piece projection(const std::string& name, const Tensor& matrix) {
  return Piece{name, matrix, {matrix.dim(0), matrix.dim(1)}, true};
}

// The experts of one fused tensor, each with its own matrices.
void split_experts(const std::string& name, const Tensor& fused, std::vector<Piece>& pieces) {
  const bool gate_up = name.ends_with(kFusedGateUp);
  const std::string prefix = name.substr(0, name.rfind('.') + 1);  // "..mlp.experts."
  const int64_t rows = fused.dim(1), columns = fused.dim(2);
  for (int64_t e = 0; e < fused.dim(0); ++e) {
    const Tensor matrix = fused.rows(e, 1).reshaped({rows, columns});
    const std::string expert = fmt::format("{}{}.", prefix, e);
    if (gate_up) {
      pieces.push_back(projection(expert + "gate_proj.weight", matrix.rows(0, rows / 2)));
      pieces.push_back(projection(expert + "up_proj.weight", matrix.rows(rows / 2, rows / 2)));
    } else {
      pieces.push_back(projection(expert + "down_proj.weight", matrix));
    }
  }
}

Result<std::vector<Piece>> plan_pieces(const Checkpoint& from, const QuantizeOptions& options) {
  std::vector<Piece> pieces;
  for (const auto& [name, info] : from.tensors()) {
    HYLAS_ASSIGN(const Tensor source, from.view(name));
    const bool fused = name.ends_with(kFusedGateUp) || name.ends_with(kFusedDown);
    const bool matrix = options.is_projection(name);
    if ((fused || matrix) && source.dtype != DType::kF32 && source.dtype != DType::kBF16) {
      return error(ErrorCode::kUnsupported, "{}: tensor `{}` has type {}; float32 or bfloat16 can be quantised",
                   from.dir(), name, info.dtype_name);
    }
    if (fused) {
      split_experts(name, source, pieces);
    } else if (matrix) {
      pieces.push_back(projection(name, source));
    } else {
      pieces.push_back(Piece{name, source, info.shape, false});
    }
  }
  return pieces;
}

std::vector<std::span<const Piece>> cut_shards(std::span<const Piece> pieces, size_t bytes_max) {
  std::vector<std::span<const Piece>> shards;
  size_t begin = 0, bytes = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > begin && bytes + pieces[i].bytes() > bytes_max) {
      shards.push_back(pieces.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += pieces[i].bytes();
  }
  shards.push_back(pieces.subspan(begin));
  return shards;
}

Status write_piece(const Piece& piece, int threads, SafetensorsWriter& writer) {
  if (!piece.quantised) {
    return writer.write(piece.name, {static_cast<const std::byte*>(piece.source.data), piece.source.bytes()});
  }
  const Fp8Matrix matrix = quantize_blocks(piece.source, threads);
  HYLAS_TRY(writer.write(piece.name, std::as_bytes(std::span(matrix.values))));
  return writer.write(scale_name(piece.name), std::as_bytes(std::span(matrix.scale)));
}

Status write_index(const std::string& path, const json::object& weight_map, size_t bytes) {
  const json::object index = {{"metadata", {{"total_size", bytes}}}, {"weight_map", weight_map}};
  std::ofstream out(path);
  out << boost::json::serialize(index) << '\n';
  out.close();
  if (!out) return error(ErrorCode::kIo, "{}: cannot be written", path);
  return {};
}

}  // namespace

Result<std::vector<std::string>> quantize_checkpoint(const Checkpoint& from, const std::string& out_dir,
                                                     const QuantizeOptions& options, const LoadProgress& progress) {
  HYLAS_ASSIGN(const std::vector<Piece> pieces, plan_pieces(from, options));
  const std::filesystem::path dir(out_dir);
  const auto shards = cut_shards(pieces, options.shard_bytes_max);
  std::vector<std::string> copied;
  json::object weight_map;
  size_t done = 0, written = 0;
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string file = shards.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    std::vector<OutputTensor> outputs;
    for (const Piece& piece : shards[s]) {
      for (OutputTensor& output : piece.outputs()) outputs.push_back(std::move(output));
    }
    HYLAS_ASSIGN(SafetensorsWriter writer, SafetensorsWriter::create((dir / file).string(), outputs));
    for (const Piece& piece : shards[s]) {
      HYLAS_TRY(write_piece(piece, options.threads, writer));
      if (!piece.quantised) copied.push_back(piece.name);
      done += piece.source.bytes();
      if (progress) progress(done, from.bytes_total());
    }
    HYLAS_TRY(writer.finish());
    for (const OutputTensor& output : outputs) {
      weight_map[output.name] = file;
      written += output.bytes();
    }
  }
  if (shards.size() > 1) HYLAS_TRY(write_index((dir / "model.safetensors.index.json").string(), weight_map, written));
  return copied;
}

}  // namespace hylas
