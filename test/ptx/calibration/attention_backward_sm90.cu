// Attention backward on Hopper: five products, transposed operands, dQ summed in global memory by bulk reductions.
#include "attention_sm90.h"

using namespace calibration;

int main() {
  using Tile = cute::Shape<cute::_64, cute::_128, cute::_64>;
  check_backward<Tile, Cooperative, Everything>("backward, width 64", {2, 192, 256, 64, false});
  check_backward<Tile, Cooperative, Causal>("backward, width 64, causal", {2, 256, 256, 64, true});
}
