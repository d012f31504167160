/*
 * swtpm on a Unix socket, as a TCTI that keeps one connection from beginning to end.
 *
 * tpm2-tss has a TCTI for it too, which connects anew for each command and reads without a timeout
 * (4.1): between two commands of a batch others could come in, with handles of theirs, and a TPM
 * that somebody holds would hold us too. swtpm serves one connection at a time, so keeping it is
 * what makes a batch whole. This one file therefore uses a socket outside lib/loop: lib/tpm blocks
 * by design, on a worker thread.
 * Private to lib/tpm.
 */
#pragma once

#include <tss2/tss2_tcti.h>

#include <stdint.h>

/* Connects. TSS2_TCTI_RC_NO_CONNECTION where nobody listens or too many wait, _MEMORY. Freed by
 * swtpm_close. */
[[nodiscard]] TSS2_RC swtpm_connect(const char *path, TSS2_TCTI_CONTEXT **ret);
/* Disconnects and frees; NULL is fine. */
void swtpm_close(TSS2_TCTI_CONTEXT *context);
