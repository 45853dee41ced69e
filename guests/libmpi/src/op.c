/* op.c: reduction operations. The built-in ones are loops over one kind of data each. */
#include <complex.h>
#include <stdlib.h>

#include "internal.h"

#define BUILT_IN(handle, fold)                                                                     \
    struct cloudskin_op cloudskin_##handle = {fold, true, NULL}

BUILT_IN(max, FOLD_MAX);
BUILT_IN(min, FOLD_MIN);
BUILT_IN(sum, FOLD_SUM);
BUILT_IN(prod, FOLD_PROD);
BUILT_IN(land, FOLD_LAND);
BUILT_IN(band, FOLD_BAND);
BUILT_IN(lor, FOLD_LOR);
BUILT_IN(bor, FOLD_BOR);
BUILT_IN(lxor, FOLD_LXOR);
BUILT_IN(bxor, FOLD_BXOR);
BUILT_IN(minloc, FOLD_MINLOC);
BUILT_IN(maxloc, FOLD_MAXLOC);
struct cloudskin_op cloudskin_replace = {FOLD_REPLACE, false, NULL};
struct cloudskin_op cloudskin_no_op = {FOLD_NO_OP, false, NULL};

static bool is_integer(enum kind kind) {
    return kind >= KIND_I8 && kind <= KIND_U64;
}

static bool is_real(enum kind kind) {
    return kind >= KIND_F32 && kind <= KIND_LONG_DOUBLE;
}

static bool is_complex(enum kind kind) {
    return kind >= KIND_C32 && kind <= KIND_C_LONG_DOUBLE;
}

/* The standard's table of which operation takes which types. */
static bool takes(enum fold fold, enum kind kind) {
    switch (fold) {
    case FOLD_USER: return true;
    case FOLD_MAX:
    case FOLD_MIN: return is_integer(kind) || is_real(kind);
    case FOLD_SUM:
    case FOLD_PROD: return is_integer(kind) || is_real(kind) || is_complex(kind);
    case FOLD_LAND:
    case FOLD_LOR:
    case FOLD_LXOR: return is_integer(kind) || kind == KIND_BOOL;
    case FOLD_BAND:
    case FOLD_BOR:
    case FOLD_BXOR: return is_integer(kind) || kind == KIND_BYTE;
    case FOLD_MINLOC:
    case FOLD_MAXLOC: return kind >= KIND_FLOAT_INT;
    /* Only accumulations of one-sided communication take these two. */
    case FOLD_REPLACE:
    case FOLD_NO_OP: return false;
    }
    return false;
}

int check_op(MPI_Op op, MPI_Datatype type) {
    if (op == MPI_OP_NULL) return MPI_ERR_OP;
    if (type == MPI_DATATYPE_NULL) return MPI_ERR_TYPE;
    return takes(op->fold, type->kind) ? MPI_SUCCESS : MPI_ERR_OP;
}

/* a is the lower rank's operand, b the higher one's. */
#define LOOP(type, expression)                                                                     \
    do {                                                                                           \
        const type *restrict x = in;                                                               \
        type *restrict y = inout;                                                                  \
        for (size_t i = 0; i < n; i++) {                                                           \
            type a = x[i], b = y[i];                                                               \
            y[i] = (type)(expression);                                                             \
        }                                                                                          \
    } while (0)

/* Sums and products wrap; unsigned arithmetic does that for signed types, too. The 1u keeps 16-bit
 * products out of int, which could overflow. */
#define ARITHMETIC(name, expression, wide)                                                         \
    static void name(enum kind kind, const void *in, void *inout, size_t n) {                      \
        switch (kind) {                                                                            \
        case KIND_I8:                                                                              \
        case KIND_U8: LOOP(uint8_t, wide(expression)); break;                                      \
        case KIND_I16:                                                                             \
        case KIND_U16: LOOP(uint16_t, wide(expression)); break;                                    \
        case KIND_I32:                                                                             \
        case KIND_U32: LOOP(uint32_t, expression); break;                                          \
        case KIND_I64:                                                                             \
        case KIND_U64: LOOP(uint64_t, expression); break;                                          \
        case KIND_F32: LOOP(float, expression); break;                                             \
        case KIND_F64: LOOP(double, expression); break;                                            \
        case KIND_LONG_DOUBLE: LOOP(long double, expression); break;                               \
        case KIND_C32: LOOP(float complex, expression); break;                                     \
        case KIND_C64: LOOP(double complex, expression); break;                                    \
        case KIND_C_LONG_DOUBLE: LOOP(long double complex, expression); break;                     \
        default: break;                                                                            \
        }                                                                                          \
    }
#define WIDE(expression) 1u * expression
ARITHMETIC(fold_sum, a + b, )
ARITHMETIC(fold_prod, a *b, WIDE)

#define EXTREME(name, expression)                                                                  \
    static void name(enum kind kind, const void *in, void *inout, size_t n) {                      \
        switch (kind) {                                                                            \
        case KIND_I8: LOOP(int8_t, expression); break;                                             \
        case KIND_I16: LOOP(int16_t, expression); break;                                           \
        case KIND_I32: LOOP(int32_t, expression); break;                                           \
        case KIND_I64: LOOP(int64_t, expression); break;                                           \
        case KIND_U8: LOOP(uint8_t, expression); break;                                            \
        case KIND_U16: LOOP(uint16_t, expression); break;                                          \
        case KIND_U32: LOOP(uint32_t, expression); break;                                          \
        case KIND_U64: LOOP(uint64_t, expression); break;                                          \
        case KIND_F32: LOOP(float, expression); break;                                             \
        case KIND_F64: LOOP(double, expression); break;                                            \
        case KIND_LONG_DOUBLE: LOOP(long double, expression); break;                               \
        default: break;                                                                            \
        }                                                                                          \
    }
