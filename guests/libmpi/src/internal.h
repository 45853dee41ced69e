/* internal.h: what the parts of the library share.
 *
 * A public function checks its arguments, lets a static function of the same file do the work, and
 * passes the error class through `report`, which calls the communicator's error handler. Internal
 * functions return an error class, MPI_SUCCESS being 0, and report nothing.
 *
 * No address of a function that may block is taken anywhere: an indirect call to it would make
 * every call of its type in the program, also in the C library, a place where the cell may stop. */
#ifndef CLOUDSKIN_INTERNAL_H
#define CLOUDSKIN_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host.h"
#include "mpi.h"

/* The linker knows one name space for this library and the program: there, what crosses files has
 * names that no program uses. */
#define allgather_bytes cloudskin_allgather_bytes
#define batch_begin cloudskin_batch_begin
#define batch_finish cloudskin_batch_finish
#define batch_recv cloudskin_batch_recv
#define batch_send cloudskin_batch_send
#define bcast_bytes cloudskin_bcast_bytes
#define check_comm cloudskin_check_comm
#define check_op cloudskin_check_op
#define check_root cloudskin_check_root
#define complete_empty cloudskin_complete_empty
#define drop_comm cloudskin_drop_comm
#define drop_group cloudskin_drop_group
#define drop_handler cloudskin_drop_handler
#define empty_status cloudskin_empty_status
#define exchange_blocks cloudskin_exchange_blocks
#define fill_status cloudskin_fill_status
#define finish_collective cloudskin_finish_collective
#define finish_orphans cloudskin_finish_orphans
#define fold_items cloudskin_fold_items
#define group_world cloudskin_group_world
#define hold_comm cloudskin_hold_comm
#define hold_group cloudskin_hold_group
#define hold_handler cloudskin_hold_handler
#define message_bytes cloudskin_message_bytes
#define new_group cloudskin_new_group
#define new_request cloudskin_new_request
#define report cloudskin_report
#define require_running cloudskin_require_running
#define settle_group cloudskin_settle_group
#define start_comms cloudskin_start_comms

/* The number of host requests that are kept on the stack; more are allocated. */
#define BATCH 64

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int class_ = (call);                                                                       \
        if (class_ != MPI_SUCCESS) return class_;                                                  \
    } while (0)

enum handler_kind { HANDLER_FATAL, HANDLER_RETURN, HANDLER_USER };

struct cloudskin_errhandler {
    enum handler_kind kind;
    MPI_Comm_errhandler_function *function;
    /* Communicators and handles that hold it; the predefined handlers are not counted. */
    int holders;
};

struct cloudskin_group {
    int holders;
    int size;
    /* Of the calling process, or MPI_UNDEFINED. */
    int rank;
    /* World rank of each member; NULL in MPI_COMM_WORLD, where they are the same. */
    int *world;
};

struct cloudskin_comm {
    /* Point-to-point traffic; ctx + 1 is for collectives. */
    int ctx;
    int rank;
    int size;
    /* Collectives started so far. */
    uint32_t sequence;
    /* The user's handle and one per open request. */
    int holders;
    MPI_Group group;
    /* Rank in this communicator by world rank, MPI_UNDEFINED outside; NULL if they are the same. */
    int *local;
    MPI_Errhandler handler;
    char name[MPI_MAX_OBJECT_NAME];
};

/* What the reductions see in a datatype. */
enum kind {
    KIND_NONE,
    KIND_I8,
    KIND_I16,
    KIND_I32,
    KIND_I64,
    KIND_U8,
    KIND_U16,
    KIND_U32,
    KIND_U64,
    KIND_F32,
    KIND_F64,
    KIND_LONG_DOUBLE,
    KIND_BOOL,
    KIND_C32,
    KIND_C64,
    KIND_C_LONG_DOUBLE,
    KIND_BYTE,
    KIND_FLOAT_INT,
    KIND_DOUBLE_INT,
    KIND_LONG_INT,
    KIND_SHORT_INT,
    KIND_2INT,
    KIND_LONG_DOUBLE_INT
};

struct cloudskin_datatype {
    const char *name;
    enum kind kind;
    /* Bytes of data in an item, and the distance between two items. */
    uint32_t size;
    uint32_t extent;
    /* Bytes of the first part of a pair; 0 if the type is one element. */
    uint32_t first;
};

enum fold {
    FOLD_USER,
    FOLD_MAX,
    FOLD_MIN,
    FOLD_SUM,
    FOLD_PROD,
    FOLD_LAND,
    FOLD_LOR,
    FOLD_LXOR,
    FOLD_BAND,
    FOLD_BOR,
    FOLD_BXOR,
    FOLD_MINLOC,
    FOLD_MAXLOC,
    FOLD_REPLACE,
    FOLD_NO_OP
};

