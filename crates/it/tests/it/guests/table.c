/* Changes the table of its functions while it runs, which no snapshot has. */
#include <mpi.h>

static int (*volatile last)(int);

static int one(int x)
{
    return x + 1;
}

static int two(int x)
{
    return x + 2;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    last = argc > 1 ? one : two;
    __asm__ volatile(".tabletype __indirect_function_table, funcref\n"
                     "i32.const 1\ni32.const 1\ntable.get __indirect_function_table\n"
                     "table.set __indirect_function_table\n");
    for (int round = 0; round < 2000; round++)
        MPI_Barrier(MPI_COMM_WORLD);
    int sum = last(1);
    MPI_Finalize();
    return sum == 0;
}
