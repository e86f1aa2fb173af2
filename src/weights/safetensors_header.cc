// parse_safetensors_header: the format's rules, each checked.
#include <algorithm>
#include <cstring>

#include "base/json.h"
#include "weights/safetensors.h"

namespace hylas {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kHeaderBytesMax = 100'000'000;  // the format's own limit
constexpr size_t kDimensionsMax = 16;
constexpr char kMetadata[] = "__metadata__";

// JSON keeps the last of two equal names, so they are counted in the text. `header` is valid JSON and an object.
size_t count_names(std::string_view header) {
  size_t names = 0, depth = 0;
  bool at_name = false;
  for (size_t i = 0; i < header.size(); ++i) {
    switch (header[i]) {
      case '{':
      case '[':
        at_name = ++depth == 1;
        break;
      case '}':
      case ']':
        --depth;
        break;
      case ',':
        at_name = depth == 1;
        break;
      case '"':
        names += at_name;
        at_name = false;
        for (++i; header[i] != '"'; ++i) i += header[i] == '\\';
        break;
      default:
        break;
    }
  }
  return names;
}

Status read_shape(const json::object& fields, const std::string& name, TensorInfo& info) {
  HYLAS_ASSIGN(const json::array* shape, json::require_array(fields, "shape", name));
  if (shape->size() > kDimensionsMax) {
    return error(ErrorCode::kInvalid, "`{}` has {} dimensions; at most {} are allowed", name, shape->size(),
                 kDimensionsMax);
  }
  int64_t elements = 1;
  for (const json::value& item : *shape) {
    const int64_t* dim = item.if_int64();
    if (!dim || *dim < 0 || __builtin_mul_overflow(elements, *dim, &elements) || elements > INT64_MAX / 8) {
      return error(ErrorCode::kInvalid, "`{}.shape` is {}, which no tensor has", name, boost::json::serialize(*shape));
    }
    info.shape.push_back(*dim);
  }
  if (info.dtype && static_cast<size_t>(elements) * dtype_bytes(*info.dtype) != info.bytes) {
    return error(ErrorCode::kInvalid, "`{}` of type {} and shape [{}] has {} bytes, but its data_offsets span {}", name,
                 info.dtype_name, fmt::join(info.shape, ", "), static_cast<size_t>(elements) * dtype_bytes(*info.dtype),
                 info.bytes);
  }
  return {};
}

Result<TensorInfo> read_tensor(const json::value& entry, const std::string& name) {
  if (!entry.is_object()) return json::wrong_kind(name, "an object", entry);
  const json::object& fields = entry.get_object();
  TensorInfo info;
  HYLAS_ASSIGN(const std::string_view dtype, json::require_string(fields, "dtype", name));
  info.dtype_name = dtype;
  info.dtype = dtype == "BOOL" ? DType::kU8 : parse_dtype(dtype);
  HYLAS_ASSIGN(const json::array* offsets, json::require_array(fields, "data_offsets", name));
  const int64_t* begin = offsets->size() == 2 ? (*offsets)[0].if_int64() : nullptr;
  const int64_t* end = offsets->size() == 2 ? (*offsets)[1].if_int64() : nullptr;
  if (!begin || !end || *begin < 0 || *end < *begin) {
    return error(ErrorCode::kInvalid, "`{}.data_offsets` is {}; it must be two ascending offsets", name,
                 boost::json::serialize(*offsets));
  }
  info.offset = static_cast<size_t>(*begin);
  info.bytes = static_cast<size_t>(*end - *begin);
  HYLAS_TRY(read_shape(fields, name, info));
  return info;
}

// The tensors cover the data exactly: no overlap, no hole, nothing beyond the end.
Status check_layout(const TensorMap& tensors, size_t data_begin, size_t file_bytes) {
  std::vector<const TensorMap::value_type*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::ranges::sort(order, {}, [](const auto* e) { return std::pair(e->second.offset, e->second.bytes); });
  size_t data_bytes = 0;
  for (const auto* entry : order) data_bytes = std::max(data_bytes, entry->second.offset + entry->second.bytes);
  if (data_begin + data_bytes > file_bytes) {
    return error(ErrorCode::kInvalid, "truncated: its header describes {} bytes, but the file has {}",
                 data_begin + data_bytes, file_bytes);
  }
  size_t end = 0;
  const std::string* previous = nullptr;
  for (const auto* entry : order) {
    const TensorInfo& info = entry->second;
    if (info.offset < end) return error(ErrorCode::kInvalid, "`{}` and `{}` overlap", *previous, entry->first);
    if (info.offset > end) {
      return error(ErrorCode::kInvalid, "bytes {} to {} of the data, before `{}`, belong to no tensor", end,
                   info.offset, entry->first);
    }
    end = info.offset + info.bytes;
    previous = &entry->first;
  }
  if (data_begin + end < file_bytes) {
    return error(ErrorCode::kInvalid, "its header describes {} bytes, but the file has {}", data_begin + end,
                 file_bytes);
  }
  return {};
}

Result<TensorMap> parse_header(std::string_view head, size_t file_bytes) {
  if (file_bytes < kLengthBytes || head.size() < kLengthBytes) {
    return error(ErrorCode::kInvalid, "{} bytes are too few for a safetensors file", file_bytes);
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, head.data(), kLengthBytes);
  if (header_bytes > kHeaderBytesMax) {
    return error(ErrorCode::kInvalid, "not a safetensors file: its header would have {} bytes", header_bytes);
  }
  const size_t data_begin = kLengthBytes + header_bytes;
  if (data_begin > file_bytes || data_begin > head.size()) {
    return error(ErrorCode::kInvalid, "truncated: its header ends at byte {}, but the file has {}", data_begin,
                 file_bytes);
  }
  const std::string_view text = head.substr(kLengthBytes, header_bytes);
  HYLAS_ASSIGN(const json::object header,
               json::parse_object(text, "the header", {.depth_max = 8, .bytes_max = kHeaderBytesMax}));
  if (const size_t names = count_names(text); names != header.size()) {
    return error(ErrorCode::kInvalid, "{} of the {} names in its header occur twice", names - header.size(), names);
  }
  TensorMap tensors;
  for (const auto& [key, entry] : header) {
    if (key == kMetadata) continue;
    const std::string name(key);
    HYLAS_ASSIGN(tensors[name], read_tensor(entry, name));
  }
  HYLAS_TRY(check_layout(tensors, data_begin, file_bytes));
  for (auto& [name, info] : tensors) info.offset += data_begin;
  return tensors;
}

}  // namespace

Result<TensorMap> parse_safetensors_header(std::string_view head, size_t file_bytes, std::string_view where) {
  Result<TensorMap> tensors = parse_header(head, file_bytes);
  if (!tensors.ok()) return error(tensors.error().code, "{}: {}", where, tensors.error().message);
  return tensors;
}

}  // namespace hylas
