#pragma once
// The answer of /v1/completions.
#include <boost/json.hpp>
#include <memory>
#include <string>
#include <vector>

#include "serve/completion_request.h"
#include "serve/openai_json.h"
#include "serve/reply.h"

namespace hylas {

class CompletionReply : public Reply {
 public:
  // prompt_ids: the tokens of each prompt. Sequence i belongs to prompt i / n.
  CompletionReply(ServeContext& context, std::shared_ptr<HttpReply> http, CompletionRequest request,
                  std::vector<std::vector<int32_t>> prompt_ids);

 protected:
  void on_piece(size_t index, Piece piece) override;
  void on_end() override;

 private:
  struct Logprobs {  // of the tokens not sent yet, in OpenAI's older form
    boost::json::array tokens, token_logprobs, top_logprobs, text_offset;
  };
  struct Choice {
    std::string text;  // of a whole answer
    size_t text_offset = 0;
    Logprobs logprobs;
    bool begun = false;
    Finish finish;
  };

  void echo_prompt(size_t index, const Piece& piece, std::string& text);
  void add_logprob(Choice& choice, const OutputToken& token, bool known);
  boost::json::object choice_json(size_t index, std::string text, const Finish* finish);
  boost::json::object head() const;
  Usage usage() const;

  const CompletionRequest request_;
  const std::vector<std::vector<int32_t>> prompt_ids_;
  const bool logprobs_;
  const std::string id_;
  const int64_t created_s_;
  std::vector<Choice> choices_;
};

}  // namespace hylas
