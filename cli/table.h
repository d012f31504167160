/*
 * Lists for people: aligned columns with titles, foreign text made safe (base/text.h). The last
 * column is not padded. Threading: none.
 */
#pragma once

#include "base/buf.h"

constexpr size_t TABLE_COLUMNS_MAX = 8;

struct table {
    size_t columns;
    size_t widths[TABLE_COLUMNS_MAX]; /* characters */
    struct buf cells;                 /* texts in order, each with its NUL */
};

void table_init(struct table *table, const char *const *titles, size_t columns);
void table_done(struct table *table); /* for CLEANUP */
/* One text for each column; null is an empty cell. */
void table_row(struct table *table, const char *const *cells);
/* Prints all to standard output. EXHAUSTED without memory for it. */
[[nodiscard]] bool table_print(const struct table *table, struct error *err);

/* "name:  value" for the details of one thing; null or empty values are "-". */
void field_print(const char *name, const char *value);

#define TABLE_ROW(table, ...) table_row((table), (const char *const[]){__VA_ARGS__})
