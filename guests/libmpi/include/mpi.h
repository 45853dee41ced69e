/* mpi.h: the C interface of MPI 3.1 for cells.
 *
 * Every function of the standard is declared. The library implements a part of them: a call to any
 * other compiles, and the link step of `cloudskin cc` names it. There are no empty bodies.
 *
 * Handles are pointers to opaque objects, so that the compiler catches swapped arguments. */
#ifndef CLOUDSKIN_MPI_H
#define CLOUDSKIN_MPI_H

#ifdef __cplusplus
extern "C" {
#endif

#define MPI_VERSION 3
#define MPI_SUBVERSION 1

/* Integers of the binding. On wasm32 an address and a long have 32 bits. */
typedef long MPI_Aint;
typedef long long MPI_Offset;
typedef long long MPI_Count;
typedef int MPI_Fint;

typedef struct cloudskin_comm *MPI_Comm;
typedef struct cloudskin_datatype *MPI_Datatype;
typedef struct cloudskin_errhandler *MPI_Errhandler;
typedef struct cloudskin_file *MPI_File;
typedef struct cloudskin_group *MPI_Group;
typedef struct cloudskin_info *MPI_Info;
typedef struct cloudskin_message *MPI_Message;
typedef struct cloudskin_op *MPI_Op;
typedef struct cloudskin_request *MPI_Request;
typedef struct cloudskin_win *MPI_Win;
typedef struct cloudskin_t_cvar *MPI_T_cvar_handle;
typedef struct cloudskin_t_enum *MPI_T_enum;
typedef struct cloudskin_t_pvar *MPI_T_pvar_handle;
typedef struct cloudskin_t_session *MPI_T_pvar_session;

typedef struct {
    int MPI_SOURCE;
    int MPI_TAG;
    int MPI_ERROR;
    int cloudskin_cancelled;
    MPI_Count cloudskin_bytes;
} MPI_Status;

typedef struct {
    MPI_Fint MPI_SOURCE;
    MPI_Fint MPI_TAG;
    MPI_Fint MPI_ERROR;
    MPI_Fint cloudskin_private[5];
} MPI_F08_status;

/* Null handles */
#define MPI_COMM_NULL ((MPI_Comm)0)
#define MPI_DATATYPE_NULL ((MPI_Datatype)0)
#define MPI_ERRHANDLER_NULL ((MPI_Errhandler)0)
#define MPI_FILE_NULL ((MPI_File)0)
#define MPI_GROUP_NULL ((MPI_Group)0)
#define MPI_INFO_NULL ((MPI_Info)0)
#define MPI_MESSAGE_NULL ((MPI_Message)0)
#define MPI_OP_NULL ((MPI_Op)0)
#define MPI_REQUEST_NULL ((MPI_Request)0)
#define MPI_WIN_NULL ((MPI_Win)0)
#define MPI_T_CVAR_HANDLE_NULL ((MPI_T_cvar_handle)0)
#define MPI_T_ENUM_NULL ((MPI_T_enum)0)
#define MPI_T_PVAR_HANDLE_NULL ((MPI_T_pvar_handle)0)
#define MPI_T_PVAR_SESSION_NULL ((MPI_T_pvar_session)0)

/* Predefined communicators, groups, infos and messages */
extern struct cloudskin_comm cloudskin_comm_world, cloudskin_comm_self;
extern struct cloudskin_group cloudskin_group_empty;
extern struct cloudskin_info cloudskin_info_env;
extern struct cloudskin_message cloudskin_message_no_proc;
#define MPI_COMM_WORLD (&cloudskin_comm_world)
#define MPI_COMM_SELF (&cloudskin_comm_self)
#define MPI_GROUP_EMPTY (&cloudskin_group_empty)
#define MPI_INFO_ENV (&cloudskin_info_env)
#define MPI_MESSAGE_NO_PROC (&cloudskin_message_no_proc)

/* Predefined error handlers */
extern struct cloudskin_errhandler cloudskin_errors_are_fatal, cloudskin_errors_return;
#define MPI_ERRORS_ARE_FATAL (&cloudskin_errors_are_fatal)
#define MPI_ERRORS_RETURN (&cloudskin_errors_return)

/* Predefined datatypes */
extern struct cloudskin_datatype cloudskin_char, cloudskin_signed_char, cloudskin_unsigned_char,
    cloudskin_wchar, cloudskin_short, cloudskin_unsigned_short, cloudskin_int, cloudskin_unsigned,
    cloudskin_long, cloudskin_unsigned_long, cloudskin_long_long, cloudskin_unsigned_long_long,
    cloudskin_int8, cloudskin_int16, cloudskin_int32, cloudskin_int64, cloudskin_uint8,
    cloudskin_uint16, cloudskin_uint32, cloudskin_uint64, cloudskin_float, cloudskin_double,
    cloudskin_long_double, cloudskin_bool, cloudskin_float_complex, cloudskin_double_complex,
    cloudskin_long_double_complex, cloudskin_byte, cloudskin_packed, cloudskin_aint,
    cloudskin_offset, cloudskin_count, cloudskin_float_int, cloudskin_double_int,
    cloudskin_long_int, cloudskin_short_int, cloudskin_2int, cloudskin_long_double_int;
#define MPI_CHAR (&cloudskin_char)
#define MPI_SIGNED_CHAR (&cloudskin_signed_char)
#define MPI_UNSIGNED_CHAR (&cloudskin_unsigned_char)
#define MPI_WCHAR (&cloudskin_wchar)
#define MPI_SHORT (&cloudskin_short)
#define MPI_UNSIGNED_SHORT (&cloudskin_unsigned_short)
#define MPI_INT (&cloudskin_int)
#define MPI_UNSIGNED (&cloudskin_unsigned)
#define MPI_LONG (&cloudskin_long)
#define MPI_UNSIGNED_LONG (&cloudskin_unsigned_long)
#define MPI_LONG_LONG_INT (&cloudskin_long_long)
#define MPI_LONG_LONG MPI_LONG_LONG_INT
#define MPI_UNSIGNED_LONG_LONG (&cloudskin_unsigned_long_long)
#define MPI_INT8_T (&cloudskin_int8)
#define MPI_INT16_T (&cloudskin_int16)
#define MPI_INT32_T (&cloudskin_int32)
#define MPI_INT64_T (&cloudskin_int64)
#define MPI_UINT8_T (&cloudskin_uint8)
#define MPI_UINT16_T (&cloudskin_uint16)
#define MPI_UINT32_T (&cloudskin_uint32)
#define MPI_UINT64_T (&cloudskin_uint64)
#define MPI_FLOAT (&cloudskin_float)
#define MPI_DOUBLE (&cloudskin_double)
#define MPI_LONG_DOUBLE (&cloudskin_long_double)
#define MPI_C_BOOL (&cloudskin_bool)
#define MPI_C_FLOAT_COMPLEX (&cloudskin_float_complex)
#define MPI_C_COMPLEX MPI_C_FLOAT_COMPLEX
#define MPI_C_DOUBLE_COMPLEX (&cloudskin_double_complex)
#define MPI_C_LONG_DOUBLE_COMPLEX (&cloudskin_long_double_complex)
#define MPI_BYTE (&cloudskin_byte)
#define MPI_PACKED (&cloudskin_packed)
#define MPI_AINT (&cloudskin_aint)
#define MPI_OFFSET (&cloudskin_offset)
#define MPI_COUNT (&cloudskin_count)
#define MPI_FLOAT_INT (&cloudskin_float_int)
#define MPI_DOUBLE_INT (&cloudskin_double_int)
#define MPI_LONG_INT (&cloudskin_long_int)
#define MPI_SHORT_INT (&cloudskin_short_int)
#define MPI_2INT (&cloudskin_2int)
#define MPI_LONG_DOUBLE_INT (&cloudskin_long_double_int)

/* Predefined reduction operations */
extern struct cloudskin_op cloudskin_max, cloudskin_min, cloudskin_sum, cloudskin_prod,
    cloudskin_land, cloudskin_band, cloudskin_lor, cloudskin_bor, cloudskin_lxor, cloudskin_bxor,
    cloudskin_minloc, cloudskin_maxloc, cloudskin_replace, cloudskin_no_op;
#define MPI_MAX (&cloudskin_max)
#define MPI_MIN (&cloudskin_min)
#define MPI_SUM (&cloudskin_sum)
#define MPI_PROD (&cloudskin_prod)
#define MPI_LAND (&cloudskin_land)
#define MPI_BAND (&cloudskin_band)
#define MPI_LOR (&cloudskin_lor)
#define MPI_BOR (&cloudskin_bor)
#define MPI_LXOR (&cloudskin_lxor)
#define MPI_BXOR (&cloudskin_bxor)
#define MPI_MINLOC (&cloudskin_minloc)
#define MPI_MAXLOC (&cloudskin_maxloc)
#define MPI_REPLACE (&cloudskin_replace)
#define MPI_NO_OP (&cloudskin_no_op)

/* Addresses with a meaning */
#define MPI_BOTTOM ((void *)0)
#define MPI_IN_PLACE ((void *)-1)
#define MPI_STATUS_IGNORE ((MPI_Status *)0)
#define MPI_STATUSES_IGNORE ((MPI_Status *)0)
#define MPI_ERRCODES_IGNORE ((int *)0)
#define MPI_ARGV_NULL ((char **)0)
#define MPI_ARGVS_NULL ((char ***)0)
#define MPI_UNWEIGHTED ((int *)-2)
#define MPI_WEIGHTS_EMPTY ((int *)-3)
#define MPI_F_STATUS_IGNORE ((MPI_Fint *)0)
#define MPI_F_STATUSES_IGNORE ((MPI_Fint *)0)

/* Ranks, tags and the undefined */
#define MPI_ANY_SOURCE (-1)
#define MPI_PROC_NULL (-2)
#define MPI_ROOT (-3)
#define MPI_ANY_TAG (-1)
#define MPI_UNDEFINED (-32766)
#define MPI_KEYVAL_INVALID 0
#define MPI_BSEND_OVERHEAD 64

/* Predefined attributes */
#define MPI_TAG_UB 1
#define MPI_HOST 2
#define MPI_IO 3
#define MPI_WTIME_IS_GLOBAL 4
#define MPI_UNIVERSE_SIZE 5
#define MPI_APPNUM 6
#define MPI_LASTUSEDCODE 7
#define MPI_WIN_BASE 8
#define MPI_WIN_SIZE 9
#define MPI_WIN_DISP_UNIT 10
#define MPI_WIN_CREATE_FLAVOR 11
#define MPI_WIN_MODEL 12

/* Sizes of buffers that the caller provides, with room for the terminator */
#define MPI_MAX_PROCESSOR_NAME 256
#define MPI_MAX_LIBRARY_VERSION_STRING 256
#define MPI_MAX_ERROR_STRING 256
#define MPI_MAX_DATAREP_STRING 128
#define MPI_MAX_INFO_KEY 256
#define MPI_MAX_INFO_VAL 1024
#define MPI_MAX_OBJECT_NAME 64
#define MPI_MAX_PORT_NAME 256

/* Results of comparisons, levels of thread support, topologies */
enum { MPI_IDENT, MPI_CONGRUENT, MPI_SIMILAR, MPI_UNEQUAL };
enum { MPI_THREAD_SINGLE, MPI_THREAD_FUNNELED, MPI_THREAD_SERIALIZED, MPI_THREAD_MULTIPLE };
enum { MPI_GRAPH = 1, MPI_CART, MPI_DIST_GRAPH };
enum { MPI_COMM_TYPE_SHARED = 1 };
enum { MPI_TYPECLASS_REAL = 1, MPI_TYPECLASS_INTEGER, MPI_TYPECLASS_COMPLEX };

/* Datatype constructors */
enum {
    MPI_COMBINER_NAMED = 1,
    MPI_COMBINER_DUP,
    MPI_COMBINER_CONTIGUOUS,
    MPI_COMBINER_VECTOR,
    MPI_COMBINER_HVECTOR,
    MPI_COMBINER_INDEXED,
    MPI_COMBINER_HINDEXED,
    MPI_COMBINER_INDEXED_BLOCK,
    MPI_COMBINER_HINDEXED_BLOCK,
    MPI_COMBINER_STRUCT,
    MPI_COMBINER_SUBARRAY,
    MPI_COMBINER_DARRAY,
    MPI_COMBINER_F90_REAL,
    MPI_COMBINER_F90_COMPLEX,
    MPI_COMBINER_F90_INTEGER,
    MPI_COMBINER_RESIZED
};
enum { MPI_ORDER_C = 1, MPI_ORDER_FORTRAN };
enum { MPI_DISTRIBUTE_NONE = 1, MPI_DISTRIBUTE_BLOCK, MPI_DISTRIBUTE_CYCLIC };
#define MPI_DISTRIBUTE_DFLT_DARG (-1)

/* One-sided communication */
enum { MPI_LOCK_EXCLUSIVE = 1, MPI_LOCK_SHARED };
enum {
    MPI_MODE_NOCHECK = 1,
    MPI_MODE_NOSTORE = 2,
    MPI_MODE_NOPUT = 4,
    MPI_MODE_NOPRECEDE = 8,
    MPI_MODE_NOSUCCEED = 16
};
enum {
    MPI_WIN_FLAVOR_CREATE = 1,
    MPI_WIN_FLAVOR_ALLOCATE,
    MPI_WIN_FLAVOR_DYNAMIC,
    MPI_WIN_FLAVOR_SHARED
};
enum { MPI_WIN_SEPARATE = 1, MPI_WIN_UNIFIED };

/* Files */
enum {
    MPI_MODE_CREATE = 1,
    MPI_MODE_RDONLY = 2,
    MPI_MODE_WRONLY = 4,
    MPI_MODE_RDWR = 8,
    MPI_MODE_DELETE_ON_CLOSE = 16,
    MPI_MODE_UNIQUE_OPEN = 32,
    MPI_MODE_EXCL = 64,
    MPI_MODE_APPEND = 128,
    MPI_MODE_SEQUENTIAL = 256
};
enum { MPI_SEEK_SET = 600, MPI_SEEK_CUR, MPI_SEEK_END };
#define MPI_DISPLACEMENT_CURRENT (-54278278LL)

/* Error classes, in the order of the standard's table. An error code is its class. */
enum {
    MPI_SUCCESS,
    MPI_ERR_BUFFER,
    MPI_ERR_COUNT,
    MPI_ERR_TYPE,
    MPI_ERR_TAG,
    MPI_ERR_COMM,
    MPI_ERR_RANK,
    MPI_ERR_REQUEST,
    MPI_ERR_ROOT,
    MPI_ERR_GROUP,
    MPI_ERR_OP,
    MPI_ERR_TOPOLOGY,
    MPI_ERR_DIMS,
    MPI_ERR_ARG,
    MPI_ERR_UNKNOWN,
    MPI_ERR_TRUNCATE,
    MPI_ERR_OTHER,
    MPI_ERR_INTERN,
    MPI_ERR_IN_STATUS,
    MPI_ERR_PENDING,
    MPI_ERR_KEYVAL,
    MPI_ERR_NO_MEM,
    MPI_ERR_BASE,
    MPI_ERR_INFO_KEY,
    MPI_ERR_INFO_VALUE,
    MPI_ERR_INFO_NOKEY,
    MPI_ERR_SPAWN,
    MPI_ERR_PORT,
    MPI_ERR_SERVICE,
    MPI_ERR_NAME,
    MPI_ERR_WIN,
    MPI_ERR_SIZE,
    MPI_ERR_DISP,
    MPI_ERR_INFO,
    MPI_ERR_LOCKTYPE,
    MPI_ERR_ASSERT,
    MPI_ERR_RMA_CONFLICT,
    MPI_ERR_RMA_SYNC,
    MPI_ERR_RMA_RANGE,
    MPI_ERR_RMA_ATTACH,
    MPI_ERR_RMA_SHARED,
    MPI_ERR_RMA_FLAVOR,
    MPI_ERR_FILE,
    MPI_ERR_NOT_SAME,
    MPI_ERR_AMODE,
    MPI_ERR_UNSUPPORTED_DATAREP,
    MPI_ERR_UNSUPPORTED_OPERATION,
    MPI_ERR_NO_SUCH_FILE,
    MPI_ERR_FILE_EXISTS,
    MPI_ERR_BAD_FILE,
    MPI_ERR_ACCESS,
    MPI_ERR_NO_SPACE,
    MPI_ERR_QUOTA,
    MPI_ERR_READ_ONLY,
    MPI_ERR_FILE_IN_USE,
    MPI_ERR_DUP_DATAREP,
    MPI_ERR_CONVERSION,
    MPI_ERR_IO,
    MPI_ERR_LASTCODE = 1024
};

/* The tools interface */
enum {
    MPI_T_VERBOSITY_USER_BASIC = 1,
    MPI_T_VERBOSITY_USER_DETAIL,
    MPI_T_VERBOSITY_USER_ALL,
    MPI_T_VERBOSITY_TUNER_BASIC,
    MPI_T_VERBOSITY_TUNER_DETAIL,
    MPI_T_VERBOSITY_TUNER_ALL,
    MPI_T_VERBOSITY_MPIDEV_BASIC,
    MPI_T_VERBOSITY_MPIDEV_DETAIL,
    MPI_T_VERBOSITY_MPIDEV_ALL
};
enum {
    MPI_T_BIND_NO_OBJECT,
    MPI_T_BIND_MPI_COMM,
    MPI_T_BIND_MPI_DATATYPE,
    MPI_T_BIND_MPI_ERRHANDLER,
    MPI_T_BIND_MPI_FILE,
    MPI_T_BIND_MPI_GROUP,
    MPI_T_BIND_MPI_OP,
    MPI_T_BIND_MPI_REQUEST,
    MPI_T_BIND_MPI_WIN,
    MPI_T_BIND_MPI_MESSAGE,
    MPI_T_BIND_MPI_INFO
};
enum {
    MPI_T_SCOPE_CONSTANT,
    MPI_T_SCOPE_READONLY,
    MPI_T_SCOPE_LOCAL,
    MPI_T_SCOPE_GROUP,
    MPI_T_SCOPE_GROUP_EQ,
    MPI_T_SCOPE_ALL,
    MPI_T_SCOPE_ALL_EQ
};
enum {
    MPI_T_PVAR_CLASS_STATE,
    MPI_T_PVAR_CLASS_LEVEL,
    MPI_T_PVAR_CLASS_SIZE,
    MPI_T_PVAR_CLASS_PERCENTAGE,
    MPI_T_PVAR_CLASS_HIGHWATERMARK,
    MPI_T_PVAR_CLASS_LOWWATERMARK,
    MPI_T_PVAR_CLASS_COUNTER,
    MPI_T_PVAR_CLASS_AGGREGATE,
    MPI_T_PVAR_CLASS_TIMER,
    MPI_T_PVAR_CLASS_GENERIC
};
#define MPI_T_PVAR_ALL_HANDLES ((MPI_T_pvar_handle)-1)
enum {
    MPI_T_ERR_CANNOT_INIT = MPI_ERR_IO + 1,
    MPI_T_ERR_NOT_INITIALIZED,
    MPI_T_ERR_MEMORY,
    MPI_T_ERR_INVALID,
    MPI_T_ERR_INVALID_INDEX,
    MPI_T_ERR_INVALID_ITEM,
    MPI_T_ERR_INVALID_SESSION,
    MPI_T_ERR_INVALID_HANDLE,
    MPI_T_ERR_INVALID_NAME,
    MPI_T_ERR_OUT_OF_HANDLES,
    MPI_T_ERR_OUT_OF_SESSIONS,
    MPI_T_ERR_CVAR_SET_NOT_NOW,
    MPI_T_ERR_CVAR_SET_NEVER,
    MPI_T_ERR_PVAR_NO_WRITE,
    MPI_T_ERR_PVAR_NO_STARTSTOP,
    MPI_T_ERR_PVAR_NO_ATOMIC
};

#include "mpi_bindings.h"

#ifdef __cplusplus
}
#endif

#endif
