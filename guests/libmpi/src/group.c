/* group.c: ordered sets of processes. A group never changes once it is made, so that handles and
 * communicators share it. */
#include <stdlib.h>

#include "internal.h"

struct cloudskin_group cloudskin_group_empty = {1, 0, MPI_UNDEFINED, NULL};

MPI_Group new_group(int size) {
    if (size == 0) {
        hold_group(MPI_GROUP_EMPTY);
        return MPI_GROUP_EMPTY;
    }
    MPI_Group group = malloc(sizeof *group + (size_t)size * sizeof(int));
    if (!group) return MPI_GROUP_NULL;
    *group = (struct cloudskin_group){1, size, MPI_UNDEFINED, (int *)(group + 1)};
    return group;
}

int group_world(MPI_Group group, int rank) {
    return group->world ? group->world[rank] : rank;
}

/* Rank of a member given by its rank in the world. */
static int find(MPI_Group group, int world) {
    for (int i = 0; i < group->size; i++) {
        if (group_world(group, i) == world) return i;
    }
    return MPI_UNDEFINED;
}

void settle_group(MPI_Group group) {
    if (group->size > 0) group->rank = find(group, MPI_COMM_WORLD->rank);
}

void hold_group(MPI_Group group) {
    group->holders++;
}

void drop_group(MPI_Group group) {
    if (--group->holders == 0) free(group);
}

static int check_group(MPI_Group group, const void *result, const char *function) {
    require_running(function);
    if (group == MPI_GROUP_NULL) return MPI_ERR_GROUP;
    return result ? MPI_SUCCESS : MPI_ERR_ARG;
}

int MPI_Comm_group(MPI_Comm comm, MPI_Group *group) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !group) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    hold_group(comm->group);
    *group = comm->group;
    return MPI_SUCCESS;
}

int MPI_Group_free(MPI_Group *group) {
    int class = check_group(group ? *group : MPI_GROUP_NULL, group, __func__);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    drop_group(*group);
    *group = MPI_GROUP_NULL;
    return MPI_SUCCESS;
}

int MPI_Group_size(MPI_Group group, int *size) {
    int class = check_group(group, size, __func__);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *size = group->size;
    return MPI_SUCCESS;
}

int MPI_Group_rank(MPI_Group group, int *rank) {
    int class = check_group(group, rank, __func__);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *rank = group->rank;
    return MPI_SUCCESS;
}

int MPI_Group_compare(MPI_Group group1, MPI_Group group2, int *result) {
    int class = check_group(group1, group2 ? result : NULL, __func__);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *result = MPI_UNEQUAL;
    if (group1->size != group2->size) return MPI_SUCCESS;
    bool same_order = true;
    for (int i = 0; i < group1->size; i++) {
        int at = find(group2, group_world(group1, i));
        if (at == MPI_UNDEFINED) return MPI_SUCCESS;
        same_order = same_order && at == i;
    }
    *result = same_order ? MPI_IDENT : MPI_SIMILAR;
    return MPI_SUCCESS;
}

static int translate(MPI_Group from, int n, const int ranks[], MPI_Group to, int result[]) {
    if (to == MPI_GROUP_NULL) return MPI_ERR_GROUP;
    if (n < 0 || (n > 0 && !ranks)) return MPI_ERR_ARG;
    for (int i = 0; i < n; i++) {
        if (ranks[i] == MPI_PROC_NULL) {
            result[i] = MPI_PROC_NULL;
        } else if (ranks[i] < 0 || ranks[i] >= from->size) {
            return MPI_ERR_RANK;
        } else {
            result[i] = find(to, group_world(from, ranks[i]));
        }
    }
    return MPI_SUCCESS;
}

int MPI_Group_translate_ranks(MPI_Group group1, int n, const int ranks1[], MPI_Group group2,
                              int ranks2[]) {
    int class = check_group(group1, n > 0 ? ranks2 : &n, __func__);
    if (class == MPI_SUCCESS) class = translate(group1, n, ranks1, group2, ranks2);
    return report(MPI_COMM_NULL, __func__, class);
}

/* Takes the members of `group` that `take` names, in the order of the numbers in it: take[i] is the
 * place in the new group plus 1, or 0. */
static int select_members(MPI_Group group, const int take[], int n, MPI_Group *newgroup) {
    MPI_Group new = new_group(n);
    if (!new) return MPI_ERR_NO_MEM;
    for (int i = 0; i < group->size; i++) {
        if (take[i] > 0) new->world[take[i] - 1] = group_world(group, i);
    }
    settle_group(new);
    *newgroup = new;
    return MPI_SUCCESS;
}

/* Lists as ranges, so that one function serves the four constructors. */
static int take_ranges(MPI_Group group, int n, int ranges[][3], int take[], int *n_taken) {
    for (int i = 0; i < n; i++) {
        int first = ranges[i][0], last = ranges[i][1], stride = ranges[i][2];
        if (stride == 0) return MPI_ERR_ARG;
        for (int64_t r = first; stride > 0 ? r <= last : r >= last; r += stride) {
            if (r < 0 || r >= group->size || take[r] > 0) return MPI_ERR_RANK;
            take[r] = ++*n_taken;
        }
    }
    return MPI_SUCCESS;
}

