#pragma once
// The answer of /v1/chat/completions.
#include <boost/json.hpp>
#include <memory>
#include <string>
#include <vector>

#include "serve/chat_parts.h"
#include "serve/chat_request.h"
#include "serve/openai_json.h"
#include "serve/reply.h"

namespace hylas {

class ChatReply : public Reply {
 public:
  // `request` is kept (its tools are read while the answer grows). starts_in_reasoning: the prompt ends inside <think>.
  ChatReply(ServeContext& context, std::shared_ptr<HttpReply> http, ChatRequest request, bool starts_in_reasoning);

 protected:
  void on_piece(size_t index, Piece piece) override;
  void on_end() override;

 private:
  struct Call {
    std::string id, name, arguments;
  };
  struct Choice {
    ChatParts parts;
    bool begun = false;           // the chunk with the role is sent
    boost::json::array logprobs;  // of a stream: not sent yet
    int64_t reasoning_tokens = 0;
    std::string reasoning, content;  // the rest: of a whole answer, but calls' ids
    std::vector<Call> calls;
    Finish finish;
  };

  void gather(Choice& choice, ChatPart part);
  void stream_part(size_t index, const ChatPart& part);
  void send_chunk(size_t index, boost::json::object delta, const Finish* finish);
  boost::json::object head(std::string_view object_name) const;
  boost::json::object choice_json(size_t index);
  Usage usage() const;

  const ChatRequest request_;
  const std::string id_;
  const int64_t created_s_;
  std::vector<Choice> choices_;
};

}  // namespace hylas
