/*
 * One kind of collective on communicators of one rank, and nothing else, until there is a file /files/open.
 *
 *     alone KIND
 */
#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LEN = 3, ROUNDS = 100 };

static const int LENS[] = {LEN}, DISPLS[] = {0};
static const MPI_Datatype TYPES[] = {MPI_INT};

/* Does one collective; what comes out of it is what went in. */
static void collective(const char *kind, const int in[], int out[], MPI_Comm comm)
{
#define IS(name) (strcmp(kind, name) == 0)
    if (IS("barrier"))
        MPI_Barrier(comm);
    else if (IS("bcast"))
        MPI_Bcast(out, LEN, MPI_INT, 0, comm);
    else if (IS("reduce"))
        MPI_Reduce(in, out, LEN, MPI_INT, MPI_SUM, 0, comm);
    else if (IS("allreduce"))
        MPI_Allreduce(in, out, LEN, MPI_INT, MPI_MAX, comm);
    else if (IS("gather"))
        MPI_Gather(in, LEN, MPI_INT, out, LEN, MPI_INT, 0, comm);
    else if (IS("scatterv"))
        MPI_Scatterv(in, LENS, DISPLS, MPI_INT, out, LEN, MPI_INT, 0, comm);
    else if (IS("allgatherv"))
        MPI_Allgatherv(in, LEN, MPI_INT, out, LENS, DISPLS, MPI_INT, comm);
    else if (IS("alltoall"))
        MPI_Alltoall(in, LEN, MPI_INT, out, LEN, MPI_INT, comm);
    else if (IS("alltoallw"))
        MPI_Alltoallw(in, LENS, DISPLS, TYPES, out, LENS, DISPLS, TYPES, comm);
    else if (IS("scan"))
        MPI_Scan(in, out, LEN, MPI_INT, MPI_SUM, comm);
    else if (IS("exscan"))
        MPI_Exscan(in, out, LEN, MPI_INT, MPI_SUM, comm);
    else if (IS("reduce_scatter"))
        MPI_Reduce_scatter(in, out, LENS, MPI_INT, MPI_SUM, comm);
    else if (IS("dup")) {
        MPI_Comm copy;
        MPI_Comm_dup(comm, &copy);
        MPI_Comm_free(&copy);
    } else
        MPI_Abort(MPI_COMM_WORLD, 2);
}

static int changes(const char *kind)
{
    return !IS("barrier") && !IS("bcast") && !IS("exscan") && !IS("dup");
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    const char *kind = argc > 1 ? argv[1] : "";
    for (int n = 0; access("/files/open", F_OK) != 0; n++) {
        for (int round = 0; round < ROUNDS; round++) {
            int in[LEN] = {n, round, n ^ round}, out[LEN] = {-1, -1, -1};
            collective(kind, in, out, round % 2 ? MPI_COMM_SELF : MPI_COMM_WORLD);
            for (int i = 0; i < LEN; i++)
                if (out[i] != (changes(kind) ? in[i] : -1))
                    MPI_Abort(MPI_COMM_WORLD, 3);
        }
    }
    printf("%s did well\n", kind);
    MPI_Finalize();
    return 0;
}
