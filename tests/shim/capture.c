/* Stream capture, what it forbids meanwhile, and the graphs that come out of it. */
#include "shim.h"

CUgraph graphs;
CUgraphExec execs;

CUresult break_capture(CUstream stream) {
    stream->capture = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

/* A call that may wait for the device breaks every capture that looks at this thread. */
CUresult allowed_while_capturing(void) {
    CUresult result = CUDA_SUCCESS;
    for (CUstream each = streams; each; each = each->next) {
        bool own = pthread_equal(each->capture_thread, pthread_self());
        bool concerns = each->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
                        (each->capture_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && own);
        if (each->alive && each->capture != CU_STREAM_CAPTURE_STATUS_NONE && concerns)
            result = break_capture(each);
    }
    return result;
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    if (!handle) return unlocked(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); /* never the default stream */
    if (!IS_ALIVE(streams, handle)) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    if (handle->capture != CU_STREAM_CAPTURE_STATUS_NONE) return unlocked(CUDA_ERROR_ILLEGAL_STATE);
    handle->capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    handle->capture_mode = mode;
    handle->capture_thread = pthread_self();
    return unlocked(CUDA_SUCCESS);
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    *graph = NULL;
    if (!IS_ALIVE(streams, handle)) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    CUstreamCaptureStatus status = handle->capture;
    if (status == CU_STREAM_CAPTURE_STATUS_NONE) return unlocked(CUDA_ERROR_ILLEGAL_STATE);
    if (handle->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        !pthread_equal(handle->capture_thread, pthread_self()))
        return unlocked(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    handle->capture = CU_STREAM_CAPTURE_STATUS_NONE;
    if (status == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        *graph = ADD_TO(graphs);
        append_all(&(*graph)->work, &handle->captured);
    }
    clear(&handle->captured);
    return unlocked(*graph ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUstream stream = stream_of(handle);
    if (!stream) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    *status = stream->capture;
    return unlocked(CUDA_SUCCESS);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    if (!IS_ALIVE(graphs, graph)) return unlocked(CUDA_ERROR_INVALID_VALUE);
    *exec = ADD_TO(execs);
    append_all(&(*exec)->work, &graph->work);
    return unlocked(CUDA_SUCCESS);
}

/* The same before CUDA 12; libraries keep it, headers no longer declare it. */
CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t size) {
    if (size) *log = '\0';
    return cuGraphInstantiateWithFlags(exec, graph, 0);
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUstream stream = stream_of(handle);
    if (!IS_ALIVE(execs, exec) || !stream) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    append_all(stream->capture == CU_STREAM_CAPTURE_STATUS_NONE ? &stream->queue : &stream->captured,
               &exec->work);
    return unlocked(CUDA_SUCCESS);
}

CUresult cuGraphDestroy(CUgraph graph) {
    pthread_mutex_lock(&lock);
    if (!IS_ALIVE(graphs, graph)) return unlocked(CUDA_ERROR_INVALID_VALUE);
    clear(&graph->work);
    graph->alive = false;
    return unlocked(CUDA_SUCCESS);
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
    pthread_mutex_lock(&lock);
    if (!IS_ALIVE(execs, exec)) return unlocked(CUDA_ERROR_INVALID_VALUE);
    clear(&exec->work);
    exec->alive = false;
    return unlocked(CUDA_SUCCESS);
}
