#pragma once
// Ops::moe, moe_expert_rows and moe_combine on the CPU.
#include "ops/cpu/expert_runs.h"

namespace hylas::cpu {

void moe(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const Tensor& x, const Tensor& ids,
         const Tensor& weights, const ExpertWeights& experts, const SharedExpertWeights* shared,
         const Tensor& shared_logit, const Tensor& partials);
void moe_expert_rows(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const Tensor& x, const Tensor& ids,
                     const ExpertWeights& experts, const Tensor& rows);
void moe_shared_rows(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const SharedRows& shared);
void moe_combine(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const Tensor& rows, const Tensor& index,
                 const Tensor& weights, const Tensor& x, const SharedExpertWeights* shared, const Tensor& shared_logit,
                 const Tensor& partials);

}  // namespace hylas::cpu
