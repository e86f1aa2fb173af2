#include "weights/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/json.h"

namespace hylas {
namespace {

const char* format_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    case DType::kU8:
      return "U8";
  }
  return "";
}

std::vector<OutputTensor> in_file_order(std::vector<OutputTensor> tensors) {
  std::ranges::sort(tensors, [](const OutputTensor& a, const OutputTensor& b) {
    return std::pair(-dtype_bytes(a.dtype), std::string_view(a.name)) <
           std::pair(-dtype_bytes(b.dtype), std::string_view(b.name));
  });
  return tensors;
}

// `tensors` in file order. Length field included.
std::string make_header(const std::vector<OutputTensor>& tensors) {
  json::object header;
  header["__metadata__"] = json::object{{"format", "pt"}};
  size_t offset = 0;
  for (const OutputTensor& tensor : tensors) {
    const json::array shape(tensor.shape.begin(), tensor.shape.end());
    const json::array offsets = {offset, offset + tensor.bytes()};
    const json::object entry = {{"dtype", format_name(tensor.dtype)}, {"shape", shape}, {"data_offsets", offsets}};
    HYLAS_CHECK(header.emplace(tensor.name, entry).second, "two tensors are named `{}`", tensor.name);
    offset += tensor.bytes();
  }
  std::string text = boost::json::serialize(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text;
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path, const std::vector<OutputTensor>& tensors) {
  const std::vector<OutputTensor> order = in_file_order(tensors);
  const std::string header = make_header(order);
  SafetensorsWriter writer;
  size_t offset = header.size();
  for (const OutputTensor& tensor : order) {
    writer.open_.emplace(tensor.name, Place{offset, tensor.bytes()});
    offset += tensor.bytes();
  }
  writer.path_ = path;
  writer.temporary_ = path + ".part";
  writer.descriptor_ = ::open(writer.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (writer.descriptor_ < 0) {
    return error(ErrorCode::kIo, "{}: cannot be written: {}", writer.temporary_, std::strerror(errno));
  }
  HYLAS_TRY(writer.write_at(0, header.data(), header.size()));
  return writer;
}

SafetensorsWriter& SafetensorsWriter::operator=(SafetensorsWriter&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(open_, other.open_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  unlink(temporary_.c_str());
}

Status SafetensorsWriter::write_at(size_t offset, const void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t written =
        pwrite(descriptor_, static_cast<const char*>(data) + done, bytes - done, static_cast<off_t>(offset + done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return error(ErrorCode::kIo, "{}: writing failed: {}", temporary_, std::strerror(errno));
    done += static_cast<size_t>(written);
  }
  return {};
}

Status SafetensorsWriter::write(const std::string& name, std::span<const std::byte> data) {
  const auto place = open_.find(name);
  HYLAS_CHECK(place != open_.end(), "`{}` is not to be written, or was already", name);
  HYLAS_CHECK(place->second.bytes == data.size(), "`{}` has {} bytes, not {}", name, place->second.bytes, data.size());
  HYLAS_TRY(write_at(place->second.offset, data.data(), data.size()));
  open_.erase(place);
  return {};
}

Status SafetensorsWriter::finish() {
  HYLAS_CHECK(open_.empty(), "{} tensors were not written, among them `{}`", open_.size(), open_.begin()->first);
  if (close(std::exchange(descriptor_, -1)) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int failure = errno;
    unlink(temporary_.c_str());
    return error(ErrorCode::kIo, "{}: cannot be written: {}", path_, std::strerror(failure));
  }
  return {};
}

Status write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::vector<OutputTensor> outputs;
  for (const auto& [name, tensor] : tensors) {
    HYLAS_CHECK(tensor.contiguous(), "`{}` is not contiguous", name);
    outputs.push_back({name, tensor.dtype, {tensor.shape.begin(), tensor.shape.begin() + tensor.rank}});
  }
  HYLAS_ASSIGN(SafetensorsWriter writer, SafetensorsWriter::create(path, outputs));
  for (const auto& [name, tensor] : tensors) {
    HYLAS_TRY(writer.write(name, {static_cast<const std::byte*>(tensor.data), tensor.bytes()}));
  }
  return writer.finish();
}

}  // namespace hylas