/* Turns a selection into the members that it left out, in the group's order. */
static int complement(int size, int take[]) {
    int n = 0;
    for (int i = 0; i < size; i++) take[i] = take[i] ? 0 : ++n;
    return n;
}

static int from_ranges(MPI_Group group, int n, int ranges[][3], bool include, MPI_Group *newgroup) {
    if (n < 0 || (n > 0 && !ranges)) return MPI_ERR_ARG;
    int *take = calloc((size_t)group->size + 1, sizeof(int));
    if (!take) return MPI_ERR_NO_MEM;
    int n_taken = 0;
    int class = take_ranges(group, n, ranges, take, &n_taken);
    if (!include) n_taken = complement(group->size, take);
    if (class == MPI_SUCCESS) class = select_members(group, take, n_taken, newgroup);
    free(take);
    return class;
}

static int from_list(MPI_Group group, int n, const int ranks[], bool include, MPI_Group *newgroup) {
    if (n < 0 || n > group->size || (n > 0 && !ranks)) return MPI_ERR_ARG;
    int(*ranges)[3] = malloc((size_t)(n + 1) * sizeof *ranges);
    if (!ranges) return MPI_ERR_NO_MEM;
    for (int i = 0; i < n; i++) {
        ranges[i][0] = ranges[i][1] = ranks[i];
        ranges[i][2] = 1;
    }
    int class = from_ranges(group, n, ranges, include, newgroup);
    free(ranges);
    return class;
}

int MPI_Group_incl(MPI_Group group, int n, const int ranks[], MPI_Group *newgroup) {
    int class = check_group(group, newgroup, __func__);
    if (class == MPI_SUCCESS) class = from_list(group, n, ranks, true, newgroup);
    return report(MPI_COMM_NULL, __func__, class);
}

int MPI_Group_excl(MPI_Group group, int n, const int ranks[], MPI_Group *newgroup) {
    int class = check_group(group, newgroup, __func__);
    if (class == MPI_SUCCESS) class = from_list(group, n, ranks, false, newgroup);
    return report(MPI_COMM_NULL, __func__, class);
}

int MPI_Group_range_incl(MPI_Group group, int n, int ranges[][3], MPI_Group *newgroup) {
    int class = check_group(group, newgroup, __func__);
    if (class == MPI_SUCCESS) class = from_ranges(group, n, ranges, true, newgroup);
    return report(MPI_COMM_NULL, __func__, class);
}

int MPI_Group_range_excl(MPI_Group group, int n, int ranges[][3], MPI_Group *newgroup) {
    int class = check_group(group, newgroup, __func__);
    if (class == MPI_SUCCESS) class = from_ranges(group, n, ranges, false, newgroup);
    return report(MPI_COMM_NULL, __func__, class);
}

/* The members of group1 that are in group2 (`common`) or are not. */
static int filter(MPI_Group group1, MPI_Group group2, bool common, MPI_Group *newgroup) {
    if (group2 == MPI_GROUP_NULL) return MPI_ERR_GROUP;
    int *take = calloc((size_t)group1->size + 1, sizeof(int));
    if (!take) return MPI_ERR_NO_MEM;
    int n = 0;
    for (int i = 0; i < group1->size; i++) {
        bool in_both = find(group2, group_world(group1, i)) != MPI_UNDEFINED;
        if (in_both == common) take[i] = ++n;
    }
    int class = select_members(group1, take, n, newgroup);
    free(take);
    return class;
}

int MPI_Group_intersection(MPI_Group group1, MPI_Group group2, MPI_Group *newgroup) {
    int class = check_group(group1, newgroup, __func__);
    if (class == MPI_SUCCESS) class = filter(group1, group2, true, newgroup);
    return report(MPI_COMM_NULL, __func__, class);
}

int MPI_Group_difference(MPI_Group group1, MPI_Group group2, MPI_Group *newgroup) {
    int class = check_group(group1, newgroup, __func__);
    if (class == MPI_SUCCESS) class = filter(group1, group2, false, newgroup);
    return report(MPI_COMM_NULL, __func__, class);
}

static int unite(MPI_Group group1, MPI_Group group2, MPI_Group *newgroup) {
    if (group2 == MPI_GROUP_NULL) return MPI_ERR_GROUP;
    MPI_Group rest;
    TRY(filter(group2, group1, false, &rest));
    MPI_Group new = new_group(group1->size + rest->size);
    if (new) {
        for (int i = 0; i < new->size; i++) {
            new->world[i] = i < group1->size ? group_world(group1, i)
                                             : group_world(rest, i - group1->size);
        }
        settle_group(new);
        *newgroup = new;
    }
    drop_group(rest);
    return new ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

int MPI_Group_union(MPI_Group group1, MPI_Group group2, MPI_Group *newgroup) {
    int class = check_group(group1, newgroup, __func__);
    if (class == MPI_SUCCESS) class = unite(group1, group2, newgroup);
    return report(MPI_COMM_NULL, __func__, class);
}
