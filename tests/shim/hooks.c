/* For tests: what no driver has. */
#include <stdio.h>
#include <string.h>

#include "shim.h"

static long fault_count;
static char last_fault[160];

void fault(const char *text) {
    fault_count++;
    snprintf(last_fault, sizeof last_fault, "%s", text);
}

/* Return where the host finds `bytes` of device memory; NULL, and a fault, if they are not there. */
void *shim_host_address(CUdeviceptr address, size_t bytes) {
    pthread_mutex_lock(&lock);
    char *found = address >= DEVICE_SPACE ? resolve(address, bytes) : NULL;
    if (!found) fault("work on the device used an address that is not (or no longer) the device's");
    pthread_mutex_unlock(&lock);
    return found;
}

/* Return how many of something there are, -1 for a name that is not known. */
long shim_count(const char *name) {
    pthread_mutex_lock(&lock);
    long result = -1;
    if (!strcmp(name, "faults")) result = fault_count;
    if (!strcmp(name, "allocations made")) result = allocation_count;
    if (!strcmp(name, "blocks")) result = COUNT_ALIVE(blocks);
    if (!strcmp(name, "streams")) result = COUNT_ALIVE(streams);
    if (!strcmp(name, "graphs")) result = COUNT_ALIVE(graphs) + COUNT_ALIVE(execs);
    if (!strcmp(name, "context references")) result = primary.references;
    pthread_mutex_unlock(&lock);
    return result;
}

/* Return the last fault in words and forget all of them. */
const char *shim_take_fault(void) {
    pthread_mutex_lock(&lock);
    fault_count = 0;
    pthread_mutex_unlock(&lock);
    return last_fault;
}
