/* What tests may ask of the stand-in runtime, beyond the functions of CUDA. */
#ifndef FORETOKEN_PTX_HOOKS_H
#define FORETOKEN_PTX_HOOKS_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Since the process started, the runtime was reset or ptx_reset_counters. */
typedef struct {
  uint64_t launches;       /* kernels that were enqueued, those of graphs included */
  uint64_t copies, fills;  /* likewise */
  uint64_t host_functions; /* likewise */
  uint64_t graph_launches;
  uint64_t synchronizations;   /* calls that made the host wait for the device, by whatever name */
  uint64_t queries;            /* cudaStreamQuery and cudaEventQuery */
  uint64_t allocations, frees; /* of device memory, by either family */
  uint64_t executed;           /* operations that ran */
} PtxCounters;

typedef struct {
  uint64_t used, peak; /* bytes: asked for and not yet freed, by the order of calls */
  uint64_t reserved;   /* with what memory pools keep */
  uint64_t limit;
  uint64_t allocations; /* live */
} PtxMemory;

typedef struct {
  const char* kernel; /* mangled */
  uint32_t grid[3], block[3], cluster[3];
  uint32_t dynamic_shared_bytes;
} PtxLaunch;

void ptx_counters(PtxCounters* counters);
void ptx_reset_counters(void);
void ptx_memory(int device, PtxMemory* memory);
void ptx_reset_peak(int device);

/* An access to these bytes is out of bounds, as between two parts of a workspace, until the allocation that they lie in
   is freed. At once: what is enqueued and has not run may not touch them either. */
void ptx_forbid(const void* begin, size_t bytes);

/* Why this thread's last failing call failed. */
const char* ptx_last_message(void);

/* The launches that a device has executed (or, when dry, would have), oldest first; the latest 65536 of them. */
size_t ptx_launches(int device, PtxLaunch* launches, size_t capacity);

/* Operations that are enqueued and have not run. Runs nothing. */
size_t ptx_pending(void);

/* Waits for everything, invalidates every handle and pointer, and reads the environment again. */
void ptx_reset(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
