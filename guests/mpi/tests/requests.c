/* requests.c: nonblocking operations and the ways to complete them. */
#include <string.h>

#include "check.h"

/* More than the library keeps on its stack. */
enum { MANY = 150 };

static void waitall(void) {
    int out[MANY], in[MANY];
    MPI_Request requests[2 * MANY];
    MPI_Status statuses[2 * MANY];
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    for (int i = 0; i < MANY; i++) {
        out[i] = rank * MANY + i;
        MPI_Irecv(&in[i], 1, MPI_INT, previous, i, MPI_COMM_WORLD, &requests[i]);
    }
    /* The other way round, so that tags do the matching. */
    for (int i = MANY - 1; i >= 0; i--) {
        MPI_Isend(&out[i], 1, MPI_INT, next, i, MPI_COMM_WORLD, &requests[MANY + i]);
    }
    CHECK(MPI_Waitall(2 * MANY, requests, statuses) == MPI_SUCCESS);
    for (int i = 0; i < MANY; i++) {
        CHECK(in[i] == previous * MANY + i);
        CHECK(statuses[i].MPI_SOURCE == previous && statuses[i].MPI_TAG == i);
        CHECK(requests[i] == MPI_REQUEST_NULL && requests[MANY + i] == MPI_REQUEST_NULL);
    }
    CHECK(MPI_Waitall(2 * MANY, requests, MPI_STATUSES_IGNORE) == MPI_SUCCESS);
    CHECK(MPI_Waitall(0, NULL, MPI_STATUSES_IGNORE) == MPI_SUCCESS);
    passed("waitall");
}

static void waitany(void) {
    int in[MANY], seen[MANY] = {0}, token = 1;
    MPI_Request requests[MANY], send;
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    for (int i = 0; i < MANY; i++) {
        in[i] = -1;
        MPI_Irecv(&in[i], 1, MPI_INT, previous, i, MPI_COMM_WORLD, &requests[i]);
    }
    for (int i = 0; i < MANY; i++) {
        int tag = (i * 7) % MANY;
        MPI_Issend(&token, 1, MPI_INT, next, tag, MPI_COMM_WORLD, &send);
        int index;
        MPI_Status status;
        MPI_Waitany(MANY, requests, &index, &status);
        CHECK(index >= 0 && index < MANY && !seen[index]);
        CHECK(in[index] == 1 && status.MPI_TAG == index && status.MPI_SOURCE == previous);
        CHECK(requests[index] == MPI_REQUEST_NULL);
        seen[index] = 1;
        MPI_Wait(&send, MPI_STATUS_IGNORE);
    }
    int index;
    MPI_Waitany(MANY, requests, &index, MPI_STATUS_IGNORE);
    CHECK(index == MPI_UNDEFINED);
    passed("waitany");
}

static void waitsome(void) {
    int in[MANY], indices[MANY], n_left = MANY, token = 1;
    MPI_Request requests[MANY], sends[MANY];
    MPI_Status statuses[MANY];
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    for (int i = 0; i < MANY; i++) {
        MPI_Irecv(&in[i], 1, MPI_INT, previous, i, MPI_COMM_WORLD, &requests[i]);
    }
    for (int i = 0; i < MANY; i++) {
        MPI_Isend(&token, 1, MPI_INT, next, i, MPI_COMM_WORLD, &sends[i]);
    }
    while (n_left > 0) {
        int n;
        MPI_Waitsome(MANY, requests, &n, indices, statuses);
        CHECK(n > 0 && n <= n_left);
        for (int i = 0; i < n; i++) {
            CHECK(requests[indices[i]] == MPI_REQUEST_NULL);
            CHECK(statuses[i].MPI_TAG == indices[i]);
        }
        n_left -= n;
    }
    int n;
    MPI_Waitsome(MANY, requests, &n, indices, statuses);
    CHECK(n == MPI_UNDEFINED);
    MPI_Waitall(MANY, sends, MPI_STATUSES_IGNORE);
    passed("waitsome");
}

