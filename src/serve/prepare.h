#pragma once
// From a checked request to what the engine takes: token ids, the grammar, the length, the seed. Runs on text workers.
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/request.h"
#include "serve/chat_request.h"
#include "serve/context.h"
#include "serve/prompts.h"

namespace hylas {

// kInvalid: a prompt that leaves no room for a token in the context; says both lengths and names `field`.
Result<std::vector<int32_t>> encode_prompt(const ServeContext& context, const PromptInput& prompt,
                                           std::string_view field);

struct RenderedChat {
  std::string text;
  std::vector<int32_t> ids;
};
// kUnsupported: there is no chat template. kInvalid: the template refuses the messages, or they are too long.
Result<RenderedChat> render_prompt(const ServeContext& context, const ChatPrompt& prompt);

using SharedGrammar = std::shared_ptr<const CompiledGrammar>;
// Null without a constraint. `tools` and `parallel` are for OutputConstraint::kToolCalls.
Result<SharedGrammar> compile_constraint(ServeContext& context, const OutputConstraint& constraint,
                                         const boost::json::array& tools, bool parallel);

// The engine's request for copy `copy` of a prompt. grammar_after: the grammar begins behind this token.
Request make_request(ServeContext& context, const GenerationRequest& from, std::vector<int32_t> prompt, int32_t copy,
                     const SharedGrammar& grammar, std::optional<int32_t> grammar_after = std::nullopt);

}  // namespace hylas