EXTREME(fold_max, a > b ? a : b)
EXTREME(fold_min, a < b ? a : b)

/* Rarely long: kept small instead of vectorised. */
#define LOGICAL(type)                                                                              \
    do {                                                                                           \
        const type *x = in;                                                                        \
        type *y = inout;                                                                           \
        _Pragma("clang loop vectorize(disable) unroll(disable)") for (size_t i = 0; i < n; i++) {  \
            bool a = x[i], b = y[i];                                                               \
            y[i] = fold == FOLD_LAND ? (a && b) : fold == FOLD_LOR ? (a || b) : (a != b);          \
        }                                                                                          \
    } while (0)

static void fold_logical(enum fold fold, size_t size, const void *in, void *inout, size_t n) {
    switch (size) {
    case 1: LOGICAL(uint8_t); break;
    case 2: LOGICAL(uint16_t); break;
    case 4: LOGICAL(uint32_t); break;
    case 8: LOGICAL(uint64_t); break;
    default: break;
    }
}

/* Bits do not care where an item ends. */
static void fold_bits(enum fold fold, const void *in, void *inout, size_t n) {
    switch (fold) {
    case FOLD_BAND: LOOP(uint8_t, a & b); break;
    case FOLD_BOR: LOOP(uint8_t, a | b); break;
    default: LOOP(uint8_t, a ^ b); break;
    }
}

/* Of equal values the one with the lower index wins. */
#define PAIRS(type)                                                                                \
    do {                                                                                           \
        struct pair {                                                                              \
            type value;                                                                            \
            int index;                                                                             \
        };                                                                                         \
        const struct pair *x = in;                                                                 \
        struct pair *y = inout;                                                                    \
        for (size_t i = 0; i < n; i++) {                                                           \
            bool better = fold == FOLD_MAXLOC ? x[i].value > y[i].value : x[i].value < y[i].value; \
            bool equal = x[i].value == y[i].value;                                                 \
            if (better || (equal && x[i].index < y[i].index)) y[i] = x[i];                         \
        }                                                                                          \
    } while (0)

static void fold_pairs(enum fold fold, enum kind kind, const void *in, void *inout, size_t n) {
    switch (kind) {
    case KIND_FLOAT_INT: PAIRS(float); break;
    case KIND_DOUBLE_INT: PAIRS(double); break;
    case KIND_LONG_INT: PAIRS(long); break;
    case KIND_SHORT_INT: PAIRS(short); break;
    case KIND_2INT: PAIRS(int); break;
    case KIND_LONG_DOUBLE_INT: PAIRS(long double); break;
    default: break;
    }
}

void fold_items(MPI_Op op, const void *in, void *inout, int count, MPI_Datatype type) {
    size_t n = (size_t)count;
    if (n == 0) return;
    switch (op->fold) {
    case FOLD_USER:
        /* The function may change neither; the standard just did not write const. */
        op->function((void *)in, inout, &count, &type);
        break;
    case FOLD_MAX: fold_max(type->kind, in, inout, n); break;
    case FOLD_MIN: fold_min(type->kind, in, inout, n); break;
    case FOLD_SUM: fold_sum(type->kind, in, inout, n); break;
    case FOLD_PROD: fold_prod(type->kind, in, inout, n); break;
    case FOLD_LAND:
    case FOLD_LOR:
    case FOLD_LXOR: fold_logical(op->fold, type->size, in, inout, n); break;
    case FOLD_BAND:
    case FOLD_BOR:
    case FOLD_BXOR: fold_bits(op->fold, in, inout, n * type->size); break;
    case FOLD_MINLOC:
    case FOLD_MAXLOC: fold_pairs(op->fold, type->kind, in, inout, n); break;
    case FOLD_REPLACE:
    case FOLD_NO_OP: break;
    }
}

int MPI_Op_create(MPI_User_function *function, int commute, MPI_Op *op) {
    require_running(__func__);
    if (!function || !op) return report(MPI_COMM_NULL, __func__, MPI_ERR_ARG);
    MPI_Op new = malloc(sizeof *new);
    if (!new) return report(MPI_COMM_NULL, __func__, MPI_ERR_NO_MEM);
    *new = (struct cloudskin_op){FOLD_USER, commute != 0, function};
    *op = new;
    return MPI_SUCCESS;
}

int MPI_Op_free(MPI_Op *op) {
    require_running(__func__);
    if (!op || !*op || (*op)->fold != FOLD_USER) {
        return report(MPI_COMM_NULL, __func__, MPI_ERR_OP);
    }
    /* No operation outlives the call that it was given to. */
    free(*op);
    *op = MPI_OP_NULL;
    return MPI_SUCCESS;
}

int MPI_Op_commutative(MPI_Op op, int *commute) {
    if (!op) return report(MPI_COMM_NULL, __func__, MPI_ERR_OP);
    *commute = op->commutes;
    return MPI_SUCCESS;
}

int MPI_Reduce_local(const void *inbuf, void *inoutbuf, int count, MPI_Datatype datatype,
                     MPI_Op op) {
    require_running(__func__);
    uint32_t len;
    int class = message_bytes(inbuf, count, datatype, &len);
    if (class == MPI_SUCCESS) class = message_bytes(inoutbuf, count, datatype, &len);
    if (class == MPI_SUCCESS) class = check_op(op, datatype);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    fold_items(op, inbuf, inoutbuf, count, datatype);
    return MPI_SUCCESS;
}
