// Attention backward on Hopper: five products, transposed operands, dQ summed in global memory by bulk reductions.
//
// Two tiles of queries: with more, a stage of Q is loaded again while dK's last product may still read it. The example
// releases the stage after wgmma.wait_group 1, which leaves that product under way; the sanitizer says so.
#include "attention_sm90.h"

using namespace calibration;

int main() {
  using ForwardTile = cute::Shape<cute::_128, cute::_64, cute::_64>;
  using Tile = cute::Shape<cute::_64, cute::_128, cute::_64>;
  check_backward<ForwardTile, Tile, Everything>("backward, width 64", {2, 128, 256, 64, false});
  check_backward<ForwardTile, Tile, Causal>("backward, width 64, causal", {2, 128, 128, 64, true});
}
