/* The lies: for each check of the table, evidence that is good but for this. */
#pragma once

#include "unit/attest/scene.h"

struct lie {
    const char *what;
    /* When it is told (scene.h); NULL: not then. */
    void (*before_hello)(struct scene *scene);
    void (*before_parts)(struct scene *scene);
    void (*before_signing)(struct scene *scene);
    void (*at_last)(struct scene *scene);
    uint64_t arg;
    Postern__V1__Verdict verdict; /* UNSPECIFIED: contraindicated */
    unsigned checks[6]; /* that catch it, in the table's order; more than one: they overlap */
    const char *says;   /* the first reason's detail contains it */
    bool forged;        /* it is not authentic */
};

extern const struct lie lies[];
extern const size_t lie_count;
