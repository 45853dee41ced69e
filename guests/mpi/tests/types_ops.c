/* types_ops.c: every predefined datatype with every operation that takes it.
 *
 * Open MPI 4.1 does not pass: when it compares, it takes MPI_UNSIGNED_LONG for signed and
 * MPI_OFFSET for unsigned. */
#include <complex.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>

#include "check.h"

/* Odd, so that loops over vectors have a rest. */
enum { LEN = 37 };

static void sizes(MPI_Datatype type, size_t expected, size_t extent_expected) {
    int bytes;
    MPI_Aint lb, extent;
    MPI_Type_size(type, &bytes);
    CHECK((size_t)bytes == expected);
    MPI_Type_get_extent(type, &lb, &extent);
    CHECK(lb == 0 && (size_t)extent == extent_expected);
}

/* Folds the operands of all ranks here, and has MPI do so. */
#define REDUCTION(type, mpi_type, mpi_op, value, expression)                                       \
    do {                                                                                           \
        type out[LEN], in[LEN], local[LEN];                                                        \
        for (int i = 0; i < LEN; i++) {                                                            \
            int r = rank;                                                                          \
            out[i] = (type)(value);                                                                \
            r = 0;                                                                                 \
            type sum = (type)(value);                                                              \
            for (r = 1; r < size; r++) {                                                           \
                type a = sum, b = (type)(value);                                                   \
                sum = (type)(expression);                                                          \
            }                                                                                      \
            local[i] = sum;                                                                        \
        }                                                                                          \
        memset(in, 0x5a, sizeof in);                                                               \
        MPI_Allreduce(out, in, LEN, mpi_type, mpi_op, MPI_COMM_WORLD);                             \
        for (int i = 0; i < LEN; i++) CHECK(in[i] == local[i]);                                    \
        for (int i = 0; i < LEN; i++) {                                                            \
            int r = rank;                                                                          \
            type a = (type)(value), b = local[i];                                                  \
            in[i] = (type)(expression);                                                            \
        }                                                                                          \
        MPI_Reduce_local(out, local, LEN, mpi_type, mpi_op);                                       \
        for (int i = 0; i < LEN; i++) CHECK(in[i] == local[i]);                                    \
    } while (0)

#define ORDERED(type, mpi_type, value)                                                             \
    REDUCTION(type, mpi_type, MPI_MAX, value, a > b ? a : b);                                      \
    REDUCTION(type, mpi_type, MPI_MIN, value, a < b ? a : b)
#define RING(type, mpi_type, value)                                                                \
    REDUCTION(type, mpi_type, MPI_SUM, value, a + b);                                              \
    REDUCTION(type, mpi_type, MPI_PROD, value, a *b)
#define LOGICAL(type, mpi_type)                                                                    \
    REDUCTION(type, mpi_type, MPI_LAND, (i + r) % 3, a && b);                                      \
    REDUCTION(type, mpi_type, MPI_LOR, (i + r) % 3 == 0, a || b);                                  \
    REDUCTION(type, mpi_type, MPI_LXOR, (i + r) % 3, !a != !b)
#define BITS(type, mpi_type)                                                                       \
    REDUCTION(type, mpi_type, MPI_BAND, ~((uint64_t)1 << ((i + r) % (8 * sizeof(type)))), a &b);   \
    REDUCTION(type, mpi_type, MPI_BOR, (uint64_t)1 << ((i + r) % (8 * sizeof(type))), a | b);      \
    REDUCTION(type, mpi_type, MPI_BXOR, (uint64_t)(i + 3) * (uint64_t)(r + 5), a ^ b)

#define INTEGER(type, mpi_type)                                                                    \
    do {                                                                                           \
        sizes(mpi_type, sizeof(type), sizeof(type));                                               \
        ORDERED(type, mpi_type, (int64_t)(i * 37 + r * 101) % 201 - 100);                          \
        RING(type, mpi_type, (i + r) % 3);                                                         \
        LOGICAL(type, mpi_type);                                                                   \
        BITS(type, mpi_type);                                                                      \
    } while (0)

/* Small whole numbers: exact in any order. */
#define REAL(type, mpi_type)                                                                       \
    do {                                                                                           \
        sizes(mpi_type, sizeof(type), sizeof(type));                                               \
        ORDERED(type, mpi_type, (i * 37 + r * 101) % 201 - 100.5);                                 \
        RING(type, mpi_type, (i + r) % 3 - 1);                                                     \
    } while (0)

#define COMPLEX(type, mpi_type)                                                                    \
    do {                                                                                           \
        sizes(mpi_type, sizeof(type), sizeof(type));                                               \
        RING(type, mpi_type, (i + r) % 3 - 1 + ((i * r) % 2) * I);                                 \
    } while (0)

