/* Computes for ever and never calls MPI again. */
#include <mpi.h>

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    for (volatile unsigned rounds = 0;; rounds++) {
    }
}