static void tests(void) {
    int in[3] = {0}, out[3] = {10, 20, 30}, flag, index, n, indices[3];
    MPI_Request requests[3], sends[3];
    MPI_Status status, statuses[3];
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    for (int i = 0; i < 3; i++) {
        MPI_Irecv(&in[i], 1, MPI_INT, previous, i, MPI_COMM_WORLD, &requests[i]);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Test(&requests[0], &flag, &status);
    CHECK(!flag);
    MPI_Testall(3, requests, &flag, statuses);
    CHECK(!flag);
    MPI_Testany(3, requests, &index, &flag, &status);
    CHECK(!flag && index == MPI_UNDEFINED);
    MPI_Testsome(3, requests, &n, indices, statuses);
    CHECK(n == 0);
    /* Nobody sends before all have tested. */
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < 3; i++) {
        MPI_Isend(&out[i], 1, MPI_INT, next, i, MPI_COMM_WORLD, &sends[i]);
    }
    do MPI_Request_get_status(requests[1], &flag, &status);
    while (!flag);
    CHECK(requests[1] != MPI_REQUEST_NULL && status.MPI_TAG == 1);
    do MPI_Test(&requests[1], &flag, &status);
    while (!flag);
    CHECK(in[1] == 20 && status.MPI_TAG == 1 && requests[1] == MPI_REQUEST_NULL);
    do MPI_Testall(3, requests, &flag, statuses);
    while (!flag);
    CHECK(in[0] == 10 && in[2] == 30);
    CHECK(statuses[0].MPI_TAG == 0 && statuses[2].MPI_TAG == 2);
    MPI_Test(&requests[0], &flag, &status);
    CHECK(flag);
    MPI_Testany(3, requests, &index, &flag, &status);
    CHECK(flag && index == MPI_UNDEFINED);
    MPI_Waitall(3, sends, MPI_STATUSES_IGNORE);
    passed("tests");
}

static void nobody(void) {
    int value = 1, flag;
    MPI_Request request;
    MPI_Status status;
    MPI_Irecv(&value, 1, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD, &request);
    MPI_Test(&request, &flag, &status);
    CHECK(flag && status.MPI_SOURCE == MPI_PROC_NULL && value == 1);
    MPI_Isend(&value, 1, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(request == MPI_REQUEST_NULL);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    passed("nobody");
}

static void cancel(void) {
    int value, flag;
    MPI_Request request;
    MPI_Status status;
    MPI_Irecv(&value, 1, MPI_INT, MPI_ANY_SOURCE, 99, MPI_COMM_WORLD, &request);
    MPI_Cancel(&request);
    MPI_Wait(&request, &status);
    MPI_Test_cancelled(&status, &flag);
    CHECK(flag);
    /* Matched already: too late. */
    int out = 6;
    MPI_Request send;
    MPI_Irecv(&value, 1, MPI_INT, rank, 98, MPI_COMM_WORLD, &request);
    MPI_Isend(&out, 1, MPI_INT, rank, 98, MPI_COMM_WORLD, &send);
    MPI_Wait(&send, MPI_STATUS_IGNORE);
    MPI_Cancel(&request);
    MPI_Wait(&request, &status);
    MPI_Test_cancelled(&status, &flag);
    CHECK(!flag && value == 6);
    passed("cancel");
}

static void released(void) {
    enum { N = 100 };
    static int out[N];
    int in[N];
    for (int i = 0; i < N; i++) {
        out[i] = rank + i;
        MPI_Request request;
        MPI_Isend(&out[i], 1, MPI_INT, (rank + 1) % size, 7, MPI_COMM_WORLD, &request);
        MPI_Request_free(&request);
        CHECK(request == MPI_REQUEST_NULL);
    }
    for (int i = 0; i < N; i++) {
        MPI_Recv(&in[i], 1, MPI_INT, MPI_ANY_SOURCE, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK(in[i] == (rank + size - 1) % size + i);
    }
    passed("released");
}

static void errors(void) {
    int in[2] = {0}, out[4] = {1, 2, 3, 4}, class;
    MPI_Request requests[2], sends[2];
    MPI_Status statuses[2];
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    MPI_Irecv(&in[0], 1, MPI_INT, previous, 0, comm, &requests[0]);
    MPI_Irecv(&in[1], 1, MPI_INT, previous, 1, comm, &requests[1]);
    MPI_Isend(out, 1, MPI_INT, next, 0, comm, &sends[0]);
    MPI_Isend(out, 4, MPI_INT, next, 1, comm, &sends[1]);
    MPI_Error_class(MPI_Waitall(2, requests, statuses), &class);
    CHECK(class == MPI_ERR_IN_STATUS);
    CHECK(statuses[0].MPI_ERROR == MPI_SUCCESS && in[0] == 1 && in[1] == 1);
    MPI_Error_class(statuses[1].MPI_ERROR, &class);
    CHECK(class == MPI_ERR_TRUNCATE);
    MPI_Waitall(2, sends, MPI_STATUSES_IGNORE);
    MPI_Comm_free(&comm);
    passed("errors");
}

int main(int argc, char **argv) {
    begin(&argc, &argv);
    waitall();
    waitany();
    waitsome();
    tests();
    nobody();
    cancel();
    released();
    errors();
    MPI_Finalize();
    return 0;
}
