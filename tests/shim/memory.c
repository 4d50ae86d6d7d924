/* Device memory and page-locked memory. */
#include <limits.h>
#include <string.h>

#include "shim.h"

/* What new and freed memory is filled with, so that nobody takes it for data. */
enum { FRESH = 0xAB, FREED = 0xDD, PAGE = 4096 };

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
Block *blocks;
size_t used_bytes;
long allocation_count;

/* Return where the host finds `bytes` at a device or page-locked address, NULL if that memory is not there.
 */
char *resolve(uint64_t address, size_t bytes) {
    bool on_device = address >= DEVICE_SPACE;
    uint64_t first = on_device ? address - DEVICE_SPACE : address;
    for (Block *each = blocks; each; each = each->next) {
        uint64_t start = (uint64_t)each->start;
        if (each->alive && (on_device ? each->device_visible : each->page_locked) && first >= start &&
            first + bytes <= start + each->bytes)
            return (char *)first;
    }
    return NULL;
}

static CUresult allocate(Block **made, size_t bytes, bool page_locked, bool device_visible) {
    NEEDS_CONTEXT;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    CUresult allowed = allowed_while_capturing();
    if (allowed != CUDA_SUCCESS) return unlocked(allowed);
    size_t rounded = (bytes + PAGE - 1) / PAGE * PAGE;
    bool full =
        used_bytes + bytes > total_bytes() || allocation_count >= setting("SHIM_CUDA_ALLOCATIONS", LONG_MAX);
    char *start = full ? NULL : aligned_alloc(PAGE, rounded);
    if (!start) return unlocked(CUDA_ERROR_OUT_OF_MEMORY);
    memset(start, FRESH, bytes);
    Block *block = ADD_TO(blocks);
    block->start = start;
    block->bytes = bytes;
    block->page_locked = page_locked;
    block->device_visible = device_visible;
    used_bytes += bytes;
    allocation_count++;
    *made = block;
    return unlocked(CUDA_SUCCESS);
}

static CUresult release(uint64_t start, bool page_locked) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUresult allowed = allowed_while_capturing();
    if (allowed != CUDA_SUCCESS) return unlocked(allowed);
    for (Block *each = blocks; each; each = each->next) {
        if (!each->alive || (uint64_t)each->start != start || each->page_locked != page_locked) continue;
        memset(each->start, FREED, each->bytes);
        each->alive = false;
        used_bytes -= each->bytes;
        return unlocked(CUDA_SUCCESS);
    }
    return unlocked(CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
    Block *block;
    CUresult result = allocate(&block, bytes, false, true);
    if (result == CUDA_SUCCESS) *address = (uint64_t)block->start + DEVICE_SPACE;
    return result;
}

CUresult cuMemFree(CUdeviceptr address) {
    return release(address - DEVICE_SPACE, false);
}

CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned int flags) {
    Block *block;
    CUresult result = allocate(&block, bytes, true, flags & CU_MEMHOSTALLOC_DEVICEMAP);
    if (result == CUDA_SUCCESS) *address = block->start;
    return result;
}

CUresult cuMemFreeHost(void *address) {
    return release((uint64_t)address, true);
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *host, unsigned int flags) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    uint64_t mapped = (uint64_t)host + DEVICE_SPACE;
    if (!resolve((uint64_t)host, 1) || !resolve(mapped, 1)) return unlocked(CUDA_ERROR_INVALID_VALUE);
    *address = mapped;
    return unlocked(CUDA_SUCCESS);
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total) {
    NEEDS_CONTEXT;
    *total = total_bytes();
    *free_bytes = *total > used_bytes ? *total - used_bytes : 0;
    return CUDA_SUCCESS;
}
