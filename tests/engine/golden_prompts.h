#pragma once
// Golden prompts through an engine, all in one batch: the reference's greedy tokens must come back.
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "engine/client.h"
#include "support/goldens.h"

namespace hylas {

inline void expect_golden_tokens(Engine& engine, const test::GoldenFile& golden,
                                 std::initializer_list<const char*> prompts) {
  Client client(engine);
  std::vector<std::pair<std::string, RequestId>> sent;
  for (const char* prompt : prompts) {
    Request request;
    request.prompt = golden.i32(std::string(prompt) + ".input_ids");
    request.sampling.max_new_tokens = 32;
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    sent.emplace_back(prompt, client.send(request));
  }
  for (const auto& [prompt, id] : sent) {
    EXPECT_EQ(client.wait(id).tokens, golden.i32(prompt + ".greedy_ids")) << prompt;
  }
}

}  // namespace hylas
