#pragma once
#include "tensor/hashed_fill.h"

struct CUstream_st;

namespace hylas::cuda {

// Device::fill_hashed, asynchronous in `stream`.
void hashed_fill(const HashedFill& fill, CUstream_st* stream);

}  // namespace hylas::cuda
