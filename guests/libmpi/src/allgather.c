/* allgather.c: collectives in which every rank sends to every other.
 *
 * Each rank posts a receive from one neighbour and a send to the other, at growing distance. A full
 * batch covers the same distances on every rank, so that all ranks wait for the same messages. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static int locate(const struct side *side, int rank, void **at, uint32_t *len) {
    int count = side->counts ? side->counts[rank] : side->count;
    MPI_Datatype type = side->types ? side->types[rank] : side->type;
    TRY(message_bytes(side->buf, count, type, len));
    int64_t first = side->shared ? 0 : side->displs ? side->displs[rank] : (int64_t)rank * count;
    *at = side->types ? (char *)side->buf + first : item(side->buf, first, type);
    return MPI_SUCCESS;
}

static int check_side(const struct side *side, int size) {
    void *at;
    uint32_t len;
    for (int rank = 0; rank < size; rank++) TRY(locate(side, rank, &at, &len));
    return MPI_SUCCESS;
}

int exchange_blocks(struct batch *batch, const struct side *out, const struct side *in) {
    int size = batch->comm->size, me = batch->comm->rank;
    for (int distance = 1; distance < size; distance++) {
        void *from, *to;
        uint32_t len, room;
        int source = (int)(((int64_t)me + size - distance) % size);
        int dest = (int)(((int64_t)me + distance) % size);
        TRY(locate(in, source, &to, &room));
        TRY(locate(out, dest, &from, &len));
        batch_recv(batch, source, to, room);
        batch_send(batch, dest, from, len);
    }
    return batch_finish(batch);
}

static int copy_own(const struct side *out, const struct side *in, int me) {
    void *from, *to;
    uint32_t len, room;
    TRY(locate(out, me, &from, &len));
    TRY(locate(in, me, &to, &room));
    if (len > room) return MPI_ERR_TRUNCATE;
    if (len > 0) memmove(to, from, len);
    return MPI_SUCCESS;
}

int allgather_bytes(struct batch *batch, void *all, uint32_t len) {
    struct side in = {.buf = all, .count = (int)len, .type = MPI_BYTE};
    struct side out = {.buf = item(all, (int64_t)batch->comm->rank * len, MPI_BYTE),
                       .count = (int)len,
                       .type = MPI_BYTE,
                       .shared = true};
    return exchange_blocks(batch, &out, &in);
}

/* `out` is the caller's block for all; in place it lies in `in` already. */
static int allgather(struct side out, const struct side *in, MPI_Comm comm) {
    struct batch batch;
    bool in_place = out.buf == MPI_IN_PLACE;
    TRY(check_side(in, comm->size));
    if (in_place) {
        int count = in->counts ? in->counts[comm->rank] : in->count;
        void *at;
        uint32_t len;
        TRY(locate(in, comm->rank, &at, &len));
        out = (struct side){.buf = at, .count = count, .type = in->type, .shared = true};
    } else {
        TRY(check_side(&out, 1));
    }
    batch_begin(&batch, comm, COLL_ALLGATHER);
    if (!in_place) batch.error = copy_own(&out, in, comm->rank);
    return exchange_blocks(&batch, &out, in);
}

int MPI_Allgather(const void *sendbuf, int sendcount, MPI_Datatype sendtype, void *recvbuf,
                  int recvcount, MPI_Datatype recvtype, MPI_Comm comm) {
    struct side out = {
        .buf = (void *)sendbuf, .count = sendcount, .type = sendtype, .shared = true};
    struct side in = {.buf = recvbuf, .count = recvcount, .type = recvtype};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = allgather(out, &in, comm);
    return finish_collective(comm, __func__, COLL_ALLGATHER, class);
}

int MPI_Allgatherv(const void *sendbuf, int sendcount, MPI_Datatype sendtype, void *recvbuf,
                   const int recvcounts[], const int displs[], MPI_Datatype recvtype,
                   MPI_Comm comm) {
    struct side out = {
        .buf = (void *)sendbuf, .count = sendcount, .type = sendtype, .shared = true};
    struct side in = {.buf = recvbuf, .counts = recvcounts, .displs = displs, .type = recvtype};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && (!recvcounts || !displs)) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = allgather(out, &in, comm);
    return finish_collective(comm, __func__, COLL_ALLGATHER, class);
}

