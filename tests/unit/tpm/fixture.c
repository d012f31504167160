#include "unit/tpm/fixture.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t soon(void)
{
    return clock_boot_ms() + 60000;
}

void batch(struct fixture *f)
{
    struct error err = {0};
    assert_ok(tpm_begin(f->tpm, soon(), &err));
}

struct pcr_selection select_pcrs(const char *text)
{
    struct error err = {0};
    struct pcr_selection selection = {0};
    assert_ok(pcr_selection_parse(text, &selection, &err));
    return selection;
}

int shell(const char *line)
{
    return system(line); /* NOLINT(cert-env33-c): fixed lines of the tests, over paths they made */
}

int fixture_up(void **state)
{
    struct error err = {0};
    struct fixture *f = mem_new(1, sizeof *f);
    assert_non_null(f);
    char path[SWTPM_PATH_MAX];
    char tcti[SWTPM_PATH_MAX + 16];
    tpm_setup();
    (void)testlib_folder(f->folder);
    (void)snprintf(path, sizeof path, "%s/mux", f->folder);
    (void)snprintf(tcti, sizeof tcti, "swtpm:path=%s", path);
    assert_ok(swtpm_make(f->folder, &f->chip, &err));
    assert_ok(swtpm_start(&f->chip, &err));
    assert_ok(swtpm_extend_boot(&f->chip, &err));
    assert_ok(tpm_mux_new(path, f->chip.socket, 50, nullptr, &f->mux, &err));
    assert_ok(tpm_mux_start(f->mux, &err));
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = tcti}, &f->tpm, &err));
    assert_ok(secret_random(32, &f->auth, &err));
    f->counter = (struct tpm_counter){.index = COUNTER_INDEX, .auth = f->auth};
    batch(f);
    assert_ok(tpm_counter_make(f->tpm, &f->counter, &err));
    tpm_end(f->tpm);
    *state = f;
    return 0;
}

int fixture_down(void **state)
{
    struct fixture *f = *state;
    f->tpm = tpm_free(f->tpm);
    tpm_mux_join(f->mux);
    f->mux = tpm_mux_free(f->mux);
    swtpm_kill(&f->chip);
    f->auth = secret_free(f->auth);
    testlib_folder_remove(f->folder);
    mem_free(f);
    return 0;
}

int fixture_before(void **state)
{
    struct fixture *f = *state;
    tpm_mux_clear(f->mux);
    return 0;
}

int fixture_after(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct swtpm_loaded loaded = {0};
    tpm_mux_clear(f->mux);
    tpm_mux_watch(f->mux, (struct slice){0});
    tpm_end(f->tpm);
    assert_ok(swtpm_loaded(&f->chip, &loaded, &err));
    assert_int_equal(loaded.objects, 0);
    assert_int_equal(loaded.sessions, 0);
    return 0;
}

void other_up(const struct fixture *f, const char *name, struct swtpm *ret_chip,
              struct tpm **ret_tpm)
{
    struct error err = {0};
    char path[SWTPM_PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", f->folder, name);
    assert_ok(folder_make(path, 0700, &err));
    assert_ok(swtpm_make(path, ret_chip, &err));
    assert_ok(swtpm_start(ret_chip, &err));
    assert_ok(swtpm_extend_boot(ret_chip, &err));
    assert_ok(tpm_new(&(struct tpm_settings){.tcti = ret_chip->tcti}, ret_tpm, &err));
}

void other_down(struct swtpm *chip, struct tpm *tpm)
{
    (void)tpm_free(tpm);
    swtpm_kill(chip);
}
