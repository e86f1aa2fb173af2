#pragma once
// ByteWriter and ByteReader: values as little-endian bytes and back, for messages between processes. A struct names its
// members once, for both directions: template <class Io> void fields(Io& io, Like<T> auto& value) { io(value.a, ...); }
// in the namespace of T.
#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace hylas {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in memory");

// T or const T: what `fields` takes, since it serves the writer and the reader.
template <class U, class T>
concept Like = std::same_as<std::remove_const_t<U>, T>;

template <class T>
concept PlainNumber = (std::is_arithmetic_v<T> || std::is_enum_v<T>) && !std::same_as<T, bool>;

class ByteWriter {
 public:
  template <class... T>
  void operator()(const T&... values) {
    (put(values), ...);
  }
  // The reader checks what the writer knows.
  void expect(bool) {}

  const std::string& bytes() const { return bytes_; }
  std::string take() { return std::move(bytes_); }

 private:
  void append(const void* data, size_t bytes) {
    if (bytes > 0) bytes_.append(static_cast<const char*>(data), bytes);
  }
  void put_count(size_t count) { put(static_cast<uint32_t>(count)); }
  template <PlainNumber T>
  void put(T value) {
    append(&value, sizeof value);
  }
  void put(bool value) { put(static_cast<uint8_t>(value)); }
  void put(const std::string& text) {
    put_count(text.size());
    append(text.data(), text.size());
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put_count(values.size());
    if constexpr (PlainNumber<T>) {
      append(values.data(), values.size() * sizeof(T));
    } else {
      for (const T& value : values) put(value);
    }
  }
  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }
  template <class T>
  void put(const std::shared_ptr<const T>& value) {
    put(value != nullptr);
    if (value) put(*value);
  }
  template <class T>
    requires std::is_class_v<T>
  void put(const T& value) {
    fields(*this, value);
  }

  std::string bytes_;
};

// Never reads past the end: what does not fit is left as it was, and ok() is false from then on.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <class... T>
  void operator()(T&... values) {
    (get(values), ...);
  }
  void expect(bool holds) { ok_ = ok_ && holds; }

  bool ok() const { return ok_; }
  // Everything was read, and made sense.
  bool complete() const { return ok_ && rest_.empty(); }

 private:
  bool take(void* to, size_t bytes) {
    expect(bytes <= rest_.size());
    if (!ok_) return false;
    if (bytes > 0) std::memcpy(to, rest_.data(), bytes);
    rest_.remove_prefix(bytes);
    return true;
  }
  // Items that follow, of at least `bytes_min` each: 0 if there cannot be so many.
  size_t get_count(size_t bytes_min) {
    uint32_t count = 0;
    get(count);
    expect(count <= rest_.size() / bytes_min);
    return ok_ ? count : 0;
  }
  template <PlainNumber T>
  void get(T& value) {
    take(&value, sizeof value);
  }
  void get(bool& value) {
    uint8_t byte = 0;
    get(byte);
    expect(byte <= 1);
    value = byte == 1;
  }
  void get(std::string& text) {
    text.resize(get_count(1));
    take(text.data(), text.size());
  }
  template <class T>
  void get(std::vector<T>& values) {
    if constexpr (PlainNumber<T>) {
      values.resize(get_count(sizeof(T)));
      take(values.data(), values.size() * sizeof(T));
    } else {
      values.clear();
      for (size_t left = get_count(1); left > 0 && ok_; --left) get(values.emplace_back());
    }
  }
  template <class T>
  void get(std::optional<T>& value) {
    bool present = false;
    get(present);
    value.reset();
    if (present) get(value.emplace());
  }
  template <class T>
  void get(std::shared_ptr<const T>& value) {
    bool present = false;
    get(present);
    value = nullptr;
    if (!present) return;
    auto mine = std::make_shared<T>();
    get(*mine);
    value = std::move(mine);
  }
  template <class T>
    requires std::is_class_v<T>
  void get(T& value) {
    fields(*this, value);
  }

  std::string_view rest_;
  bool ok_ = true;
};

// Tells every change within one 8-byte word, and nearly every other: each step maps words one to one.
inline uint64_t checksum(std::string_view bytes) {
  uint64_t sum = bytes.size() * 0x9e3779b97f4a7c15u;
  for (size_t at = 0; at < bytes.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min<size_t>(8, bytes.size() - at));
    sum = (sum ^ word) * 0xff51afd7ed558ccdu;
    sum ^= sum >> 32;
  }
  return sum;
}

}  // namespace hylas
