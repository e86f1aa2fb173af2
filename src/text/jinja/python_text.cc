#include "text/jinja/python_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/json_escape.h"
#include "text/unicode.h"

namespace hylas::jinja {
namespace {

void append_repr(const Value& value, std::string& out, Runtime& runtime);

void append_list_repr(const List& list, std::string& out, Runtime& runtime) {
  out += list.is_tuple ? '(' : '[';
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(list.items[i], out, runtime);
  }
  if (list.is_tuple && list.items.size() == 1) out += ',';
  out += list.is_tuple ? ')' : ']';
}

void append_dict_repr(const Dict& dict, std::string& out, Runtime& runtime) {
  out += '{';
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) out += ", ";
    out += string_repr(dict.items[i].first) + ": ";
    append_repr(dict.items[i].second, out, runtime);
  }
  out += '}';
}

void append_repr(const Value& value, std::string& out, Runtime& runtime) {
  runtime.tick();
  if (value.is_string()) {
    out += string_repr(value.as_string());
  } else if (value.is_list()) {
    append_list_repr(value.as_list(), out, runtime);
  } else if (value.is_dict()) {
    append_dict_repr(value.as_dict(), out, runtime);
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (value.is_none()) {
    out += "None";
  } else if (value.is_bool()) {
    out += value.as_bool() ? "True" : "False";
  } else if (value.is_int()) {
    out += std::to_string(value.as_int());
  } else if (value.is_float()) {
    out += float_text(value.as_double());
  } else {
    runtime.error("a {} cannot be written as text", value.type_name());
  }
  if (out.size() > runtime.limits.bytes_max) runtime.check_bytes(out.size());
}

void append_json_string(std::string_view text, bool ascii_only, std::string& out) {
  out += '"';
  if (!ascii_only) {
    append_json_escaped(text, out);
  } else {
    const char* end = text.data() + text.size();
    for (const char* p = text.data(); p < end;) {
      Utf8Char c = decode_utf8(p, end);
      if (c.code_point < 0x7f) {
        append_json_escaped({p, static_cast<size_t>(c.length)}, out);
      } else if (c.code_point < 0x10000) {
        out += fmt::format("\\u{:04x}", c.code_point);
      } else {
        int32_t offset = c.code_point - 0x10000;
        out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (offset >> 10), 0xdc00 + (offset & 0x3ff));
      }
      p += c.length;
    }
  }
  out += '"';
}

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Runtime& runtime) : style_(style), runtime_(runtime) {}

  void write(const Value& value) {
    runtime_.tick();
    if (value.is_string()) {
      append_json_string(value.as_string(), style_.ascii_only, out_);
    } else if (value.is_list()) {
      write_items('[', ']', value.as_list().items, [&](const Value& item) { write(item); });
    } else if (value.is_dict()) {
      write_dict(value.as_dict());
    } else if (value.is_none()) {
      out_ += "null";
    } else if (value.is_bool()) {
      out_ += value.as_bool() ? "true" : "false";
    } else if (value.is_int()) {
      out_ += std::to_string(value.as_int());
    } else if (value.is_float()) {
      write_float(value.as_double());
    } else {
      runtime_.error("a value of type {} is not JSON serializable", value.type_name());
    }
    if (out_.size() > runtime_.limits.bytes_max) runtime_.check_bytes(out_.size());
  }
  std::string take() { return std::move(out_); }

 private:
  using Item = std::pair<std::string, Value>;

  void write_float(double value) {
    if (std::isnan(value)) {
      out_ += "NaN";
    } else if (std::isinf(value)) {
      out_ += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out_ += float_text(value);
    }
  }
  void write_dict(const Dict& dict) {
    auto write_item = [&](const Item& item) {
      append_json_string(item.first, style_.ascii_only, out_);
      out_ += style_.key_separator;
      write(item.second);
    };
    if (!style_.sort_keys) return write_items('{', '}', dict.items, write_item);
    std::vector<Item> sorted = dict.items;
    std::sort(sorted.begin(), sorted.end(), [](const Item& a, const Item& b) { return a.first < b.first; });
    write_items('{', '}', sorted, write_item);
  }
  template <class Items, class Write>
  void write_items(char open, char close, const Items& items, const Write& write_item) {
    out_ += open;
    ++level_;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out_ += style_.item_separator;
      first = false;
      new_line();
      write_item(item);
    }
    --level_;
    if (!items.empty()) new_line();
    out_ += close;
  }
  void new_line() {
    if (!style_.indent) return;
    out_ += '\n';
    for (int i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  const JsonStyle& style_;
  Runtime& runtime_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char digits[64];
  // Python's rule: the shortest digits that read back equal; an exponent below -4 or from 16 on.
  double magnitude = std::fabs(value);
  bool scientific = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  auto format = scientific ? std::chars_format::scientific : std::chars_format::fixed;
  std::string text(digits, std::to_chars(digits, digits + sizeof(digits), value, format).ptr);
  return scientific || text.find('.') != std::string::npos ? text : text + ".0";
}

std::string string_repr(std::string_view text) {
  char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    Utf8Char c = decode_utf8(p, end);
    if (c.code_point == quote || c.code_point == '\\') {
      out += '\\';
      out += *p;
    } else if (c.code_point == '\n') {
      out += "\\n";
    } else if (c.code_point == '\r') {
      out += "\\r";
    } else if (c.code_point == '\t') {
      out += "\\t";
    } else if (c.code_point < 0x20 || (c.code_point >= 0x7f && c.code_point <= 0xa0) || c.code_point == 0xad) {
      out += fmt::format("\\x{:02x}", c.code_point);
    } else {
      out.append(p, c.length);
    }
    p += c.length;
  }
  return out + quote;
}

std::string repr(const Value& value, Runtime& runtime) {
  std::string out;
  append_repr(value, out, runtime);
  return out;
}

std::string to_text(const Value& value, Runtime& runtime) {
  if (value.is_string()) return value.as_string();
  if (value.is_undefined()) return {};
  return repr(value, runtime);
}

std::string to_json(const Value& value, const JsonStyle& style, Runtime& runtime) {
  JsonWriter writer(style, runtime);
  writer.write(value);
  return writer.take();
}

}  // namespace hylas::jinja
