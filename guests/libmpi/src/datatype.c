/* datatype.c: the predefined datatypes. */
#include <complex.h>
#include <string.h>
#include <wchar.h>

#include "internal.h"

#define SIGNED(type)                                                                               \
    (sizeof(type) == 1   ? KIND_I8                                                                 \
     : sizeof(type) == 2 ? KIND_I16                                                                \
     : sizeof(type) == 4 ? KIND_I32                                                                \
                         : KIND_I64)
#define UNSIGNED(type) (SIGNED(type) - KIND_I8 + KIND_U8)

#define BASIC(handle, mpi_name, type, kind)                                                        \
    struct cloudskin_datatype cloudskin_##handle = {mpi_name, kind, sizeof(type), sizeof(type), 0}
#define PAIR(handle, mpi_name, first_type, kind)                                                   \
    struct cloudskin_##handle##_layout {                                                           \
        first_type value;                                                                          \
        int index;                                                                                 \
    };                                                                                             \
    struct cloudskin_datatype cloudskin_##handle = {                                               \
        mpi_name, kind, sizeof(first_type) + sizeof(int),                                          \
        sizeof(struct cloudskin_##handle##_layout), sizeof(first_type)}

/* Characters are not numbers to the standard, yet programs reduce them; they do so as C does. */
BASIC(char, "MPI_CHAR", char, (char)-1 < 0 ? KIND_I8 : KIND_U8);
BASIC(signed_char, "MPI_SIGNED_CHAR", signed char, KIND_I8);
BASIC(unsigned_char, "MPI_UNSIGNED_CHAR", unsigned char, KIND_U8);
BASIC(wchar, "MPI_WCHAR", wchar_t, KIND_NONE);
BASIC(short, "MPI_SHORT", short, SIGNED(short));
BASIC(unsigned_short, "MPI_UNSIGNED_SHORT", unsigned short, UNSIGNED(unsigned short));
BASIC(int, "MPI_INT", int, SIGNED(int));
BASIC(unsigned, "MPI_UNSIGNED", unsigned, UNSIGNED(unsigned));
BASIC(long, "MPI_LONG", long, SIGNED(long));
BASIC(unsigned_long, "MPI_UNSIGNED_LONG", unsigned long, UNSIGNED(unsigned long));
BASIC(long_long, "MPI_LONG_LONG_INT", long long, SIGNED(long long));
BASIC(unsigned_long_long, "MPI_UNSIGNED_LONG_LONG", unsigned long long,
      UNSIGNED(unsigned long long));
BASIC(int8, "MPI_INT8_T", int8_t, KIND_I8);
BASIC(int16, "MPI_INT16_T", int16_t, KIND_I16);
BASIC(int32, "MPI_INT32_T", int32_t, KIND_I32);
BASIC(int64, "MPI_INT64_T", int64_t, KIND_I64);
BASIC(uint8, "MPI_UINT8_T", uint8_t, KIND_U8);
BASIC(uint16, "MPI_UINT16_T", uint16_t, KIND_U16);
BASIC(uint32, "MPI_UINT32_T", uint32_t, KIND_U32);
BASIC(uint64, "MPI_UINT64_T", uint64_t, KIND_U64);
BASIC(float, "MPI_FLOAT", float, KIND_F32);
BASIC(double, "MPI_DOUBLE", double, KIND_F64);
BASIC(long_double, "MPI_LONG_DOUBLE", long double, KIND_LONG_DOUBLE);
BASIC(bool, "MPI_C_BOOL", bool, KIND_BOOL);
BASIC(float_complex, "MPI_C_FLOAT_COMPLEX", float complex, KIND_C32);
BASIC(double_complex, "MPI_C_DOUBLE_COMPLEX", double complex, KIND_C64);
BASIC(long_double_complex, "MPI_C_LONG_DOUBLE_COMPLEX", long double complex, KIND_C_LONG_DOUBLE);
BASIC(byte, "MPI_BYTE", char, KIND_BYTE);
BASIC(packed, "MPI_PACKED", char, KIND_NONE);
BASIC(aint, "MPI_AINT", MPI_Aint, SIGNED(MPI_Aint));
BASIC(offset, "MPI_OFFSET", MPI_Offset, SIGNED(MPI_Offset));
BASIC(count, "MPI_COUNT", MPI_Count, SIGNED(MPI_Count));
PAIR(float_int, "MPI_FLOAT_INT", float, KIND_FLOAT_INT);
PAIR(double_int, "MPI_DOUBLE_INT", double, KIND_DOUBLE_INT);
PAIR(long_int, "MPI_LONG_INT", long, KIND_LONG_INT);
PAIR(short_int, "MPI_SHORT_INT", short, KIND_SHORT_INT);
PAIR(2int, "MPI_2INT", int, KIND_2INT);
PAIR(long_double_int, "MPI_LONG_DOUBLE_INT", long double, KIND_LONG_DOUBLE_INT);

int message_bytes(const void *buf, int count, MPI_Datatype type, uint32_t *len) {
    if (count < 0) return MPI_ERR_COUNT;
    if (type == MPI_DATATYPE_NULL) return MPI_ERR_TYPE;
    uint64_t bytes = (uint64_t)count * type->extent;
    if (bytes > UINT32_MAX) return MPI_ERR_COUNT;
    /* With basic datatypes nothing lies at MPI_BOTTOM. */
    if (bytes > 0 && (buf == NULL || buf == MPI_IN_PLACE)) return MPI_ERR_BUFFER;
    *len = (uint32_t)bytes;
    return MPI_SUCCESS;
}

static int check_type(MPI_Datatype type, const void *result) {
    if (type == MPI_DATATYPE_NULL) return MPI_ERR_TYPE;
    return result ? MPI_SUCCESS : MPI_ERR_ARG;
}

int MPI_Type_size(MPI_Datatype type, int *size) {
    int class = check_type(type, size);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *size = (int)type->size;
    return MPI_SUCCESS;
}

int MPI_Type_size_x(MPI_Datatype type, MPI_Count *size) {
    int class = check_type(type, size);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *size = type->size;
    return MPI_SUCCESS;
}

int MPI_Type_get_extent(MPI_Datatype type, MPI_Aint *lb, MPI_Aint *extent) {
    int class = check_type(type, lb && extent ? lb : NULL);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *lb = 0;
    *extent = (MPI_Aint)type->extent;
    return MPI_SUCCESS;
}

int MPI_Type_get_extent_x(MPI_Datatype type, MPI_Count *lb, MPI_Count *extent) {
    int class = check_type(type, lb && extent ? lb : NULL);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *lb = 0;
    *extent = type->extent;
    return MPI_SUCCESS;
}

int MPI_Type_get_name(MPI_Datatype type, char *type_name, int *resultlen) {
    int class = check_type(type, type_name && resultlen ? type_name : NULL);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    size_t len = strlen(type->name);
    memcpy(type_name, type->name, len + 1);
    *resultlen = (int)len;
    return MPI_SUCCESS;
}

/* Bytes of the complete items, or MPI_UNDEFINED if the last one is cut. */
int MPI_Get_count(const MPI_Status *status, MPI_Datatype datatype, int *count) {
    int class = check_type(datatype, status && count ? count : NULL);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    MPI_Count items = status->cloudskin_bytes / datatype->extent;
    bool whole = status->cloudskin_bytes % datatype->extent == 0;
    *count = whole && items <= INT32_MAX ? (int)items : MPI_UNDEFINED;
    return MPI_SUCCESS;
}

/* A pair has two elements; a message can end after the first. */
static MPI_Count elements(const MPI_Status *status, MPI_Datatype type) {
    MPI_Count items = status->cloudskin_bytes / type->extent;
    MPI_Count rest = status->cloudskin_bytes % type->extent;
    if (type->first == 0) return rest == 0 ? items : MPI_UNDEFINED;
    if (rest != 0 && rest != type->first) return MPI_UNDEFINED;
    return 2 * items + (rest != 0);
}

int MPI_Get_elements_x(const MPI_Status *status, MPI_Datatype datatype, MPI_Count *count) {
    int class = check_type(datatype, status && count ? count : NULL);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *count = elements(status, datatype);
    return MPI_SUCCESS;
}

int MPI_Get_elements(const MPI_Status *status, MPI_Datatype datatype, int *count) {
    int class = check_type(datatype, status && count ? count : NULL);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    MPI_Count n = elements(status, datatype);
    *count = n <= INT32_MAX ? (int)n : MPI_UNDEFINED;
    return MPI_SUCCESS;
}

static int set_elements(MPI_Status *status, MPI_Datatype type, MPI_Count count) {
    TRY(check_type(type, status));
    if (count < 0) return MPI_ERR_COUNT;
    MPI_Count items = type->first ? count / 2 : count;
    MPI_Count rest = type->first && count % 2 ? type->first : 0;
    status->cloudskin_bytes = items * type->extent + rest;
    return MPI_SUCCESS;
}

int MPI_Status_set_elements(MPI_Status *status, MPI_Datatype datatype, int count) {
    return report(MPI_COMM_NULL, __func__, set_elements(status, datatype, count));
}

int MPI_Status_set_elements_x(MPI_Status *status, MPI_Datatype datatype, MPI_Count count) {
    return report(MPI_COMM_NULL, __func__, set_elements(status, datatype, count));
}

int MPI_Get_address(const void *location, MPI_Aint *address) {
    *address = (MPI_Aint)location;
    return MPI_SUCCESS;
}

MPI_Aint MPI_Aint_add(MPI_Aint base, MPI_Aint disp) {
    return base + disp;
}

MPI_Aint MPI_Aint_diff(MPI_Aint addr1, MPI_Aint addr2) {
    return addr1 - addr2;
}
