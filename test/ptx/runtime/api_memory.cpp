// Allocation: device memory, memory pools, page-locked host memory.
#include "copy.h"

using namespace foretoken::ptx::runtime;

namespace {

void* allocate(Runtime& runtime, Lock& lock, Device& device, size_t bytes, const std::shared_ptr<Pool>& pool) {
  runtime.counters.allocations++;
  DeviceMemory& memory = *device.memory;
  try {
    return reinterpret_cast<void*>(memory.allocate(bytes, pool));
  } catch (const Error& error) {
    if (error.code != cudaErrorMemoryAllocation) throw;
  }
  // Before it gives up, the driver waits for what is running and takes back what pools hold.
  runtime.counters.synchronizations++;
  runtime.drive(lock, device);
  for (const auto& [handle, other] : runtime.pools.all())
    if (other->device == device.ordinal) memory.trim(*other, 0);
  return reinterpret_cast<void*>(memory.allocate(bytes, pool));
}

cudaError_t allocate_ordered(void** pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t handle) {
  return call([&](Runtime& runtime, Lock& lock) {
    require(pointer != nullptr, cudaErrorInvalidValue, "no place for the pointer");
    Stream& stream = runtime.stream(handle);
    if (stream.capture) {
      stream.capture->invalid = true;
      throw Error(cudaErrorStreamCaptureUnsupported, "allocating memory within a graph is not implemented here");
    }
    Device& device = *stream.device;
    const auto& from = runtime.pools.find(pool ? pool : device.current_pool);
    require(from->device == device.ordinal, cudaErrorInvalidValue, "the pool is of another device");
    *pointer = allocate(runtime, lock, device, bytes, from);
  });
}

Device& device_of(Runtime& runtime, const void* pointer) {
  Device* owner = owner_of(runtime, pointer);
  require(owner != nullptr, cudaErrorInvalidValue, "not an address of a device");
  return *owner;
}

cudaError_t allocate_host(void** pointer, size_t bytes, unsigned flags) {
  return call([&](Runtime& runtime, Lock&) {
    require(pointer != nullptr, cudaErrorInvalidValue, "no place for the pointer");
    require((flags & ~7u) == 0, cudaErrorInvalidValue, "unknown flags");
    runtime.forbid_while_capturing("allocating page-locked memory");
    *pointer = runtime.host_memory.allocate(bytes, flags);
  });
}

uint64_t& integer(void* value) { return *static_cast<uint64_t*>(value); }

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return call([&](Runtime& runtime, Lock& lock) {
    require(pointer != nullptr, cudaErrorInvalidValue, "no place for the pointer");
    runtime.forbid_while_capturing("cudaMalloc");
    *pointer = allocate(runtime, lock, runtime.device(), bytes, nullptr);
  });
}

cudaError_t cudaMallocPitch(void** pointer, size_t* pitch, size_t width, size_t height) {
  constexpr size_t kPitch = 512;
  *pitch = (width + kPitch - 1) / kPitch * kPitch;
  return cudaMalloc(pointer, *pitch * height);
}

