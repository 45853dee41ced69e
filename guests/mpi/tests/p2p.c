/* p2p.c: blocking sends and receives, matching, probes, errors. Runs with any number of ranks. */
#include <string.h>

#include "check.h"

static void ring(void) {
    for (int len = 0; len <= 1 << 18; len = len ? len * 8 : 1) {
        int next = (rank + 1) % size, previous = (rank + size - 1) % size;
        unsigned char *out = room((size_t)len), *in = room((size_t)len);
        for (int i = 0; i < len; i++) out[i] = (unsigned char)(rank + i);
        MPI_Status status;
        MPI_Sendrecv(out, len, MPI_BYTE, next, len, in, len, MPI_BYTE, previous, len,
                     MPI_COMM_WORLD, &status);
        int count;
        MPI_Get_count(&status, MPI_BYTE, &count);
        CHECK(status.MPI_SOURCE == previous && status.MPI_TAG == len && count == len);
        for (int i = 0; i < len; i++) CHECK(in[i] == (unsigned char)(previous + i));
        MPI_Sendrecv_replace(out, len, MPI_BYTE, next, 1, previous, 1, MPI_COMM_WORLD, &status);
        CHECK(memcmp(in, out, (size_t)len) == 0);
        free(out);
        free(in);
    }
    passed("ring");
}

