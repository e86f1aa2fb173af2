#pragma once
// The key that clients must bring. Thread-safe.
#include <string>

namespace hylas {

// Whether an Authorization header brings `key` ("Bearer KEY"); an empty key lets everybody in. Takes a time that does
// not tell where they differ.
bool brings_key(const std::string& authorization, const std::string& key);

inline constexpr const char* kKeyMissing = "the API key is missing or wrong: send Authorization: Bearer KEY";

}  // namespace hylas