// Waits for the device, as on hardware: nothing that still runs can use the memory.
cudaError_t cudaFree(void* pointer) {
  return call([&](Runtime& runtime, Lock& lock) {
    runtime.forbid_while_capturing("cudaFree");
    if (!pointer) return;
    Device& device = device_of(runtime, pointer);
    const auto address = reinterpret_cast<uint64_t>(pointer);
    device.memory->retire(address);
    runtime.counters.frees++;
    runtime.counters.synchronizations++;
    runtime.drive(lock, device);
    device.memory->release(address);
    Runtime::check(device);
  });
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  return allocate_ordered(pointer, bytes, nullptr, stream);
}
cudaError_t cudaMallocFromPoolAsync(void** pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  return allocate_ordered(pointer, bytes, pool, stream);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  return call([&](Runtime& runtime, Lock& lock) {
    if (!pointer) return;
    Stream& stream = runtime.stream(handle);
    Device& device = device_of(runtime, pointer);
    require(&device == stream.device, cudaErrorInvalidValue, "the memory is of another device");
    auto work = std::make_shared<FreeWork>();
    work->address = reinterpret_cast<uint64_t>(pointer);
    if (!stream.capture) device.memory->retire(work->address);
    runtime.counters.frees++;
    const auto operation = runtime.enqueue(lock, stream, std::move(work));
    // What is freed but not yet run takes real memory: no more than the device has.
    if (operation && device.memory->deferred() > device.memory->limit()) runtime.drive(lock, operation);
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return call([&](Runtime& runtime, Lock&) {
    const DeviceMemory& memory = *runtime.device().memory;
    if (free) *free = memory.limit() - memory.reserved();
    if (total) *total = memory.limit();
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return call([&](Runtime& runtime, Lock&) {
    require(attributes != nullptr, cudaErrorInvalidValue, "no place for the attributes");
    *attributes = {};
    void* address = const_cast<void*>(pointer);
    if (const Device* owner = owner_of(runtime, pointer)) {
      require(owner->memory->find(reinterpret_cast<uint64_t>(pointer)).bytes != 0, cudaErrorInvalidValue,
              "not in an allocation");
      attributes->type = cudaMemoryTypeDevice;
      attributes->device = owner->ordinal;
      attributes->devicePointer = address;
    } else {
      const bool pinned = runtime.host_memory.is_pinned(pointer, 1);
      attributes->type = pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
      attributes->device = pinned ? runtime.device().ordinal : -1;
      attributes->hostPointer = address;
    }
  });
}

// --- page-locked memory

cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return allocate_host(pointer, bytes, cudaHostAllocDefault); }
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) { return allocate_host(pointer, bytes, flags); }

// Waits for every device, as on hardware: no copy that still runs can use the memory.
cudaError_t cudaFreeHost(void* pointer) {
  return call([&](Runtime& runtime, Lock& lock) {
    if (!pointer) return;
    runtime.forbid_while_capturing("cudaFreeHost");
    runtime.host_memory.flags(pointer);
    runtime.counters.synchronizations++;
    for (const auto& device : runtime.devices) runtime.drive(lock, *device);
    runtime.host_memory.free(pointer);
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned flags) {
  return call([&](Runtime& runtime, Lock&) { runtime.host_memory.add(pointer, bytes, flags); });
}
cudaError_t cudaHostUnregister(void* pointer) {
  return call([&](Runtime& runtime, Lock& lock) {
    for (const auto& device : runtime.devices) runtime.drive(lock, *device);
    runtime.host_memory.remove(pointer);
  });
}
cudaError_t cudaHostGetFlags(unsigned* flags, void* pointer) {
  return call([&](Runtime& runtime, Lock&) { *flags = runtime.host_memory.flags(pointer); });
}

// --- memory pools

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return call([&](Runtime& runtime, Lock&) { *pool = runtime.device_at(device).default_pool; });
}
cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return call([&](Runtime& runtime, Lock&) { *pool = runtime.device_at(device).current_pool; });
}
cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
  return call([&](Runtime& runtime, Lock&) {
    require(runtime.pools.find(pool)->device == device, cudaErrorInvalidValue, "the pool is of another device");
    runtime.device_at(device).current_pool = pool;
  });
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* handle, const cudaMemPoolProps* properties) {
  return call([&](Runtime& runtime, Lock&) {
    require(handle && properties, cudaErrorInvalidValue, "no place for the pool, or no properties");
    require(properties->allocType == cudaMemAllocationTypePinned, cudaErrorInvalidValue, "an unknown kind of memory");
    require(properties->location.type == cudaMemLocationTypeDevice && properties->handleTypes == cudaMemHandleTypeNone,
            cudaErrorNotSupported, "only pools of a device that stay in this process are implemented here");
    auto pool = std::make_shared<Pool>();
    pool->device = runtime.device_at(properties->location.id).ordinal;
    pool->max_bytes = properties->maxSize;
    *handle = runtime.pools.add(std::move(pool));
  });
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t handle) {
  return call([&](Runtime& runtime, Lock&) {
    Device& device = runtime.device_at(runtime.pools.find(handle)->device);
    require(handle != device.default_pool, cudaErrorInvalidValue, "the default pool cannot be destroyed");
    if (device.current_pool == handle) device.current_pool = device.default_pool;
    const auto pool = runtime.pools.take(handle);
    pool->destroyed = true;
    device.memory->trim(*pool, 0);
  });
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t handle, size_t keep) {
  return call([&](Runtime& runtime, Lock&) {
    Pool& pool = *runtime.pools.find(handle);
    runtime.device_at(pool.device).memory->trim(pool, keep);
  });
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t handle, cudaMemPoolAttr attribute, void* value) {
  return call([&](Runtime& runtime, Lock&) {
    Pool& pool = *runtime.pools.find(handle);
    switch (attribute) {
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies: pool.switches[attribute] = *static_cast<int*>(value); break;
      case cudaMemPoolAttrReleaseThreshold: pool.release_threshold = integer(value); break;
      case cudaMemPoolAttrReservedMemHigh:
        require(integer(value) == 0, cudaErrorInvalidValue, "a high water mark can only be set to 0");
        pool.reserved_peak = pool.reserved;
        break;
      case cudaMemPoolAttrUsedMemHigh:
        require(integer(value) == 0, cudaErrorInvalidValue, "a high water mark can only be set to 0");
        pool.used_peak = pool.used;
        break;
      default: throw Error(cudaErrorInvalidValue, "an attribute that cannot be set");
    }
  });
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t handle, cudaMemPoolAttr attribute, void* value) {
  return call([&](Runtime& runtime, Lock&) {
    const Pool& pool = *runtime.pools.find(handle);
    switch (attribute) {
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies: {
        const auto found = pool.switches.find(attribute);
        *static_cast<int*>(value) = found == pool.switches.end() ? 1 : found->second;
        break;
      }
      case cudaMemPoolAttrReleaseThreshold: integer(value) = pool.release_threshold; break;
      case cudaMemPoolAttrReservedMemCurrent: integer(value) = pool.reserved; break;
      case cudaMemPoolAttrReservedMemHigh: integer(value) = pool.reserved_peak; break;
      case cudaMemPoolAttrUsedMemCurrent: integer(value) = pool.used; break;
      case cudaMemPoolAttrUsedMemHigh: integer(value) = pool.used_peak; break;
      default: throw Error(cudaErrorInvalidValue, "an attribute that is not known here");
    }
  });
}

}  // extern "C"
