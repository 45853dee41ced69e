/* comm.c: communicators, and the agreement on context numbers that makes them. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static struct cloudskin_group world_group = {1, 0, 0, NULL};
static int self_world_rank;
static struct cloudskin_group self_group = {1, 1, 0, &self_world_rank};

struct cloudskin_comm cloudskin_comm_world = {
    .ctx = 0,
    .holders = 1,
    .group = &world_group,
    .handler = &cloudskin_errors_are_fatal,
    .name = "MPI_COMM_WORLD",
};
struct cloudskin_comm cloudskin_comm_self = {
    .ctx = 2,
    .size = 1,
    .holders = 1,
    .group = &self_group,
    .handler = &cloudskin_errors_are_fatal,
    .name = "MPI_COMM_SELF",
};

/* The lowest context that this rank has not used yet. */
static int next_ctx = 4;

/* Rank by world rank for a group; MPI_UNDEFINED outside. */
static int *invert(MPI_Group group) {
    int n = MPI_COMM_WORLD->size;
    int *local = malloc((size_t)n * sizeof(int));
    if (!local) return NULL;
    for (int i = 0; i < n; i++) local[i] = MPI_UNDEFINED;
    for (int i = 0; i < group->size; i++) local[group_world(group, i)] = i;
    return local;
}

int start_comms(int rank, int size) {
    world_group.size = MPI_COMM_WORLD->size = size;
    world_group.rank = MPI_COMM_WORLD->rank = rank;
    self_world_rank = rank;
    MPI_COMM_SELF->local = invert(&self_group);
    return MPI_COMM_SELF->local ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

void hold_comm(MPI_Comm comm) {
    comm->holders++;
}

void drop_comm(MPI_Comm comm) {
    if (--comm->holders > 0) return;
    drop_group(comm->group);
    drop_handler(comm->handler);
    free(comm->local);
    free(comm);
}

static bool predefined(MPI_Comm comm) {
    return comm == MPI_COMM_WORLD || comm == MPI_COMM_SELF;
}

/* Makes a communicator; it takes over the caller's hold of `group`. */
static int new_comm(MPI_Comm parent, int ctx, MPI_Group group, MPI_Comm *newcomm) {
    MPI_Comm comm = malloc(sizeof *comm);
    int *local = invert(group);
    if (!comm || !local) {
        free(comm);
        free(local);
        drop_group(group);
        return MPI_ERR_NO_MEM;
    }
    *comm = (struct cloudskin_comm){
        .ctx = ctx,
        .rank = group->rank,
        .size = group->size,
        .holders = 1,
        .group = group,
        .local = local,
        .handler = parent->handler,
    };
    hold_handler(comm->handler);
    *newcomm = comm;
    return MPI_SUCCESS;
}

/* What a rank brings to the making of a communicator. */
struct proposal {
    int ctx;
    int color;
    int key;
    int rank;
};

/* By colour, then key, then rank in the parent: the order of the members. */
static int compare_proposals(const void *a, const void *b) {
    const struct proposal *x = a, *y = b;
    if (x->color != y->color) return x->color < y->color ? -1 : 1;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->rank < y->rank ? -1 : 1;
}

/* Exchanges the proposals and agrees on a context that none of the parent's ranks has used. Groups
 * of different colours share it: no process is in two of them. */
static int agree(MPI_Comm parent, int color, int key, struct proposal all[], int *ctx) {
    all[parent->rank] = (struct proposal){next_ctx, color, key, parent->rank};
    struct batch batch;
    batch_begin(&batch, parent, COLL_MANAGE);
    TRY(allgather_bytes(&batch, all, sizeof *all));
    *ctx = 0;
    for (int i = 0; i < parent->size; i++) {
        if (all[i].ctx > *ctx) *ctx = all[i].ctx;
    }
    if (*ctx > INT_MAX - 2) return MPI_ERR_INTERN;
    next_ctx = *ctx + 2;
    return MPI_SUCCESS;
}

/* Builds the group of one colour from sorted proposals. */
static MPI_Group colored_group(MPI_Comm parent, const struct proposal all[], int color) {
    int n = 0;
    for (int i = 0; i < parent->size; i++) n += all[i].color == color;
    MPI_Group group = new_group(n);
    if (!group) return MPI_GROUP_NULL;
    int at = 0;
    for (int i = 0; i < parent->size; i++) {
        if (all[i].color == color) group->world[at++] = world_rank(parent, all[i].rank);
    }
    settle_group(group);
    return group;
}

static int split(MPI_Comm parent, int color, int key, MPI_Comm *newcomm) {
    if (color < 0 && color != MPI_UNDEFINED) return MPI_ERR_ARG;
    *newcomm = MPI_COMM_NULL;
    struct proposal *all = malloc((size_t)parent->size * sizeof *all);
    if (!all) return MPI_ERR_NO_MEM;
    int ctx;
    int class = agree(parent, color, key, all, &ctx);
    if (class == MPI_SUCCESS && color != MPI_UNDEFINED) {
        qsort(all, (size_t)parent->size, sizeof *all, compare_proposals);
        MPI_Group group = colored_group(parent, all, color);
        class = group ? new_comm(parent, ctx, group, newcomm) : MPI_ERR_NO_MEM;
    }
    free(all);
    return class;
}

int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm *newcomm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !newcomm) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = split(comm, color, key, newcomm);
    return report(comm, __func__, class);
}

