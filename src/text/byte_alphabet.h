#pragma once
// GPT-2's byte alphabet: tokenizer.json spells every byte of a token as one printable character.
#include <optional>
#include <string>
#include <string_view>

namespace hylas {

// The bytes that `spelled` (UTF-8) stands for; nullopt if it holds a character outside the alphabet. Thread-safe.
std::optional<std::string> bytes_of_alphabet(std::string_view spelled);

}  // namespace hylas
