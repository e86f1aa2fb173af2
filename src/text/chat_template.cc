#include "text/chat_template.h"

#include "base/json.h"
#include "base/text_file.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/parser.h"

namespace hylas {
namespace {

using jinja::TemplateError;

Error to_error(const TemplateError& failure) {
  switch (failure.kind) {
    case TemplateError::Kind::kUnsupported:
      return error(ErrorCode::kUnsupported, "chat template, line {}: {}", failure.line, failure.message);
    case TemplateError::Kind::kRaised:
      return Error{ErrorCode::kInvalid, failure.message};
    default:
      return error(ErrorCode::kInvalid, "chat template, line {}: {}", failure.line, failure.message);
  }
}

// "chat_template" is a string, or a list of {name, template} of which "default" is the one to use.
Result<std::string> source_in_config(const json::object& config, const std::string& model_dir) {
  const json::value* found = config.if_contains("chat_template");
  if (found && found->is_string()) return std::string(found->get_string());
  if (found && found->is_array()) {
    for (const json::value& entry : found->get_array()) {
      if (!entry.is_object()) continue;
      const json::value* name = entry.get_object().if_contains("name");
      const json::value* source = entry.get_object().if_contains("template");
      bool is_default = name && name->is_string() && name->get_string() == "default";
      if (is_default && source && source->is_string()) return std::string(source->get_string());
    }
  }
  return error(ErrorCode::kNotFound,
               "{}: no chat template (neither chat_template.jinja nor one in tokenizer_config.json)", model_dir);
}

// A token is its text, or an object with the text as "content".
void read_special_tokens(const json::object& config, json::object& tokens) {
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    const json::value* found = config.if_contains(key);
    if (found && found->is_object()) found = found->get_object().if_contains("content");
    if (found && found->is_string()) tokens[key] = *found;
  }
}

}  // namespace

ChatTemplate::ChatTemplate() = default;
ChatTemplate::~ChatTemplate() = default;

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::parse(std::string source) {
  try {
    std::unique_ptr<ChatTemplate> parsed(new ChatTemplate());
    parsed->template_ = std::make_unique<const jinja::Template>(jinja::parse_template(source));
    return parsed;
  } catch (const TemplateError& failure) {
    return to_error(failure);
  }
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::load(const std::string& model_dir) {
  json::object config;
  Result<std::string> config_text = read_text_file(model_dir + "/tokenizer_config.json");
  if (config_text) {
    HYLAS_ASSIGN(config, json::parse_object(*config_text, model_dir + "/tokenizer_config.json"));
  } else if (config_text.error().code != ErrorCode::kNotFound) {
    return config_text.error();
  }
  Result<std::string> source = read_text_file(model_dir + "/chat_template.jinja");
  if (!source && source.error().code == ErrorCode::kNotFound) source = source_in_config(config, model_dir);
  if (!source) return source.error();
  Result<std::unique_ptr<ChatTemplate>> parsed = parse(*std::move(source));
  if (!parsed) return error(parsed.error().code, "{}: {}", model_dir, parsed.error().message);
  read_special_tokens(config, (*parsed)->special_tokens_);
  return parsed;
}

Result<std::string> ChatTemplate::render(const boost::json::object& context) const {
  try {
    jinja::Value values = jinja::from_json(context);
    return jinja::Evaluator(*template_, jinja::Limits{}).render(values.as_dict());
  } catch (const TemplateError& failure) {
    return to_error(failure);
  }
}

}  // namespace hylas