struct cloudskin_op {
    enum fold fold;
    bool commutes;
    MPI_User_function *function;
};

struct cloudskin_request {
    /* In the list of free objects or of those freed while active. */
    struct cloudskin_request *next;
    MPI_Comm comm;
    /* The host's number; meaningless once complete. */
    int host;
    bool receives;
    bool complete;
    MPI_Status status;
};

/* error.c */
int report(MPI_Comm comm, const char *function, int class);
void hold_handler(MPI_Errhandler handler);
void drop_handler(MPI_Errhandler handler);

/* world.c */
/* Ends the program if the library is not in use: before MPI_Init or after MPI_Finalize. */
void require_running(const char *function);
int check_comm(MPI_Comm comm, const char *function);

/* comm.c */
void hold_comm(MPI_Comm comm);
void drop_comm(MPI_Comm comm);
int start_comms(int rank, int size);
static inline int world_rank(MPI_Comm comm, int rank) {
    return comm->group->world ? comm->group->world[rank] : rank;
}
static inline int local_rank(MPI_Comm comm, int world) {
    return comm->local && world >= 0 ? comm->local[world] : world;
}

/* group.c */
MPI_Group new_group(int size);
/* Finds the caller's rank in a group whose members are filled in. */
void settle_group(MPI_Group group);
int group_world(MPI_Group group, int rank);
void hold_group(MPI_Group group);
void drop_group(MPI_Group group);

/* datatype.c */
/* The bytes that `count` items take. */
int message_bytes(const void *buf, int count, MPI_Datatype type, uint32_t *len);
/* Where item `index` lies, for the displacements of the -v collectives. */
static inline char *item(const void *buf, int64_t index, MPI_Datatype type) {
    return (char *)buf + index * (int64_t)type->extent;
}

/* op.c */
int check_op(MPI_Op op, MPI_Datatype type);
/* inout = in op inout, item by item: `in` is the operand of the lower rank. */
void fold_items(MPI_Op op, const void *in, void *inout, int count, MPI_Datatype type);

/* request.c */
MPI_Request new_request(MPI_Comm comm, bool receives);
/* A request that is complete from the start: MPI_PROC_NULL is its peer. */
void complete_empty(MPI_Request request);
void fill_status(MPI_Comm comm, const struct host_status *from, MPI_Status *to);
void empty_status(MPI_Status *status, int source);
/* Waits for the requests that the program freed while they were active. */
void finish_orphans(void);

/* collective.c: the messages of one collective operation. */
enum collective {
    COLL_BARRIER = 1,
    COLL_BCAST,
    COLL_REDUCE,
    COLL_ALLREDUCE,
    COLL_GATHER,
    COLL_SCATTER,
    COLL_ALLGATHER,
    COLL_ALLTOALL,
    COLL_SCAN,
    COLL_EXSCAN,
    COLL_REDUCE_SCATTER,
    COLL_MANAGE
};

/* Requests that are waited for together. It flushes itself when it is full. */
struct batch {
    MPI_Comm comm;
    int tag;
    int n;
    int error;
    int reqs[BATCH];
    struct host_status statuses[BATCH];
};

void batch_begin(struct batch *batch, MPI_Comm comm, enum collective op);
void batch_send(struct batch *batch, int dest, const void *buf, uint32_t len);
void batch_recv(struct batch *batch, int source, void *buf, uint32_t len);
/* Waits for all; the first error of the batch so far. */
int batch_finish(struct batch *batch);

/* The end of a public collective: tells the host, or reports the error. */
int finish_collective(MPI_Comm comm, const char *function, enum collective op, int class);

int bcast_bytes(struct batch *batch, void *buf, uint32_t len, int root);
int check_root(MPI_Comm comm, int root);

/* allgather.c */
/* One of the two sides of an exchange: where the block for or from each rank lies. */
struct side {
    void *buf;
    /* NULL: `count` items for every rank, one after the other, or all the same ones. */
    const int *counts;
    const int *displs;
    /* NULL: `type` for every rank; else displacements are in bytes. */
    const MPI_Datatype *types;
    int count;
    MPI_Datatype type;
    /* Every rank gets the same block. */
    bool shared;
};

/* Sends the blocks of `out` to all others and receives theirs into `in`; the own block is left to
 * the caller. */
int exchange_blocks(struct batch *batch, const struct side *out, const struct side *in);
/* Gathers `len` bytes of each rank at all, for the library's own use. `all` holds the caller's. */
int allgather_bytes(struct batch *batch, void *all, uint32_t len);

#endif
