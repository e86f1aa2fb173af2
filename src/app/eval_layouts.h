#pragma once
// hylas eval layouts: whether every layout of a model says what one rank says.
#include "app/commands.h"

namespace hylas {

void add_eval_layouts(CLI::App& eval, Action& action);

}  // namespace hylas
