// When enqueued work runs: lazily, in the order of its dependencies, by whichever thread needs it.
#include <algorithm>
#include <thread>

#include "runtime.h"

namespace foretoken::ptx::runtime {
namespace {

cudaError_t code_of(machine::FaultKind kind) {
  switch (kind) {
    case machine::FaultKind::address: return cudaErrorIllegalAddress;
    case machine::FaultKind::assertion: return cudaErrorAssert;
    case machine::FaultKind::deadlock: return cudaErrorLaunchTimeout;
    case machine::FaultKind::unsupported: return cudaErrorIllegalInstruction;
    default: return cudaErrorLaunchFailure;
  }
}

void lose(Device& device, cudaError_t code, const std::string& why) {
  std::fprintf(stderr, "[ptx] device %d is lost: %s\n", device.ordinal, why.c_str());
  device.lost = Error(code, why);
}

void run_work(Operation& operation) {
  Device& device = *operation.device;
  if (device.lost) return;
  try {
    operation.work->run(device);
  } catch (const machine::Fault& fault) {
    lose(device, code_of(fault.kind), fault.what());
  } catch (const std::exception& error) {
    lose(device, cudaErrorIllegalInstruction, error.what());
  }
}

void count(PtxCounters& counters, Work::Kind kind) {
  switch (kind) {
    case Work::Kind::kernel: counters.launches++; break;
    case Work::Kind::copy: counters.copies++; break;
    case Work::Kind::fill: counters.fills++; break;
    case Work::Kind::host: counters.host_functions++; break;
    default: break;
  }
}

}  // namespace

void Runtime::check(const Device& device) {
  if (device.lost) throw *device.lost;
}

// The legacy stream comes after everything that blocking streams have, and they come after everything it has.
std::shared_ptr<Operation> Runtime::enqueue(Lock& lock, Stream& stream, std::shared_ptr<Work> work,
                                            std::vector<std::shared_ptr<Operation>> also_after) {
  if (stream.capture) {
    add_to_capture(stream, std::move(work));
    return nullptr;
  }
  stream.forget_done();
  while (stream.pending.size() >= Stream::kCapacity) {
    drive(lock, std::shared_ptr<Operation>(stream.pending.front()));
    stream.forget_done();
  }
  Device& device = *stream.device;
  if (stream.legacy) {
    for (const auto& other : device.streams) {
      if (!other->blocking()) continue;
      if (other->capture)
        throw Error(cudaErrorStreamCaptureImplicit,
                    "the default stream would wait for a stream that is being captured");
      if (auto last = other->last()) also_after.push_back(std::move(last));
    }
  } else if (stream.blocking()) {
    if (auto last = device.legacy_stream->last()) also_after.push_back(std::move(last));
  }
  if (auto last = stream.last()) also_after.push_back(std::move(last));

  auto operation = std::make_shared<Operation>();
  operation->work = std::move(work);
  operation->device = &device;
  operation->after = std::move(also_after);
  // A host function that has not run may still read what is to be overwritten.
  const bool read_before = std::any_of(host_functions_.begin(), host_functions_.end(),
                                       [](const auto& function) { return function->state != Operation::State::done; });
  operation->work->enqueued(host_memory, !read_before);
  count(counters, operation->work->kind);
  stream.pending.push_back(operation);
  if (operation->work->kind == Work::Kind::host) {
    host_functions_.push_back(operation);
    if (!serving_) std::thread([this] { serve_host_functions(); }).detach();
    serving_ = true;
    changed.notify_all();
  }
  follow_schedule(lock, operation);
  return operation;
}

void Runtime::follow_schedule(Lock& lock, const std::shared_ptr<Operation>& added) {
  if (settings.schedule == Schedule::eager) {
    // A host function runs elsewhere and may wait for this thread: what comes after it is left for later.
    while (const auto next = next_towards(added)) {
      if (next->state == Operation::State::running || next->work->kind == Work::Kind::host) return;
      execute(lock, next);
    }
  } else if (settings.schedule == Schedule::mixed && random.chance(2)) {
    std::vector<Stream*> busy;
    for (const auto& device : devices) {
      if (device->legacy_stream->last()) busy.push_back(device->legacy_stream.get());
      for (const auto& stream : device->streams)
        if (stream->last()) busy.push_back(stream.get());
    }
    if (!busy.empty()) advance(lock, busy[random.below(static_cast<uint32_t>(busy.size()))]->pending.front());
  }
}

// The first operation that must run before this one and can run now, or this one; nullptr: it is done.
std::shared_ptr<Operation> Runtime::next_towards(const std::shared_ptr<Operation>& operation) {
  if (operation->state == Operation::State::done) return nullptr;
  std::shared_ptr<Operation> at = operation;
  while (at->state == Operation::State::waiting) {
    std::erase_if(at->after, [](const auto& other) { return other->state == Operation::State::done; });
    if (at->after.empty()) break;
    at = std::shared_ptr<Operation>(at->after.back());
  }
  return at;
}

void Runtime::drive(Lock& lock, const std::shared_ptr<Operation>& operation) {
  while (const auto next = next_towards(operation)) {
    if (next->state == Operation::State::running || next->work->kind == Work::Kind::host) {
      changed.wait(lock);
    } else {
      execute(lock, next);
    }
  }
}

bool Runtime::advance(Lock& lock, const std::shared_ptr<Operation>& operation) {
  const auto next = next_towards(operation);
  if (next && next->state == Operation::State::waiting && next->work->kind != Work::Kind::host) execute(lock, next);
  return operation->state == Operation::State::done;
}

void Runtime::drive(Lock& lock, Stream& stream) {
  if (const auto last = stream.last()) drive(lock, last);
}

void Runtime::drive(Lock& lock, Device& device) {
  // Streams may come and go while the lock is released.
  const auto streams_now = device.streams;
  drive(lock, *device.legacy_stream);
  for (const auto& stream : streams_now) drive(lock, *stream);
  for (const auto& stream : streams_now) stream->forget_done();
}

// Waiting for the legacy stream is waiting for what blocking streams have as well.
void Runtime::synchronize(Lock& lock, Stream& stream) {
  counters.synchronizations++;
  if (stream.legacy) enqueue(lock, stream, std::make_shared<MarkerWork>());
  drive(lock, stream);
  trim_pools(*stream.device);
  check(*stream.device);
}

void Runtime::synchronize(Lock& lock, Device& device) {
  counters.synchronizations++;
  drive(lock, device);
  trim_pools(device);
  check(device);
}

void Runtime::trim_pools(Device& device) {
  for (const auto& [handle, pool] : pools.all())
    if (pool->device == device.ordinal) device.memory->trim(*pool, pool->release_threshold);
}

void Runtime::execute(Lock& lock, const std::shared_ptr<Operation>& operation) {
  Device& device = *operation->device;
  operation->state = Operation::State::running;
  if (operation->work->kind == Work::Kind::host) {
    const auto& work = static_cast<const HostWork&>(*operation->work);
    const cudaError_t status = device.lost ? device.lost->code : cudaSuccess;
    lock.unlock();
    // As the driver does: after an error only callbacks, which take a status, are still called.
    if (work.callback) {
      work.callback(work.stream, status, work.data);
    } else if (status == cudaSuccess) {
      work.function(work.data);
    }
    lock.lock();
  } else {
    run_work(*operation);
  }
  operation->work->finished(device, host_memory);
  operation->state = Operation::State::done;
  operation->after.clear();
  counters.executed++;
  changed.notify_all();
}

// One thread for the life of the process. It works on what comes before a host function too, as nobody else may ever
// wait for it.
void Runtime::serve_host_functions() {
  thread_state().in_host_function = true;
  Lock lock(mutex);
  while (true) {
    changed.wait(lock, [this] { return !host_functions_.empty(); });
    const auto function = host_functions_.front();
    for (auto next = next_towards(function); next; next = next_towards(function)) {
      if (next->state == Operation::State::running) {
        changed.wait(lock);
      } else {
        execute(lock, next);
      }
    }
    host_functions_.pop_front();
    changed.notify_all();
  }
}

}  // namespace foretoken::ptx::runtime
