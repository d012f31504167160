#include "table.h"

#include "base/text.h"

#include <stdio.h>

constexpr size_t TABLE_BYTES_MAX = 64 * 1024 * 1024; /* several times the largest answer */
constexpr size_t CELL_SIZE = 4096; /* a SPIFFE ID has 2048 bytes, escapes count up to four each */

static size_t characters(const char *text)
{
    size_t count = 0;
    uint32_t code;
    for (size_t n; (n = utf8_next(slice_str(text), &code)) > 0; text += n)
        count++;
    return count;
}

void table_init(struct table *table, const char *const *titles, size_t columns)
{
    *table = (struct table){.columns = columns};
    buf_init(&table->cells, TABLE_BYTES_MAX);
    table_row(table, titles);
}

void table_done(struct table *table)
{
    buf_done(&table->cells);
}

void table_row(struct table *table, const char *const *cells)
{
    for (size_t i = 0; i < table->columns; i++) {
        char shown[CELL_SIZE];
        size_t len = text_show(slice_str(cells[i]), shown, sizeof(shown));
        size_t width = characters(shown);
        if (width > table->widths[i])
            table->widths[i] = width;
        buf_put(&table->cells, slice(shown, len + 1));
    }
}

bool table_print(const struct table *table, struct error *err)
{
    if (!buf_ok(&table->cells, err))
        return error_prefix(err, "print a table");
    const char *cell = (const char *)table->cells.data;
    const char *end = cell + table->cells.len;
    for (size_t column = 0; cell < end; column = (column + 1) % table->columns) {
        bool last = column + 1 == table->columns;
        (void)fputs(cell, stdout);
        for (size_t n = characters(cell); !last && n < table->widths[column] + 2; n++)
            (void)fputc(' ', stdout);
        if (last)
            (void)fputc('\n', stdout);
        cell += strlen(cell) + 1;
    }
    return true;
}

void field_print(const char *name, const char *value)
{
    char shown[CELL_SIZE];
    (void)text_show(slice_str(value), shown, sizeof(shown));
    printf("%-20s %s\n", name, shown[0] ? shown : "-");
}