/* Messages of one sender with one tag stay in order; tags pick among them. */
static void order(void) {
    enum { N = 40 };
    if (rank == 0) {
        for (int dest = 1; dest < size; dest++) {
            int values[N];
            MPI_Request requests[N];
            for (int i = 0; i < N; i++) {
                values[i] = i;
                MPI_Isend(&values[i], 1, MPI_INT, dest, i % 2, MPI_COMM_WORLD, &requests[i]);
            }
            MPI_Waitall(N, requests, MPI_STATUSES_IGNORE);
        }
    } else {
        for (int tag = 1; tag >= 0; tag--) {
            for (int i = tag; i < N; i += 2) {
                int got;
                MPI_Recv(&got, 1, MPI_INT, 0, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                CHECK(got == i);
            }
        }
    }
    passed("order");
}

static void wildcards(void) {
    if (rank != 0) {
        int value = 1000 + rank;
        MPI_Ssend(&value, 1, MPI_INT, 0, rank, MPI_COMM_WORLD);
    } else {
        char *seen = room((size_t)size);
        memset(seen, 0, (size_t)size);
        for (int i = 1; i < size; i++) {
            MPI_Status status, probed;
            int value, count;
            MPI_Probe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &probed);
            MPI_Get_count(&probed, MPI_INT, &count);
            CHECK(count == 1 && probed.MPI_TAG == probed.MPI_SOURCE);
            MPI_Recv(&value, 1, MPI_INT, probed.MPI_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
            CHECK(status.MPI_SOURCE == probed.MPI_SOURCE && status.MPI_TAG == status.MPI_SOURCE);
            CHECK(value == 1000 + status.MPI_SOURCE && !seen[status.MPI_SOURCE]);
            seen[status.MPI_SOURCE] = 1;
        }
        free(seen);
    }
    passed("wildcards");
}

static void probes(void) {
    int flag;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, &status);
    CHECK(!flag);
    MPI_Barrier(MPI_COMM_WORLD);
    double out[7] = {0}, in[7];
    MPI_Request request;
    MPI_Isend(out, 7, MPI_DOUBLE, (rank + 1) % size, 9, MPI_COMM_WORLD, &request);
    do {
        MPI_Iprobe((rank + size - 1) % size, 9, MPI_COMM_WORLD, &flag, &status);
    } while (!flag);
    int count;
    MPI_Get_count(&status, MPI_DOUBLE, &count);
    CHECK(count == 7 && status.MPI_TAG == 9);
    MPI_Recv(in, 7, MPI_DOUBLE, MPI_ANY_SOURCE, 9, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    passed("probes");
}

static void nobody(void) {
    int value = 5;
    MPI_Status status;
    MPI_Send(&value, 1, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD);
    MPI_Recv(&value, 1, MPI_INT, MPI_PROC_NULL, 3, MPI_COMM_WORLD, &status);
    int count;
    MPI_Get_count(&status, MPI_INT, &count);
    CHECK(value == 5 && count == 0);
    CHECK(status.MPI_SOURCE == MPI_PROC_NULL && status.MPI_TAG == MPI_ANY_TAG);
    MPI_Sendrecv(&value, 1, MPI_INT, MPI_PROC_NULL, 0, &value, 1, MPI_INT, MPI_PROC_NULL, 0,
                 MPI_COMM_WORLD, &status);
    CHECK(status.MPI_SOURCE == MPI_PROC_NULL);
    passed("nobody");
}

static void self(void) {
    int out = 40 + rank, in = 0, n, me;
    MPI_Request request;
    MPI_Status status;
    MPI_Isend(&out, 1, MPI_INT, rank, 1, MPI_COMM_WORLD, &request);
    MPI_Recv(&in, 1, MPI_INT, rank, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(in == out);
    MPI_Comm_size(MPI_COMM_SELF, &n);
    MPI_Comm_rank(MPI_COMM_SELF, &me);
    CHECK(n == 1 && me == 0);
    MPI_Isend(&out, 1, MPI_INT, 0, 1, MPI_COMM_SELF, &request);
    MPI_Recv(&in, 1, MPI_INT, MPI_ANY_SOURCE, 1, MPI_COMM_SELF, &status);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(in == out && status.MPI_SOURCE == 0);
    passed("self");
}

static int class_of(int code) {
    int class;
    MPI_Error_class(code, &class);
    return class;
}

static void errors(void) {
    int value = 0, in[4] = {0, 0, 77, 77};
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    MPI_Errhandler handler;
    MPI_Comm_get_errhandler(comm, &handler);
    CHECK(handler == MPI_ERRORS_RETURN);
    CHECK(class_of(MPI_Send(&value, -1, MPI_INT, 0, 0, comm)) == MPI_ERR_COUNT);
    CHECK(class_of(MPI_Send(&value, 1, MPI_INT, size, 0, comm)) == MPI_ERR_RANK);
    CHECK(class_of(MPI_Send(&value, 1, MPI_INT, 0, -5, comm)) == MPI_ERR_TAG);
    CHECK(class_of(MPI_Send(&value, 1, MPI_DATATYPE_NULL, 0, 0, comm)) == MPI_ERR_TYPE);
    CHECK(class_of(MPI_Recv(&value, 1, MPI_INT, size, 0, comm, MPI_STATUS_IGNORE)) == MPI_ERR_RANK);
    CHECK(class_of(MPI_Bcast(&value, 1, MPI_INT, size, comm)) == MPI_ERR_ROOT);
    /* Too long: the receiver keeps what fits. */
    int out[4] = {1, 2, 3, 4};
    MPI_Request request;
    MPI_Isend(out, 4, MPI_INT, (rank + 1) % size, 2, comm, &request);
    CHECK(class_of(MPI_Recv(in, 2, MPI_INT, MPI_ANY_SOURCE, 2, comm, MPI_STATUS_IGNORE)) ==
          MPI_ERR_TRUNCATE);
    CHECK(in[2] == 77 && in[3] == 77);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    char text[MPI_MAX_ERROR_STRING];
    int len;
    MPI_Error_string(MPI_ERR_TRUNCATE, text, &len);
    CHECK(len > 0 && (size_t)len == strlen(text));
    MPI_Comm_free(&comm);
    CHECK(comm == MPI_COMM_NULL);
    passed("errors");
}

static int calls;

static void count_call(MPI_Comm *comm, int *code, ...) {
    calls += *comm != MPI_COMM_NULL && class_of(*code) == MPI_ERR_COUNT;
}

static void handlers(void) {
    MPI_Errhandler handler;
    MPI_Comm comm;
    MPI_Comm_create_errhandler(count_call, &handler);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, handler);
    MPI_Errhandler_free(&handler);
    CHECK(handler == MPI_ERRHANDLER_NULL);
    CHECK(class_of(MPI_Send(&calls, -1, MPI_INT, 0, 0, comm)) == MPI_ERR_COUNT);
    CHECK(calls == 1);
    MPI_Comm_call_errhandler(comm, MPI_ERR_COUNT);
    CHECK(calls == 2);
    MPI_Comm_free(&comm);
    passed("handlers");
}

static void environment(void) {
    int flag, version, subversion, len, *tag_ub;
    MPI_Initialized(&flag);
    CHECK(flag);
    MPI_Finalized(&flag);
    CHECK(!flag);
    MPI_Get_version(&version, &subversion);
    CHECK(version == 3 && subversion == 1);
    char name[MPI_MAX_PROCESSOR_NAME], library[MPI_MAX_LIBRARY_VERSION_STRING];
    MPI_Get_processor_name(name, &len);
    CHECK(len > 0 && (size_t)len == strlen(name));
    MPI_Get_library_version(library, &len);
    CHECK(len > 0 && strlen(library) <= (size_t)len);
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &tag_ub, &flag);
    CHECK(flag && *tag_ub >= 32767);
    double start = MPI_Wtime();
    CHECK(MPI_Wtime() >= start && MPI_Wtick() > 0 && MPI_Wtick() < 1);
    int *memory;
    MPI_Alloc_mem(400, MPI_INFO_NULL, &memory);
    memory[99] = 3;
    MPI_Free_mem(memory);
    passed("environment");
}

int main(int argc, char **argv) {
    begin(&argc, &argv);
    ring();
    order();
    wildcards();
    probes();
    nobody();
    self();
    errors();
    handlers();
    environment();
    MPI_Finalize();
    int flag;
    MPI_Finalized(&flag);
    return !flag;
}
