// The wgmmas that a warp has issued and not waited for.
#pragma once
#include <deque>

#include "warpgroup_product.h"

namespace foretoken::machine {

using ProductList = std::vector<std::shared_ptr<WarpgroupProduct>>;

struct WarpProducts {
  uint64_t issued = 0;             // how many, ever: the n-th of each warp is one product of the warpgroup
  ProductList open;                // since the last commit_group
  std::deque<ProductList> groups;  // committed, oldest first
  std::vector<std::shared_ptr<Accumulators>> accumulators;  // under way
};

// Four warps: which products some of them have issued and others have not.
struct Warpgroup {
  uint64_t first = 0;                                      // number of the front of `products`
  std::deque<std::shared_ptr<WarpgroupProduct>> products;  // not issued by all yet
  uint64_t last_operation = 0;
};

}  // namespace foretoken::machine
