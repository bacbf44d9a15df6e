#include "linear.h"
#include "table.h"

namespace foretoken::cuda {

void fill_linear_sm90(Kernels& table) {
  table.linear = {linear<multiply_sm90>};
  table.linear_backward_input = {linear_backward_input<multiply_sm90>};
  table.linear_backward_weight = {linear_backward_weight<multiply_sm90>};
}

}  // namespace foretoken::cuda
