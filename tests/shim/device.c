/* Initialisation, the device, and which context is current where. */
#include <stdio.h>
#include <string.h>

#include "shim.h"

enum { DEEPEST_STACK = 16 };

static bool initialised;
struct CUctx_st primary;
/* As in a driver, each thread has a stack of its own; the top is current. */
static __thread CUcontext stack[DEEPEST_STACK];
static __thread int depth;

long setting(const char *name, long fallback) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : fallback;
}

size_t total_bytes(void) {
    return (size_t)setting("SHIM_CUDA_MEMORY_MIB", 1024) << 20;
}

CUresult context_here(void) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
    return stack[depth - 1]->references ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult cuInit(unsigned int flags) {
    if (!setting("SHIM_CUDA_DEVICES", 1)) return CUDA_ERROR_NO_DEVICE;
    initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    static const struct {
        CUresult error;
        const char *text;
    } words[] = {
        {CUDA_SUCCESS, "no error"},
        {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
        {CUDA_ERROR_OUT_OF_MEMORY, "out of memory"},
        {CUDA_ERROR_NOT_INITIALIZED, "initialization error"},
        {CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"},
        {CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"},
        {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"},
        {CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"},
        {CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"},
        {CUDA_ERROR_NOT_READY, "device not ready"},
        {CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
        {CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"},
        {CUDA_ERROR_NOT_SUPPORTED, "operation not supported"},
        {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
        {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
        {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "attempt to terminate a capture from a different thread"},
    };
    *text = "an error without a text in the stand-in";
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].error == error) *text = words[i].text;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    *count = 1;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (ordinal) return CUDA_ERROR_INVALID_DEVICE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    snprintf(name, (size_t)length, "Host memory stand-in");
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    *bytes = total_bytes();
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    *major = (int)setting("SHIM_CUDA_CAPABILITY", 87) / 10;
    *minor = (int)setting("SHIM_CUDA_CAPABILITY", 87) % 10;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    int capability = (int)setting("SHIM_CUDA_CAPABILITY", 87);
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = (int)setting("SHIM_CUDA_INTEGRATED", 1); break;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 8; break;
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    pthread_mutex_lock(&lock);
    primary.references++;
    *context = &primary;
    return unlocked(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    pthread_mutex_lock(&lock);
    if (!primary.references) return unlocked(CUDA_ERROR_INVALID_CONTEXT);
    if (--primary.references) return unlocked(CUDA_SUCCESS);
    /* The last one goes: a driver would now take back all that is left, and say nothing. */
    if (COUNT_ALIVE(blocks) + COUNT_ALIVE(streams) + COUNT_ALIVE(graphs) + COUNT_ALIVE(execs))
        fault("the primary context was released while memory, streams or graphs were left in it");
    for (Block *each = blocks; each; each = each->next) each->alive = false;
    for (CUstream each = streams; each; each = each->next) each->alive = false;
    for (CUgraph each = graphs; each; each = each->next) each->alive = false;
    for (CUgraphExec each = execs; each; each = each->next) each->alive = false;
    used_bytes = 0;
    return unlocked(CUDA_SUCCESS);
}

/* For contexts of cuCtxCreate, which are not here; pycuda calls it when a Context object goes undetached. */
CUresult cuCtxDetach(CUcontext context) {
    fault("cuCtxDetach was called on the primary context");
    return CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxPushCurrent(CUcontext context) {
    if (context != &primary || !primary.references || depth == DEEPEST_STACK)
        return CUDA_ERROR_INVALID_CONTEXT;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
    depth--;
    if (context) *context = stack[depth];
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    *context = depth ? stack[depth - 1] : NULL;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
    NEEDS_CONTEXT;
    *device = 0;
    return CUDA_SUCCESS;
}
