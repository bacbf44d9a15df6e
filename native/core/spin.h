// Waiting by looking again for a while before asking the kernel: what follows within microseconds is met awake.
#pragma once
#include <sched.h>

#include <chrono>

namespace foretoken {

// Waking a parked thread costs 7 to 60 µs, and what a program does between two steps of decoding takes up to 200.
constexpr std::chrono::microseconds kSpin{300};

static inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True as soon as ready() is; false when it was not for kSpin.
template <class Ready>
bool spin_until(Ready ready) {
  constexpr int kLooks = 64;  // between two looks at the clock
  const auto look = [&] {
    for (int i = 0; i < kLooks; i++) {
      if (ready()) return true;
      pause_briefly();
    }
    return false;
  };
  if (look()) return true;  // before the clock is asked: most waits within a kernel are shorter than its answer
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    if (look()) return true;
    sched_yield();
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace foretoken
