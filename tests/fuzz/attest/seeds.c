/* attest-seeds FOLDER: the seeds of fuzz/attest, honest evidence by different keys. Their
 * certificates are valid for an hour, so NOW_MS of attest.c goes with them. */
#include "unit/attest/scene.h"

#include "base/file.h"
#include "base/mem.h"
#include "tpmwire/template.h"

static struct softtpm tpm;

static void plain(struct scene *scene)
{
    (void)scene;
}

static void by_rsa(struct scene *scene)
{
    template_fill(TEMPLATE_AK_RSA_2048, &scene->ak);
    softtpm_area_key(&scene->ak, tpm.rsa);
    scene->ak_key = tpm.rsa;
    template_fill(TEMPLATE_WRAP_RSA_2048, &scene->wrap);
    softtpm_area_key(&scene->wrap, tpm.rsa);
}

static void rsa_ek(struct scene *scene)
{
    template_fill(TEMPLATE_EK_L1_RSA_2048, &scene->ek);
    softtpm_area_key(&scene->ek, tpm.rsa);
    scene->certificate_spec.key = tpm.rsa;
}

static void with_chain(struct scene *scene)
{
    scene->chain_count = 2;
}

static void write_seed(const char *folder, const char *name, void (*before_hello)(struct scene *))
{
    struct error err = {0};
    struct scene scene;
    char path[512];
    CLEANUP(buf_done) struct buf seed;
    buf_init(&seed, 64 * 1024);
    scene_open(&scene, &tpm);
    before_hello(&scene);
    scene_hello(&scene);
    scene_parts(&scene);
    scene_sign(&scene);
    scene_case(&scene);
    buf_put_prefixed(&seed, buf_slice(&scene.hello_bytes));
    buf_put_prefixed(&seed, buf_slice(&scene.evidence_bytes));
    cert_pem(scene.root.x509, &seed);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_ok(file_write_atomic(path, buf_slice(&seed), 0644, &err));
    scene_close(&scene);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    softtpm_make(&tpm);
    write_seed(argv[1], "plain", plain);
    write_seed(argv[1], "rsa", by_rsa);
    write_seed(argv[1], "rsa-ek", rsa_ek);
    write_seed(argv[1], "chain", with_chain);
    softtpm_done(&tpm);
    return 0;
}
