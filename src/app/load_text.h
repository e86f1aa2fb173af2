#pragma once
// The text side of a checkpoint, for the commands that read or write text.
#include "app/options.h"
#include "base/result.h"
#include "serve/context.h"

namespace hylas {

// The tokenizer, and the chat template: --chat-template's file, else the checkpoint's own if it has one.
Result<TextModel> load_text(const Options& options);

}  // namespace hylas
