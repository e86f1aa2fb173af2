#pragma once
// The answer of /generate, in SGLang's form.
#include <boost/json.hpp>
#include <memory>
#include <string>
#include <vector>

#include "serve/native_request.h"
#include "serve/reply.h"

namespace hylas {

class NativeReply : public Reply {
 public:
  // prompt_ids: the tokens of each item. The sequences are the items' copies, item by item.
  NativeReply(ServeContext& context, std::shared_ptr<HttpReply> http, NativeRequest request,
              std::vector<std::vector<int32_t>> prompt_ids);

 protected:
  void on_piece(size_t index, Piece piece) override;
  void on_end() override;

 private:
  struct Output {
    size_t item = 0;
    std::string id;
    std::string text;        // so far; of an incremental stream: not sent yet
    boost::json::array ids;  // likewise
    boost::json::array input_logprobs, input_top, logprobs, top;
    boost::json::value finish;
    bool begun = false;
  };

  void add_input_logprobs(Output& output, const Piece& piece);
  void add_logprob(const OutputToken& token, bool known, boost::json::array& logprobs, boost::json::array& top) const;
  boost::json::object to_json(size_t index) const;

  const NativeRequest request_;
  const std::vector<std::vector<int32_t>> prompt_ids_;
  const bool incremental_;
  std::vector<Output> outputs_;
};

}  // namespace hylas
