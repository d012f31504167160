/*
 * struct policies: what evidence and release are judged by, as one whole: attestation/NAME.yaml,
 * release/NAME.yaml, and which TPMs are trusted (ek_roots, ek_pinned). Read together, all or nothing;
 * never changed afterwards.
 *
 * Ownership: reference-counted; references are taken and dropped on the loop's thread. Threading:
 * lookups on any thread. Limits: POLICY_FILES_MAX, PB_YAML_MAX a file.
 */
#pragma once

#include "attest/ek.h"
#include "attest/identity.h"
#include "attest/policy.h"

constexpr size_t POLICY_FILES_MAX = 1024; /* in each folder: a mounted folder gone wrong */

struct policies;

struct policies_source {
    const char *folder;        /* holds attestation/ and release/; either may be absent */
    const char *ek_roots;      /* PEM file; null: none */
    const char *const *pinned; /* hex SHA-256 of EK keys */
    size_t pinned_count;
};

/* INVALID with FILE:LINE:COLUMN and the field for the first fault; files are read in the order of
 * their names, and those that don't end in .yaml or begin with a dot are left alone. */
[[nodiscard]] bool policies_load(const struct policies_source *source, struct policies **ret,
                                 struct error *err);
struct policies *policies_ref(struct policies *policies);
/* NULL is fine; returns NULL. */
struct policies *policies_unref(struct policies *policies);
DEFINE_CLEANUP(policies_unref, struct policies)

/* How many there are, for the log. */
size_t policies_attestation_count(const struct policies *policies);
size_t policies_release_count(const struct policies *policies);

/* Null if there is none of that name, or for a null name. Borrowed. */
const struct attest_policy *policies_attestation(const struct policies *policies, const char *name);
/* Whether a release policy lets this node speak for that workload. False where none says so, and for
 * what is no workload's ID. */
[[nodiscard]] bool policies_may_vouch(const struct policies *policies, const char *agent_id,
                                      const char *spiffe_id);

/* Null without ek_roots. */
const struct ek_roots *policies_ek_roots(const struct policies *policies);
const uint8_t (*policies_ek_pins(const struct policies *policies, size_t *ret_count))[SHA256_SIZE];
