/*
 * A libcuda.so.1 for tests on machines without a GPU: the real pycuda runs over it, in the host's memory.
 *
 * Where a driver may let a mistake pass, this one does not:
 *   - Work on a stream lies in a queue until somebody synchronises. A result read too early is not there yet.
 *   - A device address is never a host address, so that the two cannot be taken for each other.
 *   - Every call needs a context that is current in the calling thread.
 *   - Memory, streams and graphs are never handed out again once they are gone. Work that touches freed
 * memory fails as an illegal address, and a handle that is gone is an invalid handle.
 *   - What a driver would not report at all is counted as a fault; hooks.c lets a test see the faults.
 *
 * Functions have the names of CUDA's documentation; the macros of cuda.h turn them into those of the library
 * (_v2, ...), for the release whose header it is. What pycuda links but no test needs is written by
 * scripts/rehearse_pycuda.sh and answers CUDA_ERROR_NOT_SUPPORTED. Among it are events, kernels, and all
 * contexts but the primary one.
 *
 * Settings, read from the environment whenever they are needed:
 *   SHIM_CUDA_DEVICES      0 or 1 (1)      SHIM_CUDA_INTEGRATED    0 or 1 (1)
 *   SHIM_CUDA_CAPABILITY   87 is 8.7 (87)  SHIM_CUDA_MEMORY_MIB    in all (1024)
 *   SHIM_CUDA_ALLOCATIONS  how many may be made until the process ends, those that are freed too (no limit)
 */
#ifndef SHIM_H
#define SHIM_H

#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* Only the functions of CUDA and the hooks are seen from outside. */
#pragma GCC visibility push(hidden)

/* Device addresses start here, far above any address of the host. */
#define DEVICE_SPACE (UINT64_C(1) << 56)

/* One piece of queued work: a call of the host if `function` is set, else a copy. */
typedef struct Work {
    uint64_t to, from;
    size_t bytes;
    CUhostFn function;
    void *argument;
    struct Work *next;
} Work;

typedef struct {
    Work *first, *last;
} Queue;

/* All of the following live until the process ends; `alive` says whether they may be used. */

typedef struct Block {
    char *start;
    size_t bytes;
    bool page_locked;    /* the host may use it: made by cuMemHostAlloc */
    bool device_visible; /* device memory, or page-locked memory mapped into the device's addresses */
    bool alive;
    struct Block *next;
} Block;

struct CUstream_st {
    Queue queue;
    bool running; /* a thread is working the queue off */
    CUstreamCaptureStatus capture;
    CUstreamCaptureMode capture_mode;
    pthread_t capture_thread;
    Queue captured;
    bool alive;
    struct CUstream_st *next;
};

struct CUgraph_st {
    Queue work;
    bool alive;
    struct CUgraph_st *next;
};

struct CUgraphExec_st {
    Queue work;
    bool alive;
    struct CUgraphExec_st *next;
};

struct CUctx_st {
    int references;
};

/* `lock` guards all that is declared here. It is never held while work runs, which may call Python. */
extern pthread_mutex_t lock;
extern struct CUctx_st primary;
extern Block *blocks;
extern CUstream streams;
extern CUgraph graphs;
extern CUgraphExec execs;
extern size_t used_bytes;
extern long allocation_count;

/* Make an object, the new head of `list`. */
#define ADD_TO(list)                                                                                         \
    __extension__({                                                                                          \
        __typeof__(list) made = calloc(1, sizeof *made);                                                     \
        made->alive = true;                                                                                  \
        made->next = (list);                                                                                 \
        (list) = made;                                                                                       \
    })

/* Whether `handle` is in `list` and alive. */
#define IS_ALIVE(list, handle)                                                                               \
    __extension__({                                                                                          \
        __typeof__(list) each = (list);                                                                      \
        while (each && each != (handle)) each = each->next;                                                  \
        each && each->alive;                                                                                 \
    })

#define COUNT_ALIVE(list)                                                                                    \
    __extension__({                                                                                          \
        long alive = 0;                                                                                      \
        for (__typeof__(list) each = (list); each; each = each->next) alive += each->alive;                  \
        alive;                                                                                               \
    })

/* Leave the function unless a context is current in this thread. */
#define NEEDS_CONTEXT                                                                                        \
    do {                                                                                                     \
        CUresult here = context_here();                                                                      \
        if (here != CUDA_SUCCESS) return here;                                                               \
    } while (0)

/* device.c */
CUresult context_here(void);
long setting(const char *name, long fallback);
size_t total_bytes(void);

/* memory.c (`lock` is held) */
char *resolve(uint64_t address, size_t bytes);

/* streams.c (`lock` is held) */
CUstream stream_of(CUstream handle);
void append_all(Queue *queue, const Queue *more);
void clear(Queue *queue);

/* capture.c (`lock` is held) */
CUresult allowed_while_capturing(void);
CUresult break_capture(CUstream stream);

/* hooks.c */
void fault(const char *text);

/* Give `lock` back and leave the function with `result`. */
static inline CUresult unlocked(CUresult result) {
    pthread_mutex_unlock(&lock);
    return result;
}

#pragma GCC visibility pop

#endif