#define PAIR(type, mpi_type)                                                                       \
    do {                                                                                           \
        struct pair {                                                                              \
            type value;                                                                            \
            int index;                                                                             \
        } out[LEN], in[LEN];                                                                       \
        sizes(mpi_type, sizeof(type) + sizeof(int), sizeof(struct pair));                          \
        for (int sign = -1; sign <= 1; sign += 2) {                                                \
            memset(out, 0, sizeof out);                                                            \
            for (int i = 0; i < LEN; i++) {                                                        \
                out[i].value = (type)((i * 7 + rank * 3) % 5 - 2);                                 \
                out[i].index = rank;                                                               \
            }                                                                                      \
            MPI_Allreduce(out, in, LEN, mpi_type, sign < 0 ? MPI_MINLOC : MPI_MAXLOC,              \
                          MPI_COMM_WORLD);                                                         \
            for (int i = 0; i < LEN; i++) {                                                        \
                int best = 0;                                                                      \
                for (int r = 1; r < size; r++) {                                                   \
                    int a = (i * 7 + r * 3) % 5, b = (i * 7 + best * 3) % 5;                       \
                    if (sign < 0 ? a < b : a > b) best = r;                                        \
                }                                                                                  \
                CHECK(in[i].index == best);                                                        \
                CHECK(in[i].value == (type)((i * 7 + best * 3) % 5 - 2));                          \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static void integers(void) {
    INTEGER(signed char, MPI_SIGNED_CHAR);
    INTEGER(unsigned char, MPI_UNSIGNED_CHAR);
    INTEGER(short, MPI_SHORT);
    INTEGER(unsigned short, MPI_UNSIGNED_SHORT);
    INTEGER(int, MPI_INT);
    INTEGER(unsigned, MPI_UNSIGNED);
    INTEGER(long, MPI_LONG);
    INTEGER(unsigned long, MPI_UNSIGNED_LONG);
    INTEGER(long long, MPI_LONG_LONG);
    INTEGER(long long, MPI_LONG_LONG_INT);
    INTEGER(unsigned long long, MPI_UNSIGNED_LONG_LONG);
    passed("integers");
    INTEGER(int8_t, MPI_INT8_T);
    INTEGER(int16_t, MPI_INT16_T);
    INTEGER(int32_t, MPI_INT32_T);
    INTEGER(int64_t, MPI_INT64_T);
    INTEGER(uint8_t, MPI_UINT8_T);
    INTEGER(uint16_t, MPI_UINT16_T);
    INTEGER(uint32_t, MPI_UINT32_T);
    INTEGER(uint64_t, MPI_UINT64_T);
    INTEGER(MPI_Aint, MPI_AINT);
    INTEGER(MPI_Offset, MPI_OFFSET);
    INTEGER(MPI_Count, MPI_COUNT);
    passed("integers of a width");
}

static void numbers(void) {
    REAL(float, MPI_FLOAT);
    REAL(double, MPI_DOUBLE);
    REAL(long double, MPI_LONG_DOUBLE);
    COMPLEX(float complex, MPI_C_COMPLEX);
    COMPLEX(float complex, MPI_C_FLOAT_COMPLEX);
    COMPLEX(double complex, MPI_C_DOUBLE_COMPLEX);
    COMPLEX(long double complex, MPI_C_LONG_DOUBLE_COMPLEX);
    passed("numbers");
    sizes(MPI_C_BOOL, sizeof(bool), sizeof(bool));
    LOGICAL(bool, MPI_C_BOOL);
    sizes(MPI_BYTE, 1, 1);
    BITS(unsigned char, MPI_BYTE);
    sizes(MPI_CHAR, 1, 1);
    sizes(MPI_WCHAR, sizeof(wchar_t), sizeof(wchar_t));
    sizes(MPI_PACKED, 1, 1);
    passed("bytes");
    PAIR(float, MPI_FLOAT_INT);
    PAIR(double, MPI_DOUBLE_INT);
    PAIR(long, MPI_LONG_INT);
    PAIR(short, MPI_SHORT_INT);
    PAIR(int, MPI_2INT);
    PAIR(long double, MPI_LONG_DOUBLE_INT);
    passed("pairs");
}

static void mismatches(void) {
    double x[2] = {1, 2}, y[2];
    int class;
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_SELF, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    MPI_Error_class(MPI_Allreduce(x, y, 2, MPI_DOUBLE, MPI_BAND, comm), &class);
    CHECK(class == MPI_ERR_OP);
    MPI_Error_class(MPI_Allreduce(x, y, 2, MPI_DOUBLE, MPI_OP_NULL, comm), &class);
    CHECK(class == MPI_ERR_OP);
    MPI_Comm_free(&comm);
    passed("mismatches");
}

static void counts(void) {
    MPI_Status status;
    struct {
        double value;
        int index;
    } pair[3];
    memset(pair, 0, sizeof pair);
    int n;
    MPI_Sendrecv(pair, 1, MPI_DOUBLE_INT, 0, 0, &pair[1], 2, MPI_DOUBLE_INT, 0, 0, MPI_COMM_SELF,
                 &status);
    MPI_Get_count(&status, MPI_DOUBLE_INT, &n);
    CHECK(n == 1);
    MPI_Status_set_elements(&status, MPI_INT, 12);
    MPI_Get_count(&status, MPI_INT, &n);
    CHECK(n == 12);
    MPI_Get_elements(&status, MPI_INT, &n);
    CHECK(n == 12);
    MPI_Status_set_cancelled(&status, 1);
    MPI_Test_cancelled(&status, &n);
    CHECK(n == 1);
    char name[MPI_MAX_OBJECT_NAME];
    MPI_Type_get_name(MPI_DOUBLE, name, &n);
    CHECK(strcmp(name, "MPI_DOUBLE") == 0 && n == 10);
    passed("counts");
}

int main(int argc, char **argv) {
    begin(&argc, &argv);
    integers();
    numbers();
    mismatches();
    counts();
    MPI_Finalize();
    return 0;
}
