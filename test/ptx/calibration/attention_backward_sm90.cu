// Attention backward on Hopper: five products, transposed operands, dQ summed in global memory by bulk reductions.
#include "attention_sm90.h"

using namespace calibration;

int main() {
  using ForwardTile = cute::Shape<cute::_128, cute::_64, cute::_64>;
  using Tile = cute::Shape<cute::_64, cute::_128, cute::_64>;
  check_backward<ForwardTile, Tile, Everything>("backward, width 64", {2, 192, 256, 64, false});
  check_backward<ForwardTile, Tile, Causal>("backward, width 64, causal", {2, 256, 256, 64, true});
}
