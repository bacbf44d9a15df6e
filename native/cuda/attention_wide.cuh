// Attention with more than 128 elements per head, in plain loops: a warp per row, its sums in f32 in the workspace.
#pragma once
#include "attention_tile.cuh"

namespace foretoken::cuda {

size_t attention_wide_workspace(const AttentionShape& n);
void attention_wide(const Call& call, In q, In k, In v, In first_key, Out out, Out lse, double scale);

size_t attention_wide_backward_workspace(const AttentionShape& n);
void attention_wide_backward(const Call& call, In q, In k, In v, In first_key, In out, In lse, In dout, Out dq, Out dk,
                             Out dv, double scale);

}  // namespace foretoken::cuda
