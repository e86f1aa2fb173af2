#include "app/load_text.h"

#include "base/text_file.h"

namespace hylas {

Result<TextModel> load_text(const Options& options) {
  TextModel text;
  auto tokenizer = Tokenizer::load(options.engine.model_path);
  if (!tokenizer.ok() && tokenizer.error().code == ErrorCode::kNotFound) {
    return error(ErrorCode::kNotFound, "{}; text needs the checkpoint's tokenizer, also with --load-format dummy",
                 tokenizer.error().message);
  }
  HYLAS_ASSIGN(text.tokenizer, std::move(tokenizer));
  if (!options.chat_template.empty()) {
    HYLAS_ASSIGN(std::string source, read_text_file(options.chat_template));
    auto parsed = ChatTemplate::parse(std::move(source));
    if (!parsed.ok()) return error(parsed.error().code, "{}: {}", options.chat_template, parsed.error().message);
    text.chat_template = std::move(*parsed);
    return text;
  }
  auto own = ChatTemplate::load(options.engine.model_path);
  if (!own.ok() && own.error().code != ErrorCode::kNotFound) return own.error();
  if (own.ok()) text.chat_template = std::move(*own);
  return text;
}

}  // namespace hylas