/* A communicator of the members of `group`, which is part of the parent's. */
static int create(MPI_Comm parent, MPI_Group group, MPI_Comm *newcomm) {
    if (group == MPI_GROUP_NULL) return MPI_ERR_GROUP;
    for (int i = 0; i < group->size; i++) {
        if (local_rank(parent, group_world(group, i)) == MPI_UNDEFINED) return MPI_ERR_GROUP;
    }
    *newcomm = MPI_COMM_NULL;
    struct proposal *all = malloc((size_t)parent->size * sizeof *all);
    if (!all) return MPI_ERR_NO_MEM;
    int ctx;
    int class = agree(parent, 0, 0, all, &ctx);
    free(all);
    if (class != MPI_SUCCESS || group->rank == MPI_UNDEFINED) return class;
    hold_group(group);
    return new_comm(parent, ctx, group, newcomm);
}

int MPI_Comm_create(MPI_Comm comm, MPI_Group group, MPI_Comm *newcomm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !newcomm) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = create(comm, group, newcomm);
    return report(comm, __func__, class);
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *newcomm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !newcomm) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = create(comm, comm->group, newcomm);
    return report(comm, __func__, class);
}

int MPI_Comm_free(MPI_Comm *comm) {
    int class = check_comm(comm ? *comm : MPI_COMM_NULL, __func__);
    if (class == MPI_SUCCESS && predefined(*comm)) class = MPI_ERR_COMM;
    if (class != MPI_SUCCESS) return report(comm ? *comm : MPI_COMM_NULL, __func__, class);
    drop_comm(*comm);
    *comm = MPI_COMM_NULL;
    return MPI_SUCCESS;
}

int MPI_Comm_rank(MPI_Comm comm, int *rank) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !rank) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    *rank = comm->rank;
    return MPI_SUCCESS;
}

int MPI_Comm_size(MPI_Comm comm, int *size) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !size) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    *size = comm->size;
    return MPI_SUCCESS;
}

int MPI_Comm_compare(MPI_Comm comm1, MPI_Comm comm2, int *result) {
    int class = check_comm(comm1, __func__);
    if (class == MPI_SUCCESS) class = check_comm(comm2, __func__);
    if (class == MPI_SUCCESS && !result) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm1, __func__, class);
    if (comm1 == comm2) {
        *result = MPI_IDENT;
        return MPI_SUCCESS;
    }
    MPI_Group_compare(comm1->group, comm2->group, result);
    /* The same members in the same order, but another context. */
    if (*result == MPI_IDENT) *result = MPI_CONGRUENT;
    return MPI_SUCCESS;
}

int MPI_Comm_test_inter(MPI_Comm comm, int *flag) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !flag) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    /* Every communicator that this library makes is an intracommunicator. */
    *flag = 0;
    return MPI_SUCCESS;
}

int MPI_Comm_set_name(MPI_Comm comm, const char *comm_name) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !comm_name) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    size_t len = strnlen(comm_name, MPI_MAX_OBJECT_NAME - 1);
    memcpy(comm->name, comm_name, len);
    comm->name[len] = '\0';
    return MPI_SUCCESS;
}

int MPI_Comm_get_name(MPI_Comm comm, char *comm_name, int *resultlen) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && (!comm_name || !resultlen)) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    *resultlen = (int)strlen(comm->name);
    memcpy(comm_name, comm->name, (size_t)*resultlen + 1);
    return MPI_SUCCESS;
}

/* The attributes that every communicator has; the value is the address of an int. */
static int *predefined_attribute(int keyval) {
    static int tag_ub = INT_MAX;
    static int host = MPI_PROC_NULL;
    /* Any rank can use the C library's files. */
    static int io = MPI_ANY_SOURCE;
    static int wtime_is_global = 0;
    static int last_used_code = MPI_ERR_LASTCODE;
    switch (keyval) {
    case MPI_TAG_UB: return &tag_ub;
    case MPI_HOST: return &host;
    case MPI_IO: return &io;
    case MPI_WTIME_IS_GLOBAL: return &wtime_is_global;
    case MPI_LASTUSEDCODE: return &last_used_code;
    case MPI_UNIVERSE_SIZE: return &MPI_COMM_WORLD->size;
    default: return NULL;
    }
}

static int get_attribute(int keyval, void *value, int *flag) {
    if (!value || !flag) return MPI_ERR_ARG;
    /* Programs cannot make keys: all that exist are the predefined ones. */
    if (keyval < MPI_TAG_UB || keyval > MPI_LASTUSEDCODE) return MPI_ERR_KEYVAL;
    int *attribute = predefined_attribute(keyval);
    *flag = attribute != NULL;
    if (attribute) *(void **)value = attribute;
    return MPI_SUCCESS;
}

int MPI_Comm_get_attr(MPI_Comm comm, int comm_keyval, void *attribute_val, int *flag) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = get_attribute(comm_keyval, attribute_val, flag);
    return report(comm, __func__, class);
}

int MPI_Attr_get(MPI_Comm comm, int keyval, void *attribute_val, int *flag) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = get_attribute(keyval, attribute_val, flag);
    return report(comm, __func__, class);
}
