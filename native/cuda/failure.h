// What a launcher could not do, kept until the host side of the call that runs it asks.
#pragma once

namespace foretoken::cuda {

// Keeps `text` (a string literal) as this thread's pending failure; the first one wins.
void report_failure(const char* text);

// The pending failure of this thread, which is thereby forgotten; nullptr when there is none.
const char* take_failure();

}  // namespace foretoken::cuda
