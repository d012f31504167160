/* Names for people. Static text; any thread. */
#pragma once

#include <tss2/tss2_tpm2_types.h>

/* "sha256", "ecdsa", "rsassa", "aes"; "unknown" otherwise. */
const char *tpm_alg_name(TPM2_ALG_ID alg);
