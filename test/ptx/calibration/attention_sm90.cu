// Attention forward on Hopper: P goes from accumulators to the next product's A in registers.
#include "attention_sm90.h"

using namespace calibration;

int main() {
  using cute::Shape;
  using Narrow = Shape<cute::_128, cute::_64, cute::_64>;
  check_forward<Narrow, Cooperative, Everything>("cooperative, width 64", {2, 256, 192, 64, false});
  check_forward<Narrow, Pingpong, Causal>("ping-pong, width 64, causal", {3, 256, 256, 64, true});
  using Wide = Shape<cute::_128, cute::_128, cute::_128>;
  check_forward<Wide, Cooperative, Causal>("cooperative, width 128, causal", {2, 384, 384, 128, true});
}
