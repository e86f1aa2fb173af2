#pragma once
// Configurations of released models that come with the program.
#include <string>

#include "base/result.h"

namespace hylas {

// The folder models/configs/<name>, in lower case, of the installed program or of the source tree that it was built in.
// kNotFound names the ones there are.
Result<std::string> find_model(const std::string& name);

}  // namespace hylas
