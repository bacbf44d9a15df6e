#include "memory_operand.h"

#include "code.h"

namespace foretoken::machine {

MemoryForm take_memory_form(Form& form) {
  MemoryForm result;
  switch (form.take_one({"weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "sc", "mmio"})) {
    case 1: result.order = Order::relaxed, result.scope = Scope::system; break;
    case 2: result.order = Order::relaxed; break;
    case 3: result.order = Order::acquire; break;
    case 4: result.order = Order::release; break;
    case 5: result.order = Order::acquire_release; break;
    case 6: result.order = Order::sequential; break;
    case 7:
      result.order = Order::mmio;
      form.need("relaxed");
      break;
    default: break;
  }
  switch (form.take_one({"cta", "cluster", "gpu", "sys"})) {
    case 0: result.scope = Scope::block; break;
    case 1: result.scope = Scope::cluster; break;
    case 2: result.scope = Scope::device; break;
    case 3: result.scope = Scope::system; break;
    default: break;
  }
  switch (form.take_one({"global", "const", "shared", "shared::cta", "shared::cluster", "local", "param",
                         "param::entry", "param::func"})) {
    case 0: result.space = Space::global; break;
    case 1: result.space = Space::constant; break;
    case 2:
    case 3:
    case 4: result.space = Space::shared; break;
    case 5: result.space = Space::local; break;
    case 6:
    case 7:
    case 8: result.space = Space::parameter; break;
    default: break;
  }
  form.ignore({"ca", "cg", "cs", "lu", "cv", "nc", "wb", "wt", "noftz"});
  std::string_view hint;
  while (form.take_prefix("L1::", hint) || form.take_prefix("L2::", hint)) {
  }
  return result;
}

Place find_place(Context& c, Space space, const uint64_t* addresses, Mask rest, Mask& here) {
  Place place;
  place.space = space;
  const uint64_t first = addresses[first_lane(rest)];
  // Keeps those of the lanes whose addresses lie in [start, start + bytes).
  const auto keep = [&](uint64_t start, uint64_t bytes) {
    Mask inside = 0;
    for (int lane = 0; lane < kLanes; ++lane) inside |= static_cast<Mask>(addresses[lane] - start < bytes) << lane;
    here = rest & inside;
  };
  const Code& code = *c.launch->code;
  if (space == Space::generic) {
    if (is_shared(first)) {
      place.space = Space::shared;
      place.start = kSharedWindow;
      const uint64_t shared = first - kSharedWindow;
      place.memory = c.shared_at(first_lane(rest), shared).shared.get();
      keep(kSharedWindow + (shared >> kSharedRankShift << kSharedRankShift), uint64_t{1} << kSharedRankShift);
    } else if (is_local(first)) {
      place.space = Space::local;
      place.start = kLocalWindow;
      place.lane_memory = {c.warp->local, c.warp->local_shadow, code.program.local_bytes};
      keep(kLocalWindow, kLocalWindowBytes);
    } else if (c.launch->parameters->contains(first)) {
      place.space = Space::parameter;
      place.memory = c.launch->parameters;
      keep(c.launch->parameters->base(), c.launch->parameters->size());
    } else {
      place.space = Space::global;
      place.memory = c.launch->global;
      Mask elsewhere = 0;
      for (int lane : each(rest))
        if (is_shared(addresses[lane]) || is_local(addresses[lane]) || c.launch->parameters->contains(addresses[lane]))
          elsewhere |= 1u << lane;
      here = rest & ~elsewhere;
    }
    return place;
  }
  switch (space) {
    case Space::shared: {
      const uint64_t rank = first >> kSharedRankShift;
      place.memory = c.shared_at(first_lane(rest), first).shared.get();
      if (c.cluster->blocks.size() > 1) keep(rank << kSharedRankShift, uint64_t{1} << kSharedRankShift);
      break;
    }
    case Space::local: place.lane_memory = {c.warp->local, c.warp->local_shadow, code.program.local_bytes}; break;
    case Space::parameter:
      if (first >= kCallArea && first - kCallArea < kCallArea) {
        place.start = kCallArea;
        place.lane_memory = {c.warp->call_area, c.warp->call_area_shadow, code.program.call_area_bytes};
      } else {
        place.start = uint64_t{0} - kParameterWindow;
        place.memory = c.launch->parameters;
      }
      break;
    default: place.memory = c.launch->global;
  }
  return place;
}

}  // namespace foretoken::machine
