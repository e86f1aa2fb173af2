#pragma once
// Which fields a request may have. A field that would change the answer and is not supported is refused, and so is one
// that nobody knows (a spelling mistake would otherwise go unnoticed); bookkeeping fields of clients are let through.
#include <boost/json.hpp>
#include <span>
#include <string_view>

#include "base/result.h"

namespace hylas {

// `known`: the fields that the caller reads. Null values count as absent.
Status check_fields(const boost::json::object& from, std::span<const std::string_view> known,
                    std::string_view path = {});

}  // namespace hylas
