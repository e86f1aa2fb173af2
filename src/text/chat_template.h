#pragma once
// The checkpoint's own chat template: a Jinja subset evaluated over order-preserving JSON.
#include <boost/json.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hylas {

namespace jinja {
struct Template;
}

// Immutable after load; render may be called from any thread.
class ChatTemplate {
 public:
  // chat_template.jinja, else tokenizer_config.json's "chat_template" (a string, or a list with one named "default").
  // kNotFound: the checkpoint has none; kUnsupported / kInvalid: names the line of the construct.
  static Result<std::unique_ptr<ChatTemplate>> load(const std::string& model_dir);
  static Result<std::unique_ptr<ChatTemplate>> parse(std::string source);
  ~ChatTemplate();

  // `context`: messages, tools, add_generation_prompt and whatever else the template reads. kInvalid: what the template
  // itself raises (its message), a wrong type, or an evaluation limit (steps, output bytes, depth).
  Result<std::string> render(const boost::json::object& context) const;
  // bos_token, eos_token, pad_token, unk_token of tokenizer_config.json as far as they are set; empty after parse().
  const boost::json::object& special_tokens() const { return special_tokens_; }

 private:
  ChatTemplate();
  std::unique_ptr<const jinja::Template> template_;
  boost::json::object special_tokens_;
};

}  // namespace hylas
