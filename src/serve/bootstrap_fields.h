#pragma once
// The fields by which a router names the prefilling instance of a request: bootstrap_host, _port and _room.
#include <boost/json.hpp>
#include <optional>
#include <span>

#include "base/result.h"
#include "engine/request.h"

namespace hylas {

// None without a host. kInvalid: names the field; all three belong together.
Result<std::optional<Bootstrap>> parse_bootstrap(const boost::json::object& from);

}  // namespace hylas
