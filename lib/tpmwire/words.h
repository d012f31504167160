/*
 * Names for people: algorithms, permanent handles, and those response codes that Postern expects.
 * Static text; any thread.
 */
#pragma once

#include <tss2/tss2_tpm2_types.h>

/* "sha256", "ecdsa", "rsassa", "aes"; "unknown" otherwise. */
const char *tpm_alg_name(TPM2_ALG_ID alg);
/* "endorsement hierarchy", "owner hierarchy", "an NV index", "a persistent object" … */
const char *tpm_handle_name(TPM2_HANDLE handle);
/* What a TPM's response code means for the reader ("a PCR changed during the session"), whatever
 * handle, parameter or session number it carries; NULL for those that have no words here. */
const char *tpm_response_name(TPM2_RC code);