/* In place, the blocks to send are those that the received ones overwrite. They go out from a copy:
 * pairwise swaps would need one too, and wait for each other. */
static int alltoall_in_place(struct batch *batch, const struct side *in) {
    int size = batch->comm->size;
    uint64_t total = 0;
    for (int rank = 0; rank < size; rank++) {
        void *at;
        uint32_t len;
        TRY(locate(in, rank, &at, &len));
        total += len;
    }
    /* A copy of more than 2 GiB has no room beside its original. */
    if (total > INT32_MAX) return MPI_ERR_NO_MEM;
    char *copy = malloc((size_t)total + 1);
    int *offsets = malloc(2 * (size_t)size * sizeof(int));
    if (!copy || !offsets) {
        free(copy);
        free(offsets);
        return MPI_ERR_NO_MEM;
    }
    struct side out = {.buf = copy, .counts = offsets, .displs = offsets + size, .type = MPI_BYTE};
    int offset = 0;
    int class = MPI_SUCCESS;
    for (int rank = 0; rank < size && class == MPI_SUCCESS; rank++) {
        void *at;
        uint32_t len;
        class = locate(in, rank, &at, &len);
        if (class == MPI_SUCCESS && len > 0) memcpy(copy + offset, at, len);
        offsets[rank] = (int)len;
        offsets[size + rank] = offset;
        offset += (int)len;
    }
    if (class == MPI_SUCCESS) class = exchange_blocks(batch, &out, in);
    free(copy);
    free(offsets);
    return class;
}

static int alltoall(const struct side *out, const struct side *in, MPI_Comm comm) {
    struct batch batch;
    bool in_place = out->buf == MPI_IN_PLACE;
    TRY(check_side(in, comm->size));
    if (!in_place) TRY(check_side(out, comm->size));
    batch_begin(&batch, comm, COLL_ALLTOALL);
    if (in_place) return alltoall_in_place(&batch, in);
    batch.error = copy_own(out, in, comm->rank);
    return exchange_blocks(&batch, out, in);
}

int MPI_Alltoall(const void *sendbuf, int sendcount, MPI_Datatype sendtype, void *recvbuf,
                 int recvcount, MPI_Datatype recvtype, MPI_Comm comm) {
    struct side out = {.buf = (void *)sendbuf, .count = sendcount, .type = sendtype};
    struct side in = {.buf = recvbuf, .count = recvcount, .type = recvtype};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = alltoall(&out, &in, comm);
    return finish_collective(comm, __func__, COLL_ALLTOALL, class);
}

int MPI_Alltoallv(const void *sendbuf, const int sendcounts[], const int sdispls[],
                  MPI_Datatype sendtype, void *recvbuf, const int recvcounts[],
                  const int rdispls[], MPI_Datatype recvtype, MPI_Comm comm) {
    struct side out = {
        .buf = (void *)sendbuf, .counts = sendcounts, .displs = sdispls, .type = sendtype};
    struct side in = {.buf = recvbuf, .counts = recvcounts, .displs = rdispls, .type = recvtype};
    bool given = recvcounts && rdispls && (sendbuf == MPI_IN_PLACE || (sendcounts && sdispls));
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !given) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = alltoall(&out, &in, comm);
    return finish_collective(comm, __func__, COLL_ALLTOALL, class);
}

int MPI_Alltoallw(const void *sendbuf, const int sendcounts[], const int sdispls[],
                  const MPI_Datatype sendtypes[], void *recvbuf, const int recvcounts[],
                  const int rdispls[], const MPI_Datatype recvtypes[], MPI_Comm comm) {
    struct side out = {
        .buf = (void *)sendbuf, .counts = sendcounts, .displs = sdispls, .types = sendtypes};
    struct side in = {.buf = recvbuf, .counts = recvcounts, .displs = rdispls, .types = recvtypes};
    bool given = recvcounts && rdispls && recvtypes &&
                 (sendbuf == MPI_IN_PLACE || (sendcounts && sdispls && sendtypes));
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !given) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = alltoall(&out, &in, comm);
    return finish_collective(comm, __func__, COLL_ALLTOALL, class);
}
