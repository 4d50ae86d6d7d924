/* Streams: work is queued, and done by whoever synchronises. */
#include <string.h>

#include "shim.h"

CUstream streams;
static struct CUstream_st default_stream = {.alive = true};
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;

static void append(Queue *queue, Work work) {
    Work *copy = malloc(sizeof *copy);
    *copy = work;
    copy->next = NULL;
    if (queue->last)
        queue->last->next = copy;
    else
        queue->first = copy;
    queue->last = copy;
}

static Work *take_first(Queue *queue) {
    Work *work = queue->first;
    if (work) queue->first = work->next;
    if (!queue->first) queue->last = NULL;
    return work;
}

void append_all(Queue *queue, const Queue *more) {
    for (const Work *each = more->first; each; each = each->next) append(queue, *each);
}

void clear(Queue *queue) {
    for (Work *work; (work = take_first(queue));) free(work);
}

static CUresult run(const Work *work) {
    if (work->function) {
        work->function(work->argument);
        return CUDA_SUCCESS;
    }
    pthread_mutex_lock(&lock);
    char *to = resolve(work->to, work->bytes), *from = resolve(work->from, work->bytes);
    if (!to || !from) {
        fault("a queued copy touched memory that had been freed");
        return unlocked(CUDA_ERROR_ILLEGAL_ADDRESS);
    }
    memmove(to, from, work->bytes);
    return unlocked(CUDA_SUCCESS);
}

/* Do all that is queued; a second thread waits until the first is through. */
static CUresult finish(CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&lock);
    while (stream->running) pthread_cond_wait(&idle, &lock);
    stream->running = true;
    for (Work *work; (work = take_first(&stream->queue));) {
        pthread_mutex_unlock(&lock);
        CUresult one = run(work);
        if (one != CUDA_SUCCESS) result = one;
        free(work);
        pthread_mutex_lock(&lock);
    }
    stream->running = false;
    pthread_cond_broadcast(&idle);
    return unlocked(result);
}

/* Return the stream behind a handle, NULL if there is none (`lock` is held). */
CUstream stream_of(CUstream handle) {
    if (!handle) return &default_stream;
    return IS_ALIVE(streams, handle) ? handle : NULL;
}

/* Queue work, or record it while the stream is captured. */
static CUresult enqueue(CUstream handle, Work work) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUstream stream = stream_of(handle);
    if (!stream) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED)
        return unlocked(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    append(stream->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE ? &stream->captured : &stream->queue, work);
    return unlocked(CUDA_SUCCESS);
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *argument) {
    return enqueue(handle, (Work){.function = function, .argument = argument});
}

/* Copy at once: between the device and memory that only the host knows, a driver waits as well. */
static CUresult copy_now(CUdeviceptr device, void *host, size_t bytes, bool to_device) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUresult allowed = allowed_while_capturing();
    if (allowed != CUDA_SUCCESS) return unlocked(allowed);
    char *there = device >= DEVICE_SPACE ? resolve(device, bytes) : NULL;
    if (!there) return unlocked(CUDA_ERROR_INVALID_VALUE);
    memmove(to_device ? there : host, to_device ? host : there, bytes);
    return unlocked(CUDA_SUCCESS);
}

static CUresult copy_later(CUdeviceptr device, void *host, size_t bytes, bool to_device, CUstream handle) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUstream stream = stream_of(handle);
    bool valid = device >= DEVICE_SPACE && resolve(device, bytes);
    bool page_locked = resolve((uint64_t)host, bytes);
    if (!stream || !valid) return unlocked(stream ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE);
    if (!page_locked && stream->capture != CU_STREAM_CAPTURE_STATUS_NONE)
        return unlocked(break_capture(stream));
    pthread_mutex_unlock(&lock);
    if (!page_locked) {
        CUresult before = finish(stream);
        return before == CUDA_SUCCESS ? copy_now(device, host, bytes, to_device) : before;
    }
    uint64_t at_host = (uint64_t)host;
    return enqueue(
        handle,
        (Work){.to = to_device ? device : at_host, .from = to_device ? at_host : device, .bytes = bytes});
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
    return copy_now(to, (void *)from, bytes, true);
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
    return copy_now(from, to, bytes, false);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream handle) {
    return copy_later(to, (void *)from, bytes, true, handle);
}

CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream handle) {
    return copy_later(from, to, bytes, false, handle);
}

CUresult cuStreamCreate(CUstream *handle, unsigned int flags) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    *handle = ADD_TO(streams);
    return unlocked(CUDA_SUCCESS);
}

CUresult cuStreamSynchronize(CUstream handle) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUstream stream = stream_of(handle);
    if (!stream) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture != CU_STREAM_CAPTURE_STATUS_NONE) return unlocked(break_capture(stream));
    pthread_mutex_unlock(&lock);
    return finish(stream);
}

CUresult cuStreamQuery(CUstream handle) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    CUstream stream = stream_of(handle);
    if (!stream) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture != CU_STREAM_CAPTURE_STATUS_NONE) return unlocked(break_capture(stream));
    return unlocked(stream->queue.first || stream->running ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS);
}

CUresult cuStreamDestroy(CUstream handle) {
    NEEDS_CONTEXT;
    pthread_mutex_lock(&lock);
    if (!IS_ALIVE(streams, handle)) return unlocked(CUDA_ERROR_INVALID_HANDLE);
    if (handle->queue.first || handle->running) fault("a stream was destroyed with work in it");
    clear(&handle->queue);
    clear(&handle->captured);
    handle->capture = CU_STREAM_CAPTURE_STATUS_NONE;
    handle->alive = false;
    return unlocked(CUDA_SUCCESS);
}

CUresult cuCtxSynchronize(void) {
    NEEDS_CONTEXT;
    CUresult result = finish(&default_stream);
    for (CUstream each = streams; each; each = each->next) {
        CUresult one = each->alive ? cuStreamSynchronize(each) : CUDA_SUCCESS;
        if (one != CUDA_SUCCESS) result = one;
    }
    return result;
}
