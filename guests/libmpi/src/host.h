/* host.h: the host calls below this library; docs/cell-abi.md in the repository is their contract.
 * Ranks are ranks in the world here, and requests are the host's numbers. */
#ifndef CLOUDSKIN_HOST_H
#define CLOUDSKIN_HOST_H

#include <stdint.h>

#ifdef __wasm__
#define HOST_CALL(name) __attribute__((import_module("cloudskin_mpi"), import_name(name)))
#else
/* Natively, whoever links the library provides the calls as functions. */
#define HOST_CALL(name)
#endif

enum { HOST_SEND_STANDARD = 0, HOST_SEND_SYNCHRONOUS = 1 };

/* What may complete, besides the collectives by their numbers. */
enum { HOST_CALL_RECV = 16, HOST_CALL_SENDRECV = 17, HOST_CALL_WAIT = 18 };

struct host_status {
    int32_t done;
    int32_t source;
    int32_t tag;
    int32_t error;
    uint64_t len;
};
_Static_assert(sizeof(struct host_status) == 24, "the layout is the host's");

HOST_CALL("world") uint64_t host_world(void);
HOST_CALL("send")
int host_send(int ctx, int dest, int tag, const void *buf, uint32_t len, int mode);
HOST_CALL("recv") int host_recv(int ctx, int source, int tag, void *buf, uint32_t len);
HOST_CALL("wait") int host_wait(const int *reqs, int n, int min, struct host_status *statuses);
HOST_CALL("probe")
int host_probe(int ctx, int source, int tag, int block, struct host_status *status);
HOST_CALL("completed") void host_completed(int call, int ctx, int tag);
HOST_CALL("cancel") int host_cancel(int req);
HOST_CALL("abort") _Noreturn void host_abort(int code);
HOST_CALL("clock") double host_clock(void);
HOST_CALL("name") int host_name(char *buf, uint32_t cap);
HOST_CALL("finalize") void host_finalize(void);

#endif
