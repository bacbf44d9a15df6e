#include "table.h"

#include <initializer_list>

namespace foretoken::cuda {

const Kernels& sm80_table() {
  static const Kernels kernels = [] {
    Kernels table;
    for (const auto fill :
         {fill_elementwise, fill_linear, fill_rms_norm, fill_rope, fill_attention, fill_attention_backward,
          fill_attention_cached, fill_swiglu, fill_embedding, fill_rnn, fill_cross_entropy, fill_plain_cross_entropy,
          fill_metrics, fill_optimizer, fill_sample, fill_draft})
      fill(table);
    return table;
  }();
  return kernels;
}

const Kernels& sm90_table() {
  static const Kernels kernels = [] {
    Kernels table = sm80_table();
    fill_linear_sm90(table);
    fill_cross_entropy_sm90(table);
    return table;
  }();
  return kernels;
}

}  // namespace foretoken::cuda
