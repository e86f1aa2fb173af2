// check_complete: a checkpoint's tensors against the manifest.
#include <algorithm>
#include <set>
#include <utility>

#include "base/log.h"
#include "model/manifest.h"

namespace hylas {
namespace {

constexpr size_t kNamesShown = 5;

std::string first_names(std::vector<std::string> names) {
  const size_t total = names.size();
  names.resize(std::min(total, kNamesShown));
  return fmt::format("{}{}", fmt::join(names, ", "), total > names.size() ? ", .." : "");
}

// Why `found` is not what `spec` asks for; empty if it is.
std::string mismatch(const Checkpoint& checkpoint, const TensorSpec& spec, const TensorInfo& found) {
  if (found.shape != spec.shape) {
    return fmt::format("{} has shape [{}] instead of [{}]", spec.name, fmt::join(found.shape, ", "),
                       fmt::join(spec.shape, ", "));
  }
  if (found.dtype == DType::kF32 || found.dtype == DType::kBF16) return {};
  if (found.dtype != DType::kF8E4M3) return fmt::format("{} has type {}", spec.name, found.dtype_name);
  const TensorInfo* scale = checkpoint.find(scale_name(spec.name));
  return scale ? std::string() : fmt::format("{} is FP8 but has no {}", spec.name, scale_name(spec.name));
}

bool known_extra(std::string_view name) {
  return name.find("visual.") != name.npos || name.ends_with("rotary_emb.inv_freq") || name.starts_with("mtp.") ||
         name == "lm_head.weight";
}

void warn_of_extra_tensors(const Checkpoint& checkpoint, const std::vector<TensorSpec>& specs) {
  std::set<const TensorInfo*> used;
  for (const TensorSpec& spec : specs) {
    used.insert(checkpoint.find(spec.name));
    used.insert(checkpoint.find(scale_name(spec.name)));
  }
  std::vector<std::string> extra;
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (!used.contains(&info) && !known_extra(name)) extra.push_back(name);
  }
  if (extra.empty()) return;
  log::warn("{}: {} tensors that this architecture does not have are ignored: {}", checkpoint.dir(), extra.size(),
            first_names(extra));
}

}  // namespace

Status check_complete(const Checkpoint& checkpoint, const ModelConfig& config) {
  const std::vector<TensorSpec> specs = manifest(config, found_style(checkpoint, config));
  const bool with_mtp = checkpoint.find("mtp.fc.weight") != nullptr;
  std::vector<std::string> missing, wrong;
  for (const TensorSpec& spec : specs) {
    const TensorInfo* found = checkpoint.find(spec.name);
    if (!found) {
      if (with_mtp || !spec.mtp) missing.push_back(spec.name);
    } else if (std::string why = mismatch(checkpoint, spec, *found); !why.empty()) {
      wrong.push_back(std::move(why));
    }
  }
  if (!missing.empty()) {
    return error(ErrorCode::kNotFound, "{}: {} of {} tensors are missing: {}", checkpoint.dir(), missing.size(),
                 specs.size(), first_names(missing));
  }
  if (!wrong.empty()) {
    return error(ErrorCode::kInvalid, "{}: {} of {} tensors do not fit config.json: {}", checkpoint.dir(), wrong.size(),
                 specs.size(), first_names(wrong));
  }
  warn_of_extra_tensors(checkpoint, specs);
  return {};
}

}  // namespace hylas
