#include "text/tool_call_machine.h"

#include <algorithm>
#include <utility>

#include "text/argument_value.h"
#include "text/json_escape.h"
#include "text/partial_tag.h"

namespace hylas {
namespace {

constexpr std::string_view kCallOpen = "<tool_call>";
constexpr std::string_view kCallClose = "</tool_call>";
constexpr std::string_view kFunctionOpen = "<function=";
constexpr std::string_view kFunctionClose = "</function>";
constexpr std::string_view kParameterOpen = "<parameter=";
constexpr std::string_view kParameterClose = "</parameter>";
constexpr std::string_view kSpaces = " \t\r\n";
constexpr size_t kNameBytesMax = 256;

size_t spaces_before(std::string_view text) { return std::min(text.find_first_not_of(kSpaces), text.size()); }

// A name up to its closing '>': npos while it may still come, 0 if what stands there is no name.
size_t name_length(std::string_view text) {
  size_t end = text.find_first_of(">\n<");
  if (end == std::string_view::npos) return text.size() > kNameBytesMax ? 0 : std::string_view::npos;
  return end <= kNameBytesMax && text[end] == '>' ? end : 0;
}

}  // namespace

void ToolCallMachine::push(std::string_view text, std::vector<ToolEvent>& events) {
  held_.append(text);
  while (step(events)) {
  }
}

void ToolCallMachine::finish(std::vector<ToolEvent>& events) {
  bool in_call =
      state_ == State::kInCall || state_ == State::kStray || state_ == State::kKey || state_ == State::kValue;
  if (state_ == State::kValue) {
    take_value(held_, events);
    held_.clear();
    end_value(events);
  }
  if (state_ == State::kKey) opening_ = kParameterOpen;
  if (in_call) end_call(events);
  bool only_spaces = spaces_before(held_) == held_.size();
  bool drops_spaces = state_ == State::kInCall || state_ == State::kFunctionEnded || state_ == State::kCallEnded;
  if (drops_spaces && only_spaces) held_.clear();
  emit_text(std::exchange(opening_, {}) + std::exchange(held_, {}), events);
  state_ = State::kText;
}

bool ToolCallMachine::step(std::vector<ToolEvent>& events) {
  switch (state_) {
    case State::kText:
      return step_text(events);
    case State::kOpened:
      return step_opened(events);
    case State::kName:
      return step_name(events);
    case State::kInCall:
      return step_in_call(events);
    case State::kStray:
      return step_stray(events);
    case State::kKey:
      return step_key(events);
    case State::kValue:
      return step_value(events);
    case State::kFunctionEnded:
      return step_function_ended();
    case State::kCallEnded:
      return step_call_ended();
  }
  return false;
}

bool ToolCallMachine::step_text(std::vector<ToolEvent>& events) {
  size_t open = held_.find(kCallOpen);
  bool found = open != std::string::npos;
  size_t certain = found ? open : held_.size() - partial_tag_length(held_, {kCallOpen});
  emit_text(std::string_view(held_).substr(0, certain), events);
  held_.erase(0, certain + (found ? kCallOpen.size() : 0));
  if (!found) return false;
  opening_ = kCallOpen;
  state_ = State::kOpened;
  return true;
}

bool ToolCallMachine::step_opened(std::vector<ToolEvent>& events) {
  size_t spaces = spaces_before(held_);
  std::string_view rest = std::string_view(held_).substr(spaces);
  if (may_become(rest, kFunctionOpen)) return false;
  if (!rest.starts_with(kFunctionOpen)) return give_back(events), true;
  size_t taken = spaces + kFunctionOpen.size();
  opening_ += held_.substr(0, taken);
  held_.erase(0, taken);
  state_ = State::kName;
  return true;
}

bool ToolCallMachine::step_name(std::vector<ToolEvent>& events) {
  size_t length = name_length(held_);
  if (length == std::string::npos) return false;
  std::string name = held_.substr(0, length);
  if (length == 0 || (strict_ && !schemas_.knows(name))) return give_back(events), true;
  held_.erase(0, length + 1);
  opening_.clear();
  begin_call(std::move(name), events);
  return true;
}

bool ToolCallMachine::step_in_call(std::vector<ToolEvent>& events) {
  held_.erase(0, spaces_before(held_));
  for (std::string_view tag : {kParameterOpen, kFunctionClose, kCallClose, kCallOpen, kFunctionOpen}) {
    if (may_become(held_, tag)) return false;
  }
  if (held_.starts_with(kParameterOpen)) {
    held_.erase(0, kParameterOpen.size());
    state_ = State::kKey;
  } else if (held_.starts_with(kFunctionClose)) {
    held_.erase(0, kFunctionClose.size());
    end_call(events);
    state_ = State::kFunctionEnded;
  } else if (held_.starts_with(kCallClose)) {  // </function> is missing
    held_.erase(0, kCallClose.size());
    end_call(events);
    state_ = State::kCallEnded;
  } else if (held_.starts_with(kCallOpen) || held_.starts_with(kFunctionOpen)) {  // so is </tool_call>
    end_call(events);
    state_ = State::kFunctionEnded;
  } else {
    emit_text(std::string_view(held_).substr(0, 1), events);
    held_.erase(0, 1);
    state_ = State::kStray;
  }
  return true;
}

bool ToolCallMachine::step_stray(std::vector<ToolEvent>& events) {
  if (held_.empty()) return false;
  size_t end = std::min(held_.find('<'), held_.size());
  emit_text(std::string_view(held_).substr(0, end), events);
  held_.erase(0, end);
  if (held_.empty()) return false;
  state_ = State::kInCall;
  return true;
}

bool ToolCallMachine::step_key(std::vector<ToolEvent>& events) {
  size_t length = name_length(held_);
  if (length == std::string::npos) return false;
  if (length == 0) {
    emit_text(kParameterOpen, events);
    state_ = State::kStray;
    return true;
  }
  std::string key = held_.substr(0, length);
  held_.erase(0, length + 1);
  types_ = schemas_.types(function_, key);
  std::string json = std::exchange(has_parameters_, true) ? ", \"" : "{\"";
  append_json_escaped(key, json);
  emit_arguments(json + "\": ", events);
  value_.clear();
  value_started_ = value_streams_ = false;
  state_ = State::kValue;
  return true;
}

bool ToolCallMachine::step_value(std::vector<ToolEvent>& events) {
  size_t end = std::min({held_.find(kParameterClose), held_.find(kParameterOpen), held_.find(kFunctionClose)});
  if (end == std::string::npos) {
    size_t partial = partial_tag_length(held_, {kParameterClose, kParameterOpen, kFunctionClose});
    size_t certain = held_.size() - partial;
    take_value(std::string_view(held_).substr(0, certain), events);
    held_.erase(0, certain);
    return false;
  }
  take_value(std::string_view(held_).substr(0, end), events);
  end_value(events);
  bool closed = std::string_view(held_).substr(end).starts_with(kParameterClose);
  held_.erase(0, end + (closed ? kParameterClose.size() : 0));
  state_ = State::kInCall;
  return true;
}

bool ToolCallMachine::step_function_ended() {
  size_t spaces = spaces_before(held_);
  std::string_view rest = std::string_view(held_).substr(spaces);
  if (may_become(rest, kCallClose) || may_become(rest, kFunctionOpen) || may_become(rest, kCallOpen)) return false;
  if (rest.starts_with(kCallClose)) {
    held_.erase(0, spaces + kCallClose.size());
    state_ = State::kCallEnded;
  } else if (rest.starts_with(kFunctionOpen)) {  // a second function in one <tool_call>
    held_.erase(0, spaces + kFunctionOpen.size());
    opening_ = kFunctionOpen;
    state_ = State::kName;
  } else {
    state_ = State::kCallEnded;
  }
  return true;
}

bool ToolCallMachine::step_call_ended() {
  size_t spaces = spaces_before(held_);
  std::string_view rest = std::string_view(held_).substr(spaces);
  if (may_become(rest, kCallOpen)) return false;
  if (rest.starts_with(kCallOpen)) held_.erase(0, spaces);
  state_ = State::kText;
  return true;
}

// One newline at the beginning and one at the end belong to the form, not to the value: the last one is held.
void ToolCallMachine::take_value(std::string_view text, std::vector<ToolEvent>& events) {
  value_ += text;
  if (!value_started_ && !value_.empty()) {
    value_started_ = true;
    if (value_[0] == '\n') value_.erase(0, 1);
  }
  bool may_be_null = types_ & kNullType && std::string_view("null\n").starts_with(value_);
  if ((types_ & ~kNullType) != kStringType || (may_be_null && !value_streams_)) return;
  size_t certain = value_.size() - value_.ends_with('\n');
  if (certain == 0) return;
  std::string json = std::exchange(value_streams_, true) ? "" : "\"";
  append_json_escaped(std::string_view(value_).substr(0, certain), json);
  value_.erase(0, certain);
  emit_arguments(std::move(json), events);
}

void ToolCallMachine::end_value(std::vector<ToolEvent>& events) {
  if (value_.ends_with('\n')) value_.pop_back();
  emit_arguments(value_streams_ ? std::string("\"") : argument_json(value_, types_), events);
}

void ToolCallMachine::begin_call(std::string name, std::vector<ToolEvent>& events) {
  function_ = std::move(name);
  has_parameters_ = false;
  events.push_back({ToolEvent::Kind::kCallBegin, calls_++, function_});
  state_ = State::kInCall;
}

void ToolCallMachine::end_call(std::vector<ToolEvent>& events) {
  emit_arguments(has_parameters_ ? "}" : "{}", events);
  events.push_back({ToolEvent::Kind::kCallEnd, calls_ - 1, {}});
}

// What looked like a call is none: its beginning is text after all, and so is what follows.
void ToolCallMachine::give_back(std::vector<ToolEvent>& events) {
  emit_text(std::exchange(opening_, {}), events);
  state_ = State::kText;
}

bool ToolCallMachine::may_become(std::string_view text, std::string_view tag) const {
  return text.size() < tag.size() && tag.starts_with(text);
}

void ToolCallMachine::emit_text(std::string_view text, std::vector<ToolEvent>& events) const {
  if (!text.empty()) events.push_back({ToolEvent::Kind::kText, -1, std::string(text)});
}

void ToolCallMachine::emit_arguments(std::string text, std::vector<ToolEvent>& events) const {
  events.push_back({ToolEvent::Kind::kArgumentsDelta, calls_ - 1, std::move(text)});
}

}  // namespace hylas
