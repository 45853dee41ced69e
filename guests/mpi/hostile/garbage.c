/*
 * Calls the host below the MPI library with arguments that no library would pass.
 *
 *     garbage                    prints one line a call: its number, its name, how many vectors it has
 *     garbage CALL VECTOR        makes this call with this vector of arguments
 *
 * The first vectors of a call put one bad value into one argument and leave the others good; the rest
 * draw all arguments from the bad values. Before the call, the rank has sent itself what the good
 * arguments wait for, so that no call has to wait for ever. If the host lets the program go on, it
 * prints what the call returned, and exits with 0 if the memory around its buffers is intact.
 *
 * It knows no MPI and runs as a world of one rank; it makes sense in WebAssembly only.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST(name) __attribute__((import_module("cloudskin_mpi"), import_name(name)))

HOST("world") int64_t host_world(void);
HOST("send") int32_t host_send(int32_t ctx, int32_t dest, int32_t tag, const void *buf, int32_t len, int32_t mode);
HOST("recv") int32_t host_recv(int32_t ctx, int32_t source, int32_t tag, void *buf, int32_t len);
HOST("wait") int32_t host_wait(const int32_t *reqs, int32_t n, int32_t min, void *statuses);
HOST("probe") int32_t host_probe(int32_t ctx, int32_t source, int32_t tag, int32_t block, void *status);
HOST("completed") void host_completed(int32_t call, int32_t ctx, int32_t tag);
HOST("cancel") int32_t host_cancel(int32_t req);
HOST("abort") void host_abort(int32_t code);
HOST("clock") double host_clock(void);
HOST("name") int32_t host_name(void *buf, int32_t cap);
HOST("finalize") void host_finalize(void);

enum { ARGUMENTS_MAX = 6, ROOM = 4096, RANDOM_VECTORS = 200, TAG = 7 };
enum { WORLD, SEND, RECV, WAIT, PROBE, COMPLETED, CANCEL, ABORT, CLOCK, NAME, FINALIZE, CALLS };

static const struct {
    const char *name;
    int arguments;
} calls[CALLS] = {
    {"world", 0}, {"send", 6}, {"recv", 5}, {"wait", 4}, {"probe", 5},
    {"completed", 3}, {"cancel", 1}, {"abort", 1}, {"clock", 0}, {"name", 2}, {"finalize", 0},
};

/* The room is where good pointers point, with guards around it that nobody may write to. */
static unsigned char memory[3 * ROOM];
static unsigned char *const room = memory + ROOM;

static int32_t bad_value(uint32_t index)
{
    uint32_t bytes = (uint32_t)__builtin_wasm_memory_size(0) * 65536u;
    const uint32_t values[] = {
        0, 1, 2, 3, 5, 0xffffffff, 0xfffffffe, 0x7fffffff, 0x80000000, 0x80000001, 0x10000, 0x1000000, 0xfffffff0,
        bytes, bytes - 1, bytes - 23, bytes - 24, bytes + 1, 0u - bytes, 0x7f7f7f7f,
    };
    return (int32_t)values[index % (sizeof values / sizeof values[0])];
}

enum { BAD_VALUES = 20 };

static int vectors_of(int call)
{
    int arguments = calls[call].arguments;
    return arguments == 0 ? 1 : arguments * BAD_VALUES + RANDOM_VECTORS;
}

static int32_t address_of(const void *pointer)
{
    return (int32_t)(uintptr_t)pointer;
}

/* Arguments for which the call returns at once. */
static void good_arguments(int call, int32_t request, int32_t *arguments)
{
    int32_t buffer = address_of(room), status = address_of(room + ROOM / 2);
    const int32_t good[CALLS][ARGUMENTS_MAX] = {
        [SEND] = {0, 0, TAG, buffer, 16, 0},
        [RECV] = {0, 0, TAG, buffer, 16},
        [WAIT] = {buffer, 1, 1, status},
        [PROBE] = {0, 0, TAG, 0, status},
        [COMPLETED] = {16, 0, TAG},
        [CANCEL] = {request},
        [ABORT] = {3},
        [NAME] = {buffer, ROOM / 4},
    };
    memcpy(arguments, good[call], sizeof good[call]);
}

static void spoil(int call, int vector, int32_t *arguments)
{
    int count = calls[call].arguments, single = count * BAD_VALUES;
    if (vector < single) {
        arguments[vector / BAD_VALUES] = bad_value((uint32_t)(vector % BAD_VALUES));
        return;
    }
    uint32_t state = (uint32_t)(vector - single) * 2654435761u + 12345u;
    for (int i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        arguments[i] = bad_value(state >> 16);
    }
    /* With a tag that fits no message it would wait for ever, and rightly. */
    if (call == PROBE)
        arguments[3] = 0;
}

static double perform(int call, const int32_t *a)
{
    uintptr_t p[ARGUMENTS_MAX];
    for (int i = 0; i < ARGUMENTS_MAX; i++)
        p[i] = (uintptr_t)(uint32_t)a[i];
    switch (call) {
    case WORLD:
        return (double)host_world();
    case SEND:
        return host_send(a[0], a[1], a[2], (const void *)p[3], a[4], a[5]);
    case RECV:
        return host_recv(a[0], a[1], a[2], (void *)p[3], a[4]);
    case WAIT:
        return host_wait((const int32_t *)p[0], a[1], a[2], (void *)p[3]);
    case PROBE:
        return host_probe(a[0], a[1], a[2], a[3], (void *)p[4]);
    case COMPLETED:
        host_completed(a[0], a[1], a[2]);
        return 0;
    case CANCEL:
        return host_cancel(a[0]);
    case ABORT:
        host_abort(a[0]);
        return 0;
    case CLOCK:
        return host_clock();
    case NAME:
        return host_name((void *)p[0], a[1]);
    default:
        host_finalize();
        return 0;
    }
}

/* The number that `text` is, or -1 if it is none below `limit`. */
static int number_below(int limit, const char *text)
{
    char *end;
    long number = strtol(text, &end, 10);
    return end == text || *end != '\0' || number < 0 || number >= limit ? -1 : (int)number;
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        for (int call = 0; call < CALLS; call++)
            printf("%d %s %d\n", call, calls[call].name, vectors_of(call));
        return 0;
    }
    int call = argc == 3 ? number_below(CALLS, argv[1]) : -1;
    int vector = call >= 0 ? number_below(vectors_of(call), argv[2]) : -1;
    if (vector < 0) {
        fprintf(stderr, "usage: garbage [CALL VECTOR], as listed without arguments\n");
        return 2;
    }

    /* The first word of the room is the number of a complete request; what follows are no requests. */
    static unsigned char out[16], in[16];
    int32_t arguments[ARGUMENTS_MAX] = {0}, request = host_recv(0, 0, TAG + 1, in, sizeof in);
    host_send(0, 0, TAG + 1, out, sizeof out, 0);
    host_send(0, 0, TAG, out, sizeof out, 0);
    memset(memory, 0x7f, sizeof memory);
    memcpy(room, &request, sizeof request);
    good_arguments(call, request, arguments);
    spoil(call, vector, arguments);
    double returned = perform(call, arguments);

    int intact = 1;
    for (int i = 0; i < ROOM; i++)
        intact &= memory[i] == 0x7f && memory[2 * ROOM + i] == 0x7f;
    printf("%s returned %.17g, memory %s\n", calls[call].name, returned, intact ? "intact" : "damaged");
    return intact ? 0 : 4;
}
